// One class per page. `node` is the page's element; `update(overview)` is called about once a second while the page is shown.

import { Chart } from "./charts.js";
import { fetchJson } from "./data.js";
import { card, chip, element, meter, openDetail, Table } from "./elements.js";
import { bytes, clock, clockFine, colours, elapsed, integer, plural, percent, rate, seconds, whole, wholePercent } from "./format.js";
import { TaskStream } from "./stream.js";

const title = (text) => element("h1", {}, text);

function searchField(label, onInput) {
  let timer = null;
  return element("input", { type: "search", placeholder: label, "aria-label": label, maxlength: "200", oninput: (event) => { clearTimeout(timer); timer = setTimeout(() => onInput(event.target.value), 150); } });
}

function showFailure(failure) {
  openDetail(`Task ${failure.number}: ${failure.kind}`, [
    ["function", failure.function], ["client", failure.client_name], ["agent", failure.agent], ["status", chip(failure.status)],
    ...(failure.items ? [["failed items", `${integer(failure.items)} of a map chunk; this is the error of the first one`]] : []),
    ["attempt", failure.attempt], ["at", clockFine(failure.at)], ["ran for", seconds(failure.duration_seconds)],
  ], element("h2", {}, "Error"), element("pre", { class: "error-text" }, failure.text || "(no text)"), ...(failure.traceback ? [element("h2", {}, "Remote traceback"), element("pre", { class: "traceback" }, failure.traceback)] : []));
}

async function showTask(client, number) {
  let found;
  try { found = await fetchJson(`/api/tasks/${client}/${number}`); } catch (error) { openDetail(`Task ${number}`, [["", "no details are stored for this task"]]); return; }
  const { task, failures } = found;
  if (!task) { showFailure(failures[0]); return; }
  openDetail(`Task ${task.number}: ${task.function}`, [
    ["state", chip(task.state)], ["client", task.client_name], ["agent", task.agent], ["worker", task.slot === null ? "" : `no. ${task.slot + 1} of the agent`],
    ["label", task.label], ["tags", task.tags], ["capabilities", task.capabilities], ["submitted", task.submitted_at && clockFine(task.submitted_at)], ["assigned", task.assigned_at && clockFine(task.assigned_at)],
    ["ended", task.ended_at && clockFine(task.ended_at)], ["waited", seconds(task.waited_seconds)], ["ran for", seconds(task.duration_seconds)], ["attempts", task.attempts],
  ], ...failures.flatMap((failure) => [element("h2", {}, `${failure.kind}, attempt ${failure.attempt}`), element("pre", { class: "error-text" }, failure.text), ...(failure.traceback ? [element("pre", { class: "traceback" }, failure.traceback)] : [])]));
}

