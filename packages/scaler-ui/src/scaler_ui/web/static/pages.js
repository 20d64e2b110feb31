// One class per page. `node` is the page's element; `update(overview)` is called about once a second while the page is shown,
// `addressChanged()` when the address names another view of the same page.

import * as address from "./address.js";
import { Chart } from "./charts.js";
import { fetchJson } from "./data.js";
import { showTask } from "./details.js";
import { age, agentLink, card, chip, choice, clientLink, closeDetail, count, element, functionLink, link, meter, openDetail, searchField, size, Table, time, title, workerLink } from "./elements.js";
import { Errors } from "./errors.js";
import { bytes, clock, colours, elapsed, integer, percent, plural, seconds, whole } from "./format.js";
import { Functions } from "./functions.js";
import { Jobs } from "./jobs.js";
import { Overview, SchedulerPage } from "./overview.js";
import { TaskStream } from "./stream.js";
import { Tasks } from "./tasks.js";

class Workers {
  constructor() {
    this.agents = new Table({ label: "Agents", id: (row) => `${row.hostname}/${row.name}/${row.pid}`, sort: "name", name: "agents", onOpen: (row) => this.openAgent(row), empty: "no agent is connected", columns: [
      { key: "name", label: "agent" }, { key: "hostname", label: "host" }, count("workers", "workers"), count("assigned", "tasks"), count("queued", "queued"), count("capacity", "capacity"),
      { key: "cpu_percent", label: "agent CPU", number: true, show: (row) => percent(row.cpu_percent) }, size("rss_bytes", "agent memory"), size("rss_free_bytes", "host memory free"), time("latency_seconds", "latency"),
      age("last_seen_seconds", "last seen"), { key: "capabilities", label: "capabilities" }, { key: "draining", label: "draining", show: (row) => (row.draining ? chip("draining") : "") },
    ] });
    this.workers = new Table({ label: "Workers", id: (row) => `${row.agent}/${row.name}/${row.pid}`, sort: "name", name: "sort", onOpen: (row) => this.openWorker(row), empty: "no worker is connected", columns: [
      { key: "name", label: "worker" }, { key: "state", label: "state", show: (row) => chip(row.state) },
      { key: "cpu_percent", label: "CPU", number: true, show: (row) => meter(row.cpu_percent / 100, percent(row.cpu_percent)) }, size("rss_bytes", "memory"),
      { key: "function", label: "running function", mono: true, show: (row) => functionLink(row.function) }, { key: "task_seconds", label: "running for", number: true, mark: (row) => (row.function ? row.task_seconds : -1), show: (row) => (row.function ? seconds(row.task_seconds) : "") },
      count("sent", "tasks"), count("working", "begun"), count("queued", "queued"), count("free", "free"), { key: "pid", label: "pid", number: true }, { key: "agent", label: "agent", show: (row) => agentLink(row.agent) },
    ] });
    this.words = address.get("search").toLowerCase();
    this.search = searchField("search workers, functions, agents", (text) => { this.words = text.toLowerCase(); this.show(); });
    this.node = element("div", {}, title("Workers"), element("div", { class: "row" }, this.search), this.workers.node, element("h2", { class: "section" }, "Agents"), this.agents.node);
  }

  addressChanged() {
    this.search.value = address.get("search");
    this.words = this.search.value.toLowerCase();
    this.workers.readAddress();
    this.agents.readAddress();
    this.show();
    this.openShown();
  }

  openShown() {
    this.opened = true;
    const show = address.get("show");
    if (!show) { closeDetail(); return; }
    const row = this.data?.workers.find((one) => `${one.agent}/${one.name}` === show || `${one.agent}/${one.name} (${one.agent})` === show);
    if (row) this.openWorker(row);
    else openDetail(`Worker ${show.split("/").at(-1)}`, [["", "no worker of this name is connected now"]], [], show);
  }

  async update() {
    this.data = await fetchJson("/api/workers");
    this.show();
    if (!this.opened) this.openShown();
  }

