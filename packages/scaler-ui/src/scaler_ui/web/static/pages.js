// One class per page. `node` is the page's element; `update(overview)` is called about once a second while the page is shown,
// `addressChanged()` when the address names another view of the same page.

import * as address from "./address.js";
import { cancelButton } from "./cancel.js";
import { Chart } from "./charts.js";
import { fetchJson, history } from "./data.js";
import { age, agentLink, card, chip, choice, clientLink, closeDetail, count, element, functionLink, link, meter, openDetail, searchField, size, Table, time, title, workerLink } from "./elements.js";
import { Errors } from "./errors.js";
import { bytes, clock, elapsed, integer, percent, plural, seconds, whole } from "./format.js";
import { Functions } from "./functions.js";
import { Graphs } from "./graphs.js";
import { Jobs } from "./jobs.js";
import { range, RangeChoice } from "./range.js";
import { Overview, SchedulerPage } from "./overview.js";
import { scalingEvents } from "./scaling-events.js";
import { Stream } from "./stream_page.js";
import { Tasks } from "./tasks.js";
import { Workers } from "./workers.js";
import { LogSource } from "./logs.js";
import { Objects } from "./objects.js";

class Clients {
  constructor() {
    this.range = new RangeChoice(() => this.again());
    this.use = new Table({ label: "Use", name: "use", id: (row) => row.id, sort: "core_seconds", descending: true, empty: "no client has used anything", columns: [
      { key: "name", label: "client", mark: (row) => `${row.name}/${row.connected}`, show: (row) => element("span", {}, clientLink(row.id, row.name), row.connected ? "" : " ", row.connected ? "" : chip("left")) },
      { key: "core_seconds", label: "core seconds", number: true, mark: (row) => `${row.core_seconds}/${row.share}`, show: (row) => meter(row.share, integer(Math.round(row.core_seconds))) }, { key: "share", label: "of all use", number: true, show: (row) => percent(100 * row.share) },
      { key: "busy_workers", label: "workers in use", number: true, show: (row) => integer(row.busy_workers) }, count("waiting", "waiting"), count("running", "assigned"), count("ended", "ended"),
      { key: "failed", label: "failed", number: true, mark: (row) => row.failed, show: (row) => (row.failed ? element("span", { class: "bad" }, integer(row.failed)) : "0") }, size("object_bytes", "objects held"),
    ] });
    this.useNote = element("p", { class: "note" });
    this.table = new Table({ label: "Clients", id: (row) => row.id, sort: "name", name: "sort", empty: "no client is connected", onOpen: (row) => this.open(row), under: (row) => this.under(row), columns: [
      { key: "name", label: "client", mark: (row) => `${row.name}/${row.nested_clients}`, show: (row) => element("span", {}, row.name, row.nested ? " " : "", row.nested ? chip("nested") : "") }, { key: "group", label: "group" }, { key: "user", label: "user" }, { key: "hostname", label: "host" }, { key: "pid", label: "pid", number: true, show: (row) => row.pid || "" },
      count("waiting", "waiting"), count("running", "assigned"), count("finished", "succeeded"), count("failed", "failed"), count("failed_items", "failed items"), count("graphs", "graphs"), count("object_count", "objects"), size("object_bytes", "bytes"),
      { key: "nested_clients", label: "clients inside its tasks", number: true, mark: (row) => `${row.nested_clients}/${this.unfolded.has(row.id)}`, show: (row) => this.fold(row) }, { key: "connected_seconds", label: "connected for", number: true, show: (row) => elapsed(row.connected_seconds) }, age("last_seen_seconds", "last seen"),
    ] });
    this.unfolded = new Set();
    this.inside = new Map();
    this.nested = element("input", { type: "checkbox", "aria-label": "show nested clients", onchange: () => { address.set({ nested: this.nested.checked ? "1" : null }, { push: true }); this.show(); } });
    this.nestedRow = element("label", { class: "row" }, this.nested, "show clients inside tasks, which are counted with their parent");
    this.nested.checked = address.get("nested") === "1";
    const limit = (key, label) => ({ key, label, number: true, show: (row) => (row[key] === null ? "" : integer(row[key])) });
    this.groups = new Table({ label: "Groups", id: (row) => row.name, sort: "weight", descending: true, empty: "the scheduler has no shares", columns: [
      { key: "name", label: "group" }, { key: "weight", label: "weight", number: true }, { key: "clients", label: "clients", number: true }, count("waiting", "waiting"), count("running", "running"), { key: "used_core_seconds", label: "core seconds used", number: true, show: (row) => integer(Math.round(row.used_core_seconds)) },
      limit("max_running", "max running"), limit("max_waiting", "max waiting"), count("refused", "refused"), { key: "note", label: "note", wide: true },
    ] });
    this.shares = card("Groups", "shares of core seconds while several have tasks waiting", this.groups.node);
    this.shares.hidden = true;
    this.node = element("div", {}, element("div", { class: "row" }, title("Clients"), this.range.node), card("Who uses the cluster", "clients inside tasks count with the client they work for", this.use.node, this.useNote), this.shares, this.nestedRow, this.table.node);
  }

