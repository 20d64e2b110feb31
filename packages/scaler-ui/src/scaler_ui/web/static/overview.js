// The first page: how busy, how far, how fast, why tasks wait.

import * as address from "./address.js";
import { Chart } from "./charts.js";
import { fetchJson, history } from "./data.js";
import { card, clientLink, count, element, functionLink, link, meter, Table, title } from "./elements.js";
import { bytes, elapsed, integer, percent, plural, rate, remaining, whole, wholePercent } from "./format.js";
import { RangeChoice } from "./range.js";

const TILES = [
  ["utilisation", "busy workers", "workers", {}], ["running", "running tasks", "workers", {}], ["queued", "queued", "workers", {}], ["waiting", "waiting", "tasks", { state: "submitted" }],
  ["rate", "tasks per second", "functions", {}], ["success", "succeeded", "tasks", { state: "success" }], ["failed", "failed", "errors", {}], ["workers", "workers", "workers", {}],
  ["clients", "clients", "clients", {}], ["objects", "object memory", "objects", {}], ["scheduler", "scheduler CPU", "scheduler", {}],
];

const PLOTS = [
  ["Busy workers", "share of all workers", [{ name: "utilisation_percent", label: "busy", colour: "#35b58a", fill: true, smooth: true }], wholePercent, { minimum: 100 }],
  ["Throughput", "finished tasks per second, smoothed", [{ name: "success_rate", label: "succeeded", colour: "#35b58a", fill: true, smooth: true }, { name: "failed_rate", label: "failed", colour: "#e05d5d", smooth: true }], rate],
  ["Unfinished tasks", "", [{ name: "waiting", label: "waiting", colour: "#f08c3a" }, { name: "queued", label: "queued", colour: "#8f7bf0" }, { name: "started", label: "running", colour: "#4c8dff" }], whole],
  ["Workers", "connected and busy", [{ name: "workers", label: "connected", colour: "#8f7bf0" }, { name: "busy_workers", label: "busy", colour: "#35b58a", fill: true }], whole],
  ["CPU", "100 % is one busy core", [{ name: "worker_cpu_percent", label: "workers", colour: "#22a7c9", fill: true, smooth: true }, { name: "scheduler_cpu_percent", label: "scheduler", colour: "#f08c3a", smooth: true }], wholePercent],
  ["Memory", "resident", [{ name: "worker_rss_bytes", label: "workers", colour: "#22a7c9" }, { name: "object_bytes", label: "objects", colour: "#d65db1" }, { name: "scheduler_rss_bytes", label: "scheduler", colour: "#f08c3a" }], bytes],
];

function bar(row) {
  const total = Math.max(1, row.done + row.left);
  return meter(row.done / total, `${Math.floor((100 * row.done) / total)} %`);
}

const progressColumns = [
  { key: "done", label: "done", value: (row) => row.done / Math.max(1, row.done + row.left), mark: (row) => `${row.done}/${row.left}`, show: bar },
  count("left", "left"), { key: "per_second", label: "per second", number: true, show: (row) => rate(row.per_second) },
  { key: "seconds_left", label: "time left", number: true, mark: (row) => remaining(row.seconds_left), show: (row) => remaining(row.seconds_left) },
];

export class Overview {
  constructor() {
    this.tiles = {};
    const tiles = element("div", { class: "tiles" });
    for (const [key, label, page, params] of TILES) {
      const [value, note] = [element("div", { class: "value", id: `tile-${key}` }, "–"), element("div", { class: "note" })];
      this.tiles[key] = { value, note, node: element("a", { class: `tile ${key}`, href: address.href(page, params) }, element("div", { class: "label" }, label), value, note) };
      tiles.append(this.tiles[key].node);
    }
    this.fill = element("i");
    this.tiles.utilisation.node.append(element("span", { class: "meter wide", "aria-hidden": "true" }, this.fill));
    this.reasons = new Table({ label: "Waiting tasks", id: (row) => row.reason, empty: "no task waits", columns: [count("count", "tasks"), { key: "reason", label: "why" }, { key: "what_to_do", label: "what to do" }] });
    this.why = card("Why tasks wait", "at the scheduler", this.reasons.node);
    this.why.hidden = true;
    this.clients = new Table({ label: "Progress of clients", id: (row) => row.id, sort: "left", descending: true, empty: "no client has unfinished tasks", name: "clients", columns: [{ key: "name", label: "client", show: (row) => clientLink(row.id, row.name) }, ...progressColumns] });
    this.functions = new Table({ label: "Progress of functions", id: (row) => row.name, sort: "left", descending: true, empty: "no unfinished tasks", name: "functions", columns: [{ key: "name", label: "function", mono: true, show: (row) => functionLink(row.name) }, ...progressColumns] });
    // Before the curves: how far things are is asked first, and seen without scrolling.
    this.now = element("div", { class: "grid now" }, card("Progress of clients", "since they last had nothing to do", this.clients.node), card("Progress of functions", "", this.functions.node), this.why);
    for (const table of [this.clients, this.functions]) table.node.classList.add("compact");
    this.grids = [element("div", { class: "grid" }), element("div", { class: "grid" })];
    this.charts = [];
    this.range = new RangeChoice(() => this.draw());
    this.node = element("div", {}, element("div", { class: "row" }, title("Overview"), this.range.node), tiles, this.now, ...this.grids);
  }