class Overview {
  constructor() {
    this.tiles = {};
    const tiles = element("div", { class: "tiles" });
    for (const [key, label] of [["running", "running"], ["waiting", "waiting"], ["success", "succeeded"], ["failed", "failed"], ["rate", "tasks per second"], ["workers", "workers"], ["clients", "clients"], ["objects", "object memory"], ["scheduler", "scheduler CPU"]]) {
      const [value, note] = [element("div", { class: "value", id: `tile-${key}` }, "–"), element("div", { class: "note" })];
      this.tiles[key] = { value, note, node: element("div", { class: "tile" }, element("div", { class: "label" }, label), value, note) };
      tiles.append(this.tiles[key].node);
    }
    this.functions = new Table({ label: "Functions", id: (row) => row.name, sort: "unfinished", descending: true, empty: "no unfinished tasks", columns: [{ key: "name", label: "function", mono: true }, { key: "unfinished", label: "unfinished", number: true, show: (row) => integer(row.unfinished) }, { key: "failed", label: "failed", number: true, show: (row) => integer(row.failed) }] });
    this.traffic = new Table({ label: "Messages", id: (row) => row.kind, sort: "received", descending: true, columns: [{ key: "kind", label: "message", mono: true }, { key: "received", label: "received", number: true, show: (row) => integer(row.received) }, { key: "sent", label: "sent", number: true, show: (row) => integer(row.sent) }] });
    const plots = [
      ["Throughput", "finished tasks per second", [{ name: "success_rate", label: "succeeded", colour: "#35b58a", fill: true }, { name: "failed_rate", label: "failed", colour: "#e05d5d" }], rate],
      ["Tasks", "unfinished", [{ name: "waiting", label: "waiting", colour: "#f08c3a" }, { name: "running", label: "assigned", colour: "#4c8dff" }], whole],
      ["Workers", "connected and busy", [{ name: "workers", label: "connected", colour: "#8f7bf0" }, { name: "busy_workers", label: "busy", colour: "#35b58a", fill: true }], whole],
      ["CPU", "100 % is one busy core", [{ name: "worker_cpu_percent", label: "workers", colour: "#22a7c9", fill: true }, { name: "scheduler_cpu_percent", label: "scheduler", colour: "#f08c3a" }], wholePercent],
      ["Memory", "resident", [{ name: "worker_rss_bytes", label: "workers", colour: "#22a7c9" }, { name: "object_bytes", label: "objects", colour: "#d65db1" }, { name: "scheduler_rss_bytes", label: "scheduler", colour: "#f08c3a" }], bytes],
    ];
    const grid = element("div", { class: "grid" });
    this.charts = [];
    this.node = element("div", {}, title("Overview"), tiles, grid);
    this.pending = () => {
      for (const [name, note, series, format] of plots) {
        const holder = element("div", { role: "img", "aria-label": `${name}, ${note}, over the last ten minutes` });
        grid.append(card(name, note, holder));
        this.charts.push(new Chart(holder, series, format));
      }
      grid.append(card("Functions", "unfinished and failed tasks", this.functions.node), card("Messages", "since the scheduler started", this.traffic.node));
    };
  }

  shown() { this.pending?.(); this.pending = null; }

  update(data) {
    if (!data.tasks) return;
    const set = (key, value, note = "") => { this.tiles[key].value.textContent = value; this.tiles[key].note.textContent = note; };
    set("running", integer(data.tasks.running), "assigned to workers");
    set("waiting", integer(data.tasks.unassigned), "not assigned");
    set("success", integer(data.tasks.success), `${integer(data.tasks.canceled)} canceled`);
    set("failed", integer(data.tasks.failed), [data.failed_items ? `and ${plural(data.failed_items, "item")} of maps` : "", data.failed_rate ? `${rate(data.failed_rate)}/s` : ""].filter(Boolean).join(", "));
    this.tiles.failed.node.classList.toggle("bad", data.tasks.failed > 0 || data.failed_items > 0);
    set("rate", rate(data.success_rate + data.failed_rate), "just now");
    set("workers", integer(data.workers), `${integer(data.worker_states.running ?? 0)} busy, ${integer(data.agents)} agent${data.agents === 1 ? "" : "s"}`);
    set("clients", integer(data.clients), data.graphs ? plural(data.graphs, "graph") : "");
    set("objects", bytes(data.objects.bytes), plural(data.objects.count, "object"));
    set("scheduler", percent(data.scheduler.cpu_percent), `${bytes(data.scheduler.rss_bytes)}, up ${elapsed(data.uptime_seconds)}`);
    this.functions.show(data.functions);
    const kinds = new Set([...Object.keys(data.sent), ...Object.keys(data.received)]);
    this.traffic.show([...kinds].map((kind) => ({ kind, sent: data.sent[kind] ?? 0, received: data.received[kind] ?? 0 })));
    for (const chart of this.charts) chart.update();
  }

  recolour() { for (const chart of this.charts) chart.build(); }

  destroy() { for (const chart of this.charts) chart.destroy(); }
}