  addressChanged() {
    this.nested.checked = address.get("nested") === "1";
    for (const part of [this.table, this.use, this.range]) part.readAddress();
    this.again();
    this.show();
    this.openShown();
  }

  // A request that fails is made again with the next second's update.
  again() { this.update(this.latest).catch(() => {}); }

  async update(overview) {
    this.latest = overview;
    const asked = range();
    const [clients, groups, use] = await Promise.all([fetchJson("/api/clients"), fetchJson("/api/groups"), fetchJson(`/api/clients/use?seconds=${asked}`)]);
    if (asked !== range()) return;
    this.data = clients;
    this.use.show(use.clients);
    this.range.show(use.since ? (overview?.time ?? use.since) - use.since : 0);
    const available = use.available_core_seconds;
    this.useNote.textContent = available ? `${integer(Math.round(use.used_core_seconds))} core seconds used in all; ${plural(use.slots, "worker")} could have given ${integer(Math.round(available))}.` : "";
    this.shares.hidden = !groups.length;
    if (groups.length) this.groups.show(groups);
    this.show();
    if (!this.opened) this.openShown();
  }

  fold(row) {
    if (!row.nested_clients || this.nested.checked) return row.nested_clients ? integer(row.nested_clients) : "";
    const open = this.unfolded.has(row.id);
    const toggle = (event) => { event.stopPropagation(); if (!this.unfolded.delete(row.id)) this.unfolded.add(row.id); this.show(); };
    return element("button", { type: "button", class: "fold", "aria-expanded": String(open), "aria-label": `${row.nested_clients} clients inside tasks of ${row.name}`, onclick: toggle }, `${open ? "▾" : "▸"} ${integer(row.nested_clients)}`);
  }

  under(row) {
    if (!this.unfolded.has(row.id) || this.nested.checked || !this.members?.has(row.id)) return null;
    let table = this.inside.get(row.id);
    if (!table) {
      table = new Table({ label: `Clients inside tasks of ${row.name}`, id: (one) => one.id, sort: "name", onOpen: (one) => this.open(one), columns: [
        { key: "name", label: "client" }, { key: "hostname", label: "host" }, { key: "pid", label: "pid", number: true }, count("waiting", "waiting"), count("running", "assigned"), count("finished", "succeeded"), count("failed", "failed"), age("last_seen_seconds", "last seen"),
      ] });
      this.inside.set(row.id, table);
    }
    table.show(this.members.get(row.id));
    return table.node;
  }

  // Clients inside tasks are folded under the client that they work for, as long as that is connected.
  show() {
    if (!this.data) return;
    const own = new Map(this.data.map((row) => [row.id, { ...row, nested_clients: 0 }]));
    const folded = (row) => row.nested && row.parent !== row.id && own.has(row.parent);
    for (const row of this.data) {
      if (!folded(row)) continue;
      const parent = own.get(row.parent);
      parent.nested_clients += 1;
      if (!this.nested.checked) for (const key of ["waiting", "running", "object_count", "object_bytes"]) parent[key] += row[key];
    }
    this.members = new Map();
    for (const row of this.data) if (folded(row)) this.members.set(row.parent, [...(this.members.get(row.parent) ?? []), row]);
    const rows = [...own.values()];
    this.nestedRow.hidden = !rows.some(folded);
    this.table.show(this.nested.checked ? rows : rows.filter((row) => !folded(row)));
  }

  openShown() {
    this.opened = true;
    const id = address.get("show");
    if (!id) { closeDetail(); return; }
    const row = this.data?.find((one) => one.id === id);
    if (row) this.open(row);
    else openDetail("Client", [["id", id], ["", "it is not connected now"], ["tasks", link("tasks", { client: id }, "its tasks")]], [], id);
  }

  open(row) {
    openDetail(`Client ${row.name}`, [["id", row.id], ["user", row.user], ["host", row.hostname], ["pid", row.pid || ""], ["connected for", elapsed(row.connected_seconds)], ["waiting", integer(row.waiting)], ["assigned", integer(row.running)], ["succeeded", integer(row.finished)], ["failed", integer(row.failed)], ["failed items of maps", integer(row.failed_items)], ["graphs", row.graphs], ["objects", `${integer(row.object_count)}, ${bytes(row.object_bytes)}`], ["nested", row.nested ? element("span", {}, "runs inside a task of ", clientLink(row.parent, row.parent_name)) : ""]],
      [element("p", { class: "row" }, link("tasks", { client: row.id }, "its tasks"), link("tasks", { client: row.id, state: "failed" }, "its failed tasks"), link("objects", { owner: row.id }, "its objects")),
        ...(row.waiting || row.running ? [element("p", { class: "row" }, cancelButton("Cancel its tasks", `all unfinished tasks of ${row.name}`, { client: row.id }))] : [])], row.id);
  }
}