  show() {
    if (!this.data) return;
    const has = (...texts) => texts.join(" ").toLowerCase().includes(this.words);
    this.agents.show(this.data.agents.filter((row) => !this.words || has(row.name, row.hostname, row.capabilities) || this.data.workers.some((worker) => worker.agent === row.name && has(worker.name, worker.function))), this.words ? "no agent matches" : undefined);
    this.workers.show(this.data.workers.filter((row) => has(row.name, row.agent, row.hostname, row.function, row.state, row.capabilities)), this.words ? "no worker matches" : undefined);
  }

  openAgent(row) {
    const functions = new Table({ label: "Functions of the agent", id: (one) => one.name, sort: "tasks", descending: true, columns: [{ key: "name", label: "function", mono: true, show: (one) => functionLink(one.name) }, count("tasks", "tasks")], empty: "it has no tasks" });
    functions.show(Object.entries(row.functions).map(([name, tasks]) => ({ name, tasks })));
    openDetail(`Agent ${row.name}`, [["host", row.hostname], ["pid", row.pid], ["workers", link("workers", { search: row.name }, integer(row.workers))], ["capabilities", row.capabilities], ["tasks", integer(row.assigned)], ["not started", integer(row.queued)], ["memory free", bytes(row.rss_free_bytes)]], [functions.node]);
  }

  openWorker(row) {
    openDetail(`Worker ${row.name}`, [["agent", agentLink(row.agent)], ["host", row.hostname], ["pid", row.pid], ["state", chip(row.state)], ["CPU", percent(row.cpu_percent)], ["memory", bytes(row.rss_bytes)], ["running", row.function && `${row.function}, task ${row.task}, for ${seconds(row.task_seconds)}`], ["tasks", integer(row.sent)], ["queued", integer(row.queued)], ["capabilities", row.capabilities], ["set up by clients", row.environment], ["last seen", `${seconds(row.last_seen_seconds)} ago`]],
      [element("p", { class: "row" }, row.function && link("functions", { show: row.function }, "its function"), link("tasks", { search: row.agent }, "tasks of its agent"))], `${row.agent}/${row.name}`);
  }
}

class Stream {
  constructor() {
    const canvas = element("canvas", { tabindex: "0", role: "img", "aria-label": "Task stream: one lane for each worker, one bar for each task. Arrow keys move, plus and minus zoom, 0 shows all." });
    const tooltip = element("div", { class: "tooltip", hidden: true });
    this.legend = element("div", { class: "legend", role: "group", "aria-label": "Legend" });
    this.note = element("span", { class: "note", "aria-live": "off" });
    this.stream = new TaskStream(canvas, tooltip, { onOpen: (bar) => showTask(bar.client, bar.number), onView: () => this.describe() });
    this.colour = choice("colour", "Colour by", ["function", "capability", "label", "state", "client"].map((name) => [name, `colour by ${name}`]), () => this.recolourBy());
    this.stream.colourBy = this.colour.value;
    this.node = element("div", {}, title("Task stream"), element("div", { class: "row" }, this.colour,
      element("button", { type: "button", onclick: () => this.stream.zoom(0.5) }, "Zoom in"), element("button", { type: "button", onclick: () => this.stream.zoom(2) }, "Zoom out"),
      element("button", { type: "button", onclick: () => this.stream.showAll() }, "Show all"), element("button", { type: "button", onclick: () => { this.stream.following = true; this.stream.draw(); } }, "Follow"),
      element("a", { href: "/api/trace", download: "scaler-trace.json" }, "Chrome trace"), this.note), element("div", { class: "stream" }, canvas, tooltip), this.legend);
  }

  recolourBy() { this.stream.colourBy = this.colour.value; this.showLegend(); this.stream.draw(); }

  addressChanged() {
    this.colour.value = address.get("colour", "function");
    this.recolourBy();
    if (!address.get("show")) closeDetail();
  }

  async update(data) {
    this.stride = data.stride;
    const first = this.stream.bars.length === 0;
    if (!(await this.stream.bars.update(data.bars))) return;
    if (first) this.stream.span = Math.min(60, Math.max(2, this.stream.bars.lastEnd - this.stream.bars.firstStart) * 1.02);
    this.showLegend();
    this.stream.draw();
  }