class Workers {
  constructor() {
    this.agents = new Table({ label: "Agents", id: (row) => `${row.hostname}/${row.name}/${row.pid}`, sort: "name", onOpen: (row) => this.openAgent(row), empty: "no agent is connected", columns: [
      { key: "name", label: "agent" }, { key: "hostname", label: "host" }, { key: "workers", label: "workers", number: true },
      { key: "assigned", label: "tasks", number: true, show: (row) => integer(row.assigned) }, { key: "queued", label: "queued", number: true, show: (row) => integer(row.queued) },
      { key: "capacity", label: "capacity", number: true, show: (row) => integer(row.capacity) },
      { key: "cpu_percent", label: "agent CPU", number: true, show: (row) => percent(row.cpu_percent) }, { key: "rss_bytes", label: "agent memory", number: true, show: (row) => bytes(row.rss_bytes) },
      { key: "rss_free_bytes", label: "host memory free", number: true, show: (row) => bytes(row.rss_free_bytes) }, { key: "latency_seconds", label: "latency", number: true, show: (row) => seconds(row.latency_seconds) },
      { key: "last_seen_seconds", label: "last seen", number: true, show: (row) => `${seconds(row.last_seen_seconds)} ago` }, { key: "capabilities", label: "capabilities" },
      { key: "draining", label: "draining", show: (row) => (row.draining ? chip("draining") : "") },
    ] });
    this.workers = new Table({ label: "Workers", id: (row) => `${row.agent}/${row.name}/${row.pid}`, sort: "name", onOpen: (row) => this.openWorker(row), empty: "no worker is connected", columns: [
      { key: "name", label: "worker" }, { key: "state", label: "state", show: (row) => chip(row.state) },
      { key: "cpu_percent", label: "CPU", number: true, show: (row) => meter(row.cpu_percent / 100, percent(row.cpu_percent)) }, { key: "rss_bytes", label: "memory", number: true, show: (row) => bytes(row.rss_bytes) },
      { key: "function", label: "running function", mono: true }, { key: "task_seconds", label: "running for", number: true, mark: (row) => (row.function ? row.task_seconds : -1), show: (row) => (row.function ? seconds(row.task_seconds) : "") },
      { key: "sent", label: "tasks", number: true, show: (row) => integer(row.sent) }, { key: "working", label: "working", number: true, show: (row) => integer(row.working) },
      { key: "queued", label: "queued", number: true, show: (row) => integer(row.queued) }, { key: "free", label: "free", number: true, show: (row) => integer(row.free) },
      { key: "pid", label: "pid", number: true }, { key: "agent", label: "agent" },
    ] });
    this.words = "";
    this.node = element("div", {}, title("Workers"), this.agents.node, element("div", { class: "row" }, searchField("search workers, functions, agents", (text) => { this.words = text.toLowerCase(); this.show(); })), this.workers.node);
  }

  async update() { this.data = await fetchJson("/api/workers"); this.show(); }

  show() {
    if (!this.data) return;
    this.agents.show(this.data.agents);
    this.workers.show(this.data.workers.filter((row) => `${row.name} ${row.agent} ${row.hostname} ${row.function} ${row.state} ${row.capabilities}`.toLowerCase().includes(this.words)), this.words ? "no worker matches" : undefined);
  }

  openAgent(row) {
    const functions = new Table({ label: "Functions", id: (one) => one.name, sort: "count", descending: true, columns: [{ key: "name", label: "function", mono: true }, { key: "count", label: "tasks", number: true }] });
    functions.show(Object.entries(row.functions).map(([name, count]) => ({ name, count })));
    openDetail(`Agent ${row.name}`, [["host", row.hostname], ["pid", row.pid], ["workers", row.workers], ["capabilities", row.capabilities], ["tasks", integer(row.assigned)], ["not started", integer(row.queued)], ["memory free", bytes(row.rss_free_bytes)]], functions.node);
  }

  openWorker(row) {
    openDetail(`Worker ${row.name}`, [["agent", row.agent], ["host", row.hostname], ["pid", row.pid], ["state", chip(row.state)], ["CPU", percent(row.cpu_percent)], ["memory", bytes(row.rss_bytes)], ["running", row.function && `${row.function}, task ${row.task}, for ${seconds(row.task_seconds)}`], ["tasks", integer(row.sent)], ["queued", integer(row.queued)], ["capabilities", row.capabilities], ["last seen", `${seconds(row.last_seen_seconds)} ago`]]);
  }
}