class Scaling {
  constructor() {
    this.note = element("p", {}, "");
    this.holder = element("div", { role: "img", "aria-label": "Requested, connected and busy workers over time" });
    this.range = new RangeChoice(() => this.draw());
    this.table = new Table({ label: "Worker adapters", name: "sort", id: (row) => row.url, sort: "url", empty: "no worker adapter is in use", columns: [
      { key: "url", label: "adapter" }, { key: "state", label: "state", show: (row) => chip(row.state) }, { key: "groups", label: "groups", number: true }, { key: "requested_groups", label: "requested", number: true }, { key: "starting_groups", label: "starting", number: true },
      { key: "groups_max", label: "limit", number: true, show: (row) => row.groups_max ?? "no limit" }, { key: "workers_per_group", label: "workers per group", number: true }, { key: "capabilities", label: "capabilities" }, { key: "text", label: "last error", wide: true },
    ] });
    this.events = scalingEvents();
    this.node = element("div", {}, element("div", { class: "row" }, title("Scaling"), this.range.node), this.note, this.table.node, element("div", { class: "grid" }, card("Requested and connected workers", "", this.holder)), card("What happened", "the last 100 events, and why", this.events.node));
  }

  addressChanged() { this.table.readAddress(); this.range.readAddress(); this.draw(); }

  draw() { this.chart?.update(); this.range.show(history.seconds); }

  shown() { this.chart = new Chart(this.holder, [{ name: "requested_workers", label: "requested", colour: "#f08c3a" }, { name: "workers", label: "connected", colour: "#8f7bf0" }, { name: "busy_workers", label: "busy", colour: "#35b58a" }], whole); }

  async update() {
    const data = await fetchJson("/api/scaling");
    this.note.textContent = data.strategy ? `Strategy: ${data.strategy}` : "The scheduler does not start or stop workers: it has neither a scaling strategy nor an adapter.";
    this.table.show(data.adapters);
    this.events.show(data.events);
    this.draw();
  }

  recolour() { this.chart?.build(); }

  destroy() { this.chart?.destroy(); }
}

const LEVELS = [[10, "DEBUG"], [20, "INFO"], [30, "WARNING"], [40, "ERROR"], [50, "CRITICAL"]];

const levelName = (level) => LEVELS.findLast(([least]) => least <= level)?.[1] ?? String(level);

class Logs {
  constructor() {
    this.seen = 0;
    this.lines = [];
    this.list = element("div", { class: "log card", tabindex: "0", role: "log", "aria-label": "Log" });
    this.levels = choice("level", "Least severe level", [["0", "all levels"], ...LEVELS.slice(1).map(([value, name]) => [String(value), `${name} and worse`])], () => this.show());
    this.search = searchField("search the log", () => this.show());
    this.source = new LogSource(() => { this.show(); this.update(this.latest).catch(() => {}); });
    this.node = element("div", {}, title("Log"), element("div", { class: "row" }, this.source.node, this.search, this.levels, element("button", { type: "button", onclick: () => this.download() }, "Download")), this.list);
  }

  addressChanged() { this.search.value = address.get("search"); this.levels.value = address.get("level", "0"); this.show(); }

  matching() {
    const words = this.search.value.toLowerCase();
    return (this.source.agent ? this.source.lines : this.lines).filter((line) => line.level >= Number(this.levels.value) && line.text.toLowerCase().includes(words));
  }

  download() {
    const text = this.matching().map((line) => `${new Date(line.at * 1000).toISOString()} ${levelName(line.level)} ${line.text}\n`).join("");
    const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    element("a", { href: url, download: "scaler-log.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  async update(data) {
    this.latest = data;
    await this.source.update();
    if (this.source.agent) { this.show(); return; }
    if (data.log_lines === this.seen && this.lines.length) { if (this.shownOf) this.show(); return; }
    const answer = await fetchJson(`/api/logs?seen=${data.log_lines < this.seen ? 0 : this.seen}`);
    if (data.log_lines < this.seen) this.lines = [];
    this.lines = [...this.lines, ...answer.lines].slice(-2000);
    this.seen = answer.count;
    this.show();
  }

  show() {
    const atEnd = this.list.scrollTop + this.list.clientHeight >= this.list.scrollHeight - 30;
    const shown = this.matching();
    this.shownOf = this.source.agent;
    this.list.replaceChildren(...shown.map((line) => element("div", { class: `l${line.level}` }, element("span", { class: "time" }, clock(line.at)), `${levelName(line.level)}  ${line.text}`)));
    if (!shown.length) this.list.replaceChildren(element("p", { class: "empty" }, this.source.agent ? (this.source.lines.length ? "no line matches" : this.source.empty) : this.lines.length ? "no line matches" : "the scheduler has logged nothing yet"));
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }
}

export const PAGES = [
  ["overview", "Overview", Overview], ["functions", "Functions", Functions], ["workers", "Workers", Workers], ["stream", "Task stream", Stream], ["tasks", "Tasks", Tasks], ["errors", "Errors", Errors],
  ["clients", "Clients", Clients], ["graphs", "Graphs", Graphs], ["objects", "Objects", Objects], ["scaling", "Scaling", Scaling], ["logs", "Log", Logs], ["scheduler", "Scheduler", SchedulerPage], ["jobs", "Jobs", Jobs],
];