  showLegend() {
    const { names, colourOf, column } = this.stream.key();
    const chosen = column === "state" ? null : colours(names);
    const shown = column === "state" ? [2, 3, 4].map((state, at) => [names[at], colourOf(state)]) : names.slice(0, 24).map((name) => [name, chosen.get(name)]);
    this.legend.replaceChildren(...shown.map(([name, colour]) => { const square = element("i"); square.style.background = colour; return element("span", {}, square, name); }), names.length > 24 && column !== "state" ? `and ${names.length - 24} more` : "");
  }

  describe() {
    const { bars, following, span } = this.stream;
    this.note.textContent = bars.length ? `${integer(bars.length)} tasks on ${bars.lanes.length} workers, ${seconds(span)} shown${following ? ", following" : ""}${this.stride > 1 ? `; too many tasks to draw all: 1 of ${this.stride} is drawn` : ""}` : "no task has ended since scaler_ui started";
  }

  shown() { this.stream.start(); }

  recolour() { this.stream.image = null; this.stream.draw(); }

  destroy() { this.stream.destroy(); }
}

class Clients {
  constructor() {
    this.table = new Table({ label: "Clients", id: (row) => row.id, sort: "name", name: "sort", empty: "no client is connected", onOpen: (row) => this.open(row), columns: [
      { key: "name", label: "client", mark: (row) => `${row.name}/${row.nested_clients}`, show: (row) => element("span", {}, row.name, row.nested ? " " : "", row.nested ? chip("nested") : "") }, { key: "group", label: "group" }, { key: "hostname", label: "host" }, { key: "pid", label: "pid", number: true },
      count("waiting", "waiting"), count("running", "assigned"), count("finished", "succeeded"), count("failed", "failed"), count("failed_items", "failed items"), count("graphs", "graphs"), count("object_count", "objects"), size("object_bytes", "bytes"),
      { key: "nested_clients", label: "nested", number: true, show: (row) => (row.nested_clients ? integer(row.nested_clients) : "") }, { key: "connected_seconds", label: "connected for", number: true, show: (row) => elapsed(row.connected_seconds) }, age("last_seen_seconds", "last seen"),
    ] });
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
    this.node = element("div", {}, title("Clients"), this.shares, this.nestedRow, this.table.node);
  }

  addressChanged() {
    this.nested.checked = address.get("nested") === "1";
    this.table.readAddress();
    this.show();
    this.openShown();
  }

  async update() {
    const [clients, groups] = await Promise.all([fetchJson("/api/clients"), fetchJson("/api/groups")]);
    this.data = clients;
    this.shares.hidden = !groups.length;
    if (groups.length) this.groups.show(groups);
    this.show();
    if (!this.opened) this.openShown();
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
    openDetail(`Client ${row.name}`, [["id", row.id], ["host", row.hostname], ["pid", row.pid], ["connected for", elapsed(row.connected_seconds)], ["waiting", integer(row.waiting)], ["assigned", integer(row.running)], ["succeeded", integer(row.finished)], ["failed", integer(row.failed)], ["failed items of maps", integer(row.failed_items)], ["graphs", row.graphs], ["objects", `${integer(row.object_count)}, ${bytes(row.object_bytes)}`], ["nested", row.nested ? element("span", {}, "runs inside a task of ", clientLink(row.parent, row.parent_name)) : ""]],
      [element("p", { class: "row" }, link("tasks", { client: row.id }, "its tasks"), link("tasks", { client: row.id, state: "failed" }, "its failed tasks"))], row.id);
  }
}

function progress(graph) {
  const bar = element("div", { class: "progress", role: "progressbar", "aria-label": "nodes that have ended", "aria-valuemin": "0", "aria-valuemax": String(graph.rows), "aria-valuenow": String(graph.done + graph.failed) });
  for (const part of ["done", "failed", "released"]) { const piece = element("i", { class: part }); piece.style.width = `${(100 * graph[part]) / Math.max(1, graph.rows)}%`; bar.append(piece); }
  return bar;
}