class Stream {
  constructor() {
    const canvas = element("canvas", { tabindex: "0", role: "img", "aria-label": "Task stream: one lane for each worker, one bar for each task. Arrow keys move, plus and minus zoom, 0 shows all." });
    const tooltip = element("div", { class: "tooltip", hidden: true });
    this.legend = element("div", { class: "legend", "aria-label": "Legend" });
    this.note = element("span", { class: "note", "aria-live": "off" });
    this.stream = new TaskStream(canvas, tooltip, { onOpen: (bar) => showTask(bar.client, bar.number), onView: () => this.describe() });
    const choice = element("select", { "aria-label": "Colour by", onchange: (event) => { this.stream.colourBy = event.target.value; this.showLegend(); this.stream.draw(); } }, ...["function", "capability", "label", "state", "client"].map((name) => element("option", { value: name }, `colour by ${name}`)));
    this.node = element("div", {}, title("Task stream"), element("div", { class: "row" }, choice,
      element("button", { type: "button", onclick: () => this.stream.zoom(0.5) }, "Zoom in"), element("button", { type: "button", onclick: () => this.stream.zoom(2) }, "Zoom out"),
      element("button", { type: "button", onclick: () => this.stream.showAll() }, "Show all"), element("button", { type: "button", onclick: () => { this.stream.following = true; this.stream.draw(); } }, "Follow"),
      element("a", { href: "/api/trace", download: "scaler-trace.json" }, "Chrome trace"), this.note), element("div", { class: "stream" }, canvas, tooltip), this.legend);
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

class Tasks {
  constructor() {
    this.search = "";
    this.state = "";
    this.order = "newest";
    this.note = element("span", { class: "note" });
    const again = () => this.update();
    const states = element("select", { "aria-label": "State", onchange: (event) => { this.state = event.target.value; again(); } }, ...[["", "any state"], ["submitted", "submitted"], ["assigned", "assigned"], ["success", "success"], ["failed", "failed"], ["canceled", "canceled"], ["returned", "returned"]].map(([value, label]) => element("option", { value }, label)));
    const order = element("select", { "aria-label": "Order", onchange: (event) => { this.order = event.target.value; again(); } }, ...["newest", "oldest", "longest"].map((value) => element("option", { value }, `${value} first`)));
    this.table = new Table({ label: "Tasks", id: (row) => `${row.client}/${row.number}`, onOpen: (row) => showTask(row.client, row.number), empty: "no task matches", columns: [
      { key: "number", label: "task", number: true }, { key: "function", label: "function", mono: true }, { key: "state", label: "state", show: (row) => chip(row.state) },
      { key: "duration_seconds", label: "ran for", number: true, show: (row) => seconds(row.duration_seconds) }, { key: "waited_seconds", label: "waited", number: true, show: (row) => seconds(row.waited_seconds) },
      { key: "agent", label: "agent" }, { key: "client_name", label: "client" }, { key: "label", label: "label" }, { key: "tags", label: "tags" }, { key: "capabilities", label: "capabilities" }, { key: "submitted_at", label: "submitted", show: (row) => (row.submitted_at ? clockFine(row.submitted_at) : "") }, { key: "ended_at", label: "ended", show: (row) => (row.ended_at ? clockFine(row.ended_at) : "") },
    ] });
    this.node = element("div", {}, title("Tasks"), element("div", { class: "row" }, searchField("search function, agent, client, label, tag, capability, number", (text) => { this.search = text; again(); }), states, order), element("div", { class: "row" }, this.note), this.table.node);
  }

  async update() {
    const asked = `search=${encodeURIComponent(this.search)}&state=${this.state}&order=${this.order}&limit=300`;
    this.asked = asked;
    const data = await fetchJson(`/api/tasks?${asked}`);
    if (asked !== this.asked) return;
    this.note.textContent = `${integer(data.matching)} of the last ${integer(data.known)} tasks${data.stride > 1 ? ` (too many to show all: 1 of ${data.stride} is shown)` : ""}`;
    this.table.show(data.tasks, data.known ? undefined : "no task was submitted since scaler_ui started");
  }
}

class Errors {
  constructor() {
    this.search = "";
    this.table = new Table({ label: "Errors", id: (row) => `${row.failure}/${row.client}/${row.number}`, onOpen: showFailure, empty: "no task has failed", columns: [
      { key: "at", label: "at", show: (row) => clock(row.at) }, { key: "kind", label: "error", show: (row) => chip(row.kind) }, { key: "items", label: "items", number: true, show: (row) => (row.items ? integer(row.items) : "") }, { key: "text", label: "text", wide: true, show: (row) => row.text.split("\n")[0].slice(0, 200) },
      { key: "function", label: "function", mono: true }, { key: "number", label: "task", number: true }, { key: "attempt", label: "attempt", number: true }, { key: "client_name", label: "client" }, { key: "label", label: "label" }, { key: "agent", label: "agent" },
    ] });
    this.node = element("div", {}, title("Errors"), element("div", { class: "row" }, searchField("search errors, functions, agents", (text) => { this.search = text; this.update(); })), this.table.node);
  }

  async update() { this.table.show(await fetchJson(`/api/failures?limit=500&search=${encodeURIComponent(this.search)}`), this.search ? "no error matches" : undefined); }
}

class Clients {
  constructor() {
    this.table = new Table({ label: "Clients", id: (row) => row.id, sort: "name", empty: "no client is connected", onOpen: (row) => openDetail(`Client ${row.name}`, [["id", row.id], ["host", row.hostname], ["pid", row.pid], ["connected", `${elapsed(row.connected_seconds)} ago`], ["waiting", integer(row.waiting)], ["running", integer(row.running)], ["succeeded", integer(row.finished)], ["failed", integer(row.failed)], ["failed items of maps", integer(row.failed_items)], ["graphs", row.graphs], ["objects", `${integer(row.object_count)}, ${bytes(row.object_bytes)}`], ["nested", row.nested ? `runs inside a task${row.parent_name ? ` of ${row.parent_name}` : ""}` : ""]]), columns: [
      { key: "name", label: "client", show: (row) => (row.nested ? element("span", {}, row.parent_name || row.name, " ", chip("nested")) : row.name) }, { key: "hostname", label: "host" }, { key: "pid", label: "pid", number: true },
      { key: "waiting", label: "waiting", number: true, show: (row) => integer(row.waiting) }, { key: "running", label: "running", number: true, show: (row) => integer(row.running) }, { key: "finished", label: "succeeded", number: true, show: (row) => integer(row.finished) }, { key: "failed", label: "failed", number: true, show: (row) => integer(row.failed) }, { key: "failed_items", label: "failed items", number: true, show: (row) => integer(row.failed_items) },
      { key: "graphs", label: "graphs", number: true }, { key: "object_count", label: "objects", number: true, show: (row) => integer(row.object_count) }, { key: "object_bytes", label: "bytes", number: true, show: (row) => bytes(row.object_bytes) }, { key: "connected_seconds", label: "connected for", number: true, show: (row) => elapsed(row.connected_seconds) }, { key: "last_seen_seconds", label: "last seen", number: true, show: (row) => `${seconds(row.last_seen_seconds)} ago` },
    ] });
    this.node = element("div", {}, title("Clients"), this.table.node);
  }

  async update() { this.table.show(await fetchJson("/api/clients")); }
}

function progress(graph) {
  const bar = element("div", { class: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": String(graph.rows), "aria-valuenow": String(graph.done + graph.failed) });
  for (const part of ["done", "failed", "released"]) { const piece = element("i", { class: part }); piece.style.width = `${(100 * graph[part]) / Math.max(1, graph.rows)}%`; bar.append(piece); }
  return bar;
}

class Graphs {
  constructor() {
    const count = (key, label) => ({ key, label, number: true, show: (row) => integer(row[key]) });
    this.table = new Table({ label: "Graphs", id: (row) => `${row.client}/${row.first_number}`, sort: "client_name", empty: "no graph is in progress", columns: [
      { key: "client_name", label: "client" }, { key: "first_number", label: "first task", number: true }, { key: "progress", label: "progress", value: (row) => row.done / Math.max(1, row.rows), mark: (row) => `${row.done}/${row.failed}/${row.released}`, show: progress },
      count("rows", "nodes"), count("done", "done"), count("released", "ready or running"), count("waiting", "waiting"), count("failed", "failed"), count("held_results", "results in memory"),
    ] });
    this.node = element("div", {}, title("Graphs in progress"), this.table.node);
  }

  async update() { this.table.show(await fetchJson("/api/graphs")); }
}

class Objects {
  constructor() {
    this.facts = element("div", { class: "tiles" });
    this.holder = element("div", { role: "img", "aria-label": "Object memory over the last ten minutes" });
    this.table = new Table({ label: "Objects by client", id: (row) => row.id, sort: "object_bytes", descending: true, empty: "no connected client has objects", columns: [
      { key: "name", label: "client" }, { key: "object_count", label: "objects", number: true, show: (row) => integer(row.object_count) }, { key: "object_bytes", label: "bytes (shared objects counted for each client)", number: true, show: (row) => bytes(row.object_bytes) },
    ] });
    this.largest = new Table({ label: "Largest objects", id: (row) => row.id, sort: "size_bytes", descending: true, empty: "nothing is in object storage", columns: [
      { key: "name", label: "name", show: (row) => row.name || row.id.slice(0, 8) }, { key: "owner_name", label: "owner" }, { key: "size_bytes", label: "size", number: true, show: (row) => bytes(row.size_bytes) }, { key: "age_seconds", label: "stored for", number: true, show: (row) => elapsed(row.age_seconds) }, { key: "place", label: "where" }, { key: "tasks", label: "unfinished tasks", number: true, show: (row) => row.tasks === null ? "not counted" : integer(row.tasks) }, { key: "readers_waiting", label: "readers waiting", number: true, show: (row) => integer(row.readers_waiting) },
    ] });
    this.node = element("div", {}, title("Objects"), this.facts, element("div", { class: "grid" }, card("Memory in use", "identical objects count once", this.holder), card("By client", "", this.table.node)), card("Largest objects", "100 at most; unfinished tasks of the owner that name the object", this.largest.node));
  }

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
    this.table = new Table({ label: "Worker adapters", id: (row) => row.url, sort: "url", empty: "no worker adapter is in use", columns: [
      { key: "url", label: "adapter" }, { key: "state", label: "state", show: (row) => chip(row.state) }, { key: "groups", label: "groups", number: true }, { key: "requested_groups", label: "requested", number: true }, { key: "starting_groups", label: "starting", number: true },
      { key: "groups_max", label: "limit", number: true, show: (row) => row.groups_max ?? "no limit" }, { key: "workers_per_group", label: "workers per group", number: true }, { key: "capabilities", label: "capabilities" }, { key: "text", label: "last error", wide: true },
    ] });
    this.node = element("div", {}, title("Scaling"), this.note, this.table.node, element("div", { class: "grid" }, card("Requested and connected workers", "last hour", this.holder)));
  }

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

class Logs {
  constructor() {
    this.seen = 0;
    this.lines = [];
    this.words = "";
    this.level = 0;
    this.list = element("div", { class: "log card", tabindex: "0", role: "log", "aria-label": "Log of the scheduler" });
    const levels = element("select", { "aria-label": "Least severe level", onchange: (event) => { this.level = Number(event.target.value); this.show(); } }, element("option", { value: "0" }, "all levels"), ...LEVELS.slice(1).map(([value, name]) => element("option", { value: String(value) }, `${name} and worse`)));
    this.node = element("div", {}, title("Log of the scheduler"), element("div", { class: "row" }, searchField("search the log", (text) => { this.words = text.toLowerCase(); this.show(); }), levels), this.list);
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
    const shown = this.lines.filter((line) => line.level >= this.level && line.text.toLowerCase().includes(this.words));
    this.list.replaceChildren(...shown.map((line) => element("div", { class: `l${line.level}` }, element("span", { class: "time" }, clock(line.at)), `${LEVELS.findLast(([level]) => level <= line.level)?.[1] ?? line.level}  ${line.text}`)));
    if (!shown.length) this.list.replaceChildren(element("p", { class: "empty" }, this.lines.length ? "no line matches" : "the scheduler has logged nothing yet"));
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }
}

export const PAGES = [
  ["overview", "Overview", Overview], ["workers", "Workers", Workers], ["stream", "Task stream", Stream], ["tasks", "Tasks", Tasks], ["errors", "Errors", Errors],
  ["clients", "Clients", Clients], ["graphs", "Graphs", Graphs], ["objects", "Objects", Objects], ["scaling", "Scaling", Scaling], ["logs", "Log", Logs],
];