  shown() {
    for (const [at, [name, note, series, format, options = {}]] of PLOTS.entries()) {
      const holder = element("div", { role: "img", "aria-label": `${name} over time` });
      this.grids[at < 3 ? 0 : 1].append(card(name, note, holder));
      this.charts.push(new Chart(holder, series, format, options));
    }
  }

  draw() {
    for (const chart of this.charts) chart.update();
    this.range.show(history.seconds);
  }

  addressChanged() {
    this.range.readAddress();
    this.draw();
    this.clients.readAddress();
    this.functions.readAddress();
  }

  async update(data) {
    if (!data.tasks) return;
    const set = (key, value, note = "") => { this.tiles[key].value.textContent = value; this.tiles[key].note.textContent = note; };
    const busy = data.utilisation_percent;
    set("utilisation", busy === null ? "–" : `${Math.round(busy)} %`, data.slots ? `${integer(data.busy_slots)} of ${plural(data.slots, "worker")}` : "no worker is connected");
    this.fill.style.width = `${busy ?? 0}%`;
    set("running", integer(data.running), data.paused ? `${integer(data.paused)} wait for their own tasks` : "have begun");
    set("queued", integer(data.queued), "at workers, not begun");
    set("waiting", integer(data.tasks.unassigned), data.waiting[0]?.reason ?? "at the scheduler");
    set("success", integer(data.tasks.success), `${integer(data.tasks.canceled)} canceled`);
    set("failed", integer(data.tasks.failed), [data.failed_items ? `and ${plural(data.failed_items, "item")} of maps` : "", data.error_groups ? plural(data.error_groups, "kind") : ""].filter(Boolean).join(", "));
    this.tiles.failed.node.classList.toggle("bad", data.tasks.failed > 0 || data.failed_items > 0);
    set("rate", rate(data.throughput), "over 10 seconds");
    set("workers", integer(data.workers), plural(data.agents, "agent"));
    set("clients", integer(data.clients), data.graphs ? plural(data.graphs, "graph") : "");
    set("objects", bytes(data.objects.bytes), plural(data.objects.count, "object"));
    set("scheduler", percent(data.scheduler.cpu_percent), `${bytes(data.scheduler.rss_bytes)}, up ${elapsed(data.uptime_seconds)}`);
    this.reasons.show(data.waiting);
    this.why.hidden = !data.waiting.length;
    this.now.classList.toggle("waits", data.waiting.length > 0);
    this.draw();
    const progress = await fetchJson("/api/progress");
    this.clients.show(progress.clients);
    this.functions.show(progress.functions);
  }

  recolour() { for (const chart of this.charts) chart.build(); }

  destroy() { for (const chart of this.charts) chart.destroy(); }
}

// For engineers: what the scheduler itself does.
export class SchedulerPage {
  constructor() {
    this.facts = element("div", { class: "tiles" });
    this.range = new RangeChoice(() => this.draw());
    this.traffic = new Table({ label: "Messages", id: (row) => row.kind, sort: "received", descending: true, name: "sort", columns: [{ key: "kind", label: "message", mono: true }, count("received", "received"), count("sent", "sent")] });
    this.holders = [["Messages", "per second", [{ name: "received_rate", label: "received", colour: "#22a7c9", smooth: true }, { name: "sent_rate", label: "sent", colour: "#f08c3a", smooth: true }], rate], ["Scheduler CPU", "100 % is one busy core", [{ name: "scheduler_cpu_percent", label: "CPU", colour: "#f08c3a", smooth: true }], wholePercent]];
    this.grid = element("div", { class: "grid" });
    this.charts = [];
    this.node = element("div", {}, element("div", { class: "row" }, title("Scheduler"), this.range.node), element("p", { class: "note" }, "For those who work on Scaler or look for a fault in it. ", link("logs", {}, "Its log"), " has a page of its own."), this.facts, this.grid, card("Messages", "since the scheduler started", this.traffic.node));
  }

  shown() {
    for (const [name, note, series, format] of this.holders) {
      const holder = element("div", { role: "img", "aria-label": `${name}, ${note}, over time` });
      this.grid.append(card(name, note, holder));
      this.charts.push(new Chart(holder, series, format));
    }
  }

  draw() {
    for (const chart of this.charts) chart.update();
    this.range.show(history.seconds);
  }

  addressChanged() { this.traffic.readAddress(); this.range.readAddress(); this.draw(); }

  update(data) {
    if (!data.tasks) return;
    const tile = (label, value, note = "") => element("div", { class: "tile" }, element("div", { class: "label" }, label), element("div", { class: "value" }, value), element("div", { class: "note" }, note));
    this.facts.replaceChildren(tile("CPU", percent(data.scheduler.cpu_percent)), tile("memory", bytes(data.scheduler.rss_bytes)), tile("up for", elapsed(data.uptime_seconds), data.restarts ? `restarted ${plural(data.restarts, "time")}` : ""),
      tile("dropped results", integer(data.stale_results), "of attempts that no longer counted"), tile("left out", integer(data.omitted_events), "task events, to save work"), tile("lost", integer(data.missed_messages), "messages to this page's server"));
    const kinds = new Set([...Object.keys(data.sent), ...Object.keys(data.received)]);
    this.traffic.show([...kinds].map((kind) => ({ kind, sent: data.sent[kind] ?? 0, received: data.received[kind] ?? 0 })));
    this.draw();
  }

  recolour() { for (const chart of this.charts) chart.build(); }

  destroy() { for (const chart of this.charts) chart.destroy(); }
}