class Graphs {
  constructor() {
    this.table = new Table({ label: "Graphs", name: "sort", id: (row) => `${row.client}/${row.first_number}`, sort: "client_name", empty: "no graph is in progress", columns: [
      { key: "client_name", label: "client", show: (row) => clientLink(row.client, row.client_name) }, { key: "first_number", label: "first task", number: true }, { key: "progress", label: "progress", value: (row) => row.done / Math.max(1, row.rows), mark: (row) => `${row.done}/${row.failed}/${row.released}`, show: progress },
      count("rows", "nodes"), count("done", "done"), count("released", "ready or running"), count("waiting", "waiting"), count("failed", "failed"), count("held_results", "results in memory"),
    ] });
    this.node = element("div", {}, title("Graphs in progress"), this.table.node);
  }

  addressChanged() { this.table.readAddress(); }

  async update() { this.table.show(await fetchJson("/api/graphs")); }
}

class Objects {
  constructor() {
    this.facts = element("div", { class: "tiles" });
    this.holder = element("div", { role: "img", "aria-label": "Object memory over the last ten minutes" });
    this.table = new Table({ label: "Objects by client", name: "clients", id: (row) => row.id, sort: "object_bytes", descending: true, empty: "no connected client has objects", columns: [
      { key: "name", label: "client", show: (row) => clientLink(row.id, row.name) }, { key: "object_count", label: "objects", number: true, show: (row) => integer(row.object_count) }, { key: "object_bytes", label: "bytes (shared objects counted for each client)", number: true, show: (row) => bytes(row.object_bytes) },
    ] });
    this.largest = new Table({ label: "Largest objects", name: "sort", id: (row) => row.id, sort: "size_bytes", descending: true, empty: "nothing is in object storage", columns: [
      { key: "name", label: "name", show: (row) => row.name || row.id.slice(0, 8) }, { key: "owner_name", label: "owner", show: (row) => clientLink(row.owner, row.owner_name) }, { key: "size_bytes", label: "size", number: true, show: (row) => bytes(row.size_bytes) }, { key: "age_seconds", label: "stored for", number: true, show: (row) => elapsed(row.age_seconds) }, { key: "place", label: "where" }, { key: "tasks", label: "unfinished tasks", number: true, show: (row) => row.tasks === null ? "not counted" : integer(row.tasks) }, { key: "readers_waiting", label: "readers waiting", number: true, show: (row) => integer(row.readers_waiting) },
    ] });
    this.node = element("div", {}, title("Objects"), this.facts, element("div", { class: "grid" }, card("Memory in use", "identical objects count once", this.holder), card("By client", "", this.table.node)), card("Largest objects", "100 at most; unfinished tasks of the owner that name the object", this.largest.node));
  }

  addressChanged() { this.table.readAddress(); this.largest.readAddress(); }

  shown() { this.chart = new Chart(this.holder, [{ name: "object_bytes", label: "bytes", colour: "#d65db1", fill: true }], bytes, { minimum: 1024 }); }

  async update(data) {
    if (!data.objects) return;
    const tile = (label, value, note = "") => element("div", { class: "tile" }, element("div", { class: "label" }, label), element("div", { class: "value" }, value), element("div", { class: "note" }, note));
    const { count, bytes: used, limit_bytes: limit } = data.objects;
    this.facts.replaceChildren(tile("objects", integer(count)), tile("in memory", bytes(used)), tile("limit", limit ? bytes(limit) : "not known", limit ? percent((100 * used) / limit) : ""));
    this.chart?.update();
    this.table.show((await fetchJson("/api/clients")).filter((client) => client.object_count));
    this.largest.show(await fetchJson("/api/objects"));
  }

  recolour() { this.chart?.build(); }

  destroy() { this.chart?.destroy(); }
}

class Scaling {
  constructor() {
    this.note = element("p", {}, "");
    this.holder = element("div", { role: "img", "aria-label": "Requested, connected and busy workers over the last hour" });
    this.table = new Table({ label: "Worker adapters", name: "sort", id: (row) => row.url, sort: "url", empty: "no worker adapter is in use", columns: [
      { key: "url", label: "adapter" }, { key: "state", label: "state", show: (row) => chip(row.state) }, { key: "groups", label: "groups", number: true }, { key: "requested_groups", label: "requested", number: true }, { key: "starting_groups", label: "starting", number: true },
      { key: "groups_max", label: "limit", number: true, show: (row) => row.groups_max ?? "no limit" }, { key: "workers_per_group", label: "workers per group", number: true }, { key: "capabilities", label: "capabilities" }, { key: "text", label: "last error", wide: true },
    ] });
    this.node = element("div", {}, title("Scaling"), this.note, this.table.node, element("div", { class: "grid" }, card("Requested and connected workers", "last hour", this.holder)));
  }

  addressChanged() { this.table.readAddress(); }

  shown() { this.chart = new Chart(this.holder, [{ name: "requested_workers", label: "requested", colour: "#f08c3a" }, { name: "workers", label: "connected", colour: "#8f7bf0" }, { name: "busy_workers", label: "busy", colour: "#35b58a" }], whole, { seconds: 3600 }); }

  async update() {
    const data = await fetchJson("/api/scaling");
    this.note.textContent = data.strategy ? `Strategy: ${data.strategy}` : "The scheduler does not start or stop workers: it has neither a scaling strategy nor an adapter.";
    this.table.show(data.adapters);
    this.chart?.update();
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
    this.list = element("div", { class: "log card", tabindex: "0", role: "log", "aria-label": "Log of the scheduler" });
    this.levels = choice("level", "Least severe level", [["0", "all levels"], ...LEVELS.slice(1).map(([value, name]) => [String(value), `${name} and worse`])], () => this.show());
    this.search = searchField("search the log", () => this.show());
    this.node = element("div", {}, title("Log of the scheduler"), element("div", { class: "row" }, this.search, this.levels, element("button", { type: "button", onclick: () => this.download() }, "Download")), this.list);
  }

  addressChanged() { this.search.value = address.get("search"); this.levels.value = address.get("level", "0"); this.show(); }

  matching() {
    const words = this.search.value.toLowerCase();
    return this.lines.filter((line) => line.level >= Number(this.levels.value) && line.text.toLowerCase().includes(words));
  }

  download() {
    const text = this.matching().map((line) => `${new Date(line.at * 1000).toISOString()} ${levelName(line.level)} ${line.text}\n`).join("");
    const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    element("a", { href: url, download: "scaler-log.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  async update(data) {
    if (data.log_lines === this.seen && this.lines.length) return;
    const answer = await fetchJson(`/api/logs?seen=${data.log_lines < this.seen ? 0 : this.seen}`);
    if (data.log_lines < this.seen) this.lines = [];
    this.lines = [...this.lines, ...answer.lines].slice(-2000);
    this.seen = answer.count;
    this.show();
  }

  show() {
    const atEnd = this.list.scrollTop + this.list.clientHeight >= this.list.scrollHeight - 30;
    const shown = this.matching();
    this.list.replaceChildren(...shown.map((line) => element("div", { class: `l${line.level}` }, element("span", { class: "time" }, clock(line.at)), `${levelName(line.level)}  ${line.text}`)));
    if (!shown.length) this.list.replaceChildren(element("p", { class: "empty" }, this.lines.length ? "no line matches" : "the scheduler has logged nothing yet"));
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }
}

export const PAGES = [
  ["overview", "Overview", Overview], ["functions", "Functions", Functions], ["workers", "Workers", Workers], ["stream", "Task stream", Stream], ["tasks", "Tasks", Tasks], ["errors", "Errors", Errors],
  ["clients", "Clients", Clients], ["graphs", "Graphs", Graphs], ["objects", "Objects", Objects], ["scaling", "Scaling", Scaling], ["logs", "Log", Logs], ["scheduler", "Scheduler", SchedulerPage], ["jobs", "Jobs", Jobs],
];
