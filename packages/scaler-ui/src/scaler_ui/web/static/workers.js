// Workers by host, with their last ten minutes; and a list of all workers and agents.

import * as address from "./address.js";
import { fetchJson } from "./data.js";
import { age, agentLink, chip, choice, closeDetail, count, element, functionLink, link, meter, openDetail, searchField, size, Table, time, title } from "./elements.js";
import { bytes, integer, percent, plural, seconds } from "./format.js";
import { range, RangeChoice, rangeText } from "./range.js";
import { sparkline } from "./sparklines.js";

const VIEWS = [["", "hosts"], ["all", "all workers and agents"]];

const last = (values) => values.at(-1) ?? 0;

const KEPT = "last ten minutes";

// How many values the range has.
let slots = 60;

const past = () => (slots < 60 ? rangeText() : KEPT);

function busy(row) {
  return element("span", { class: "measured" }, sparkline(row.busy, 100, `busy in the ${past()}, ${last(row.busy)} % now`, slots), `${last(row.busy)} %`);
}

// Against the limit of a process, else against what its host has.
function memory(row, limit) {
  const most = limit || Math.max(1, ...row.memory);
  return element("span", { class: "measured" }, sparkline(row.memory, most, `memory in the ${past()}, ${bytes(row.rss_bytes)} now`, slots), limit ? `${bytes(row.rss_bytes)} of ${bytes(limit)}` : bytes(row.rss_bytes));
}

const reasonList = (reasons) => (reasons.length ? element("ul", { class: "reasons" }, ...reasons.slice(0, 4).map((reason) => element("li", {}, reason)), ...(reasons.length > 4 ? [element("li", {}, `and ${plural(reasons.length - 4, "more reason")}`)] : [])) : "");

// "cores=2,mem=8GiB" may break behind its commas.
const amounts = (text) => element("span", {}, ...text.split(",").flatMap((part, place) => (place ? [",", element("wbr"), part] : [part])));
const amountsColumn = (key, label) => ({ key, label, show: (row) => (row[key] ? amounts(row[key]) : "") });

class HostWorkers {
  constructor(host, onOpen) {
    this.table = new Table({ label: `Workers of ${host}`, id: (row) => `${row.agent}/${row.name}/${row.pid}`, sort: "name", onOpen, empty: "it has no workers", columns: [
      { key: "name", label: "worker" }, { key: "state", label: "state", mark: (row) => `${row.state}${row.reasons.length}`, show: (row) => element("span", {}, chip(row.state), row.reasons.length ? " " : "", row.reasons.length ? element("span", { class: "chip sick" }, "sick") : "") },
      { key: "reasons", label: "what is wrong", value: (row) => row.reasons.length, mark: (row) => row.reasons.join(), show: (row) => reasonList(row.reasons) },
      { key: "busy", label: "busy", number: true, value: (row) => last(row.busy), mark: (row) => row.busy.join(), show: busy }, { key: "rss_bytes", label: "memory", number: true, mark: (row) => `${row.memory.join()}/${row.limit_bytes}`, show: (row) => memory(row, row.limit_bytes) },
      { key: "function", label: "running function", mono: true, show: (row) => functionLink(row.function) }, { key: "task_seconds", label: "running for", number: true, mark: (row) => (row.function ? row.task_seconds : -1), show: (row) => (row.function ? seconds(row.task_seconds) : "") },
      count("ended", "ended in range"), count("queued", "queued"), { key: "replaced", label: "processes replaced", number: true, show: (row) => (row.replaced ? integer(row.replaced) : "") },
    ] });
    this.node = this.table.node;
  }
}

export class Workers {
  constructor() {
    this.nested = new Map();
    this.hosts = new Table({ label: "Hosts", id: (row) => row.name, sort: "name", name: "hosts", onOpen: (row) => this.toggle(row.name), empty: "no worker is connected", under: (row) => this.under(row), columns: [
      { key: "name", label: "host", mark: (row) => `${row.name}/${this.isOpen(row.name)}`, show: (row) => this.fold(row) },
      { key: "reasons", label: "condition", value: (row) => row.reasons.length, mark: (row) => `${row.draining}/${row.reasons.join()}`, show: (row) => this.condition(row) },
      { key: "workers", label: "workers", number: true, mark: (row) => `${row.running}/${row.workers}`, show: (row) => `${integer(row.running)} of ${integer(row.workers)} run` },
      { key: "busy", label: "busy", number: true, value: (row) => last(row.busy), mark: (row) => row.busy.join(), show: busy }, { key: "rss_bytes", label: "memory of workers", number: true, mark: (row) => `${row.memory.join()}/${row.memory_bytes}`, show: (row) => memory(row, row.memory_bytes) },
      size("free_bytes", "host memory free"), count("tasks", "tasks"), count("queued", "queued"), amountsColumn("capabilities", "capabilities"), { key: "devices", label: "devices", mark: (row) => row.devices.join(), show: (row) => row.devices.join(", ") },
      amountsColumn("resources", "resources offered"), amountsColumn("resources_used", "in use"), { key: "version", label: "version" },
    ] });
    this.agents = new Table({ label: "Agents", id: (row) => `${row.hostname}/${row.name}/${row.pid}`, sort: "name", name: "agents", onOpen: (row) => this.openAgent(row), empty: "no agent is connected", columns: [
      { key: "name", label: "agent" }, { key: "hostname", label: "host" }, count("workers", "workers"), count("assigned", "tasks"), count("queued", "queued"), count("capacity", "capacity"),
      { key: "cpu_percent", label: "agent CPU", number: true, show: (row) => percent(row.cpu_percent) }, size("rss_bytes", "agent memory"), size("rss_free_bytes", "host memory free"), time("latency_seconds", "latency"),
      age("last_seen_seconds", "last seen"), amountsColumn("capabilities", "capabilities"), { key: "draining", label: "draining", show: (row) => (row.draining ? chip("draining") : "") },
    ] });
    this.workers = new Table({ label: "Workers", id: (row) => `${row.agent}/${row.name}/${row.pid}`, sort: "name", name: "sort", onOpen: (row) => this.openWorker(row), empty: "no worker is connected", columns: [
      { key: "name", label: "worker" }, { key: "state", label: "state", show: (row) => chip(row.state) },
      { key: "cpu_percent", label: "CPU", number: true, show: (row) => meter(row.cpu_percent / 100, percent(row.cpu_percent)) }, size("rss_bytes", "memory"),
      { key: "function", label: "running function", mono: true, show: (row) => functionLink(row.function) }, { key: "task_seconds", label: "running for", number: true, mark: (row) => (row.function ? row.task_seconds : -1), show: (row) => (row.function ? seconds(row.task_seconds) : "") },
      count("sent", "tasks"), count("working", "begun"), count("queued", "queued"), count("free", "free"), { key: "pid", label: "pid", number: true }, { key: "agent", label: "agent", show: (row) => agentLink(row.agent) },
    ] });
    this.words = address.get("search").toLowerCase();
    this.search = searchField("search workers, functions, agents", (text) => { this.words = text.toLowerCase(); this.again(); });
    this.view = choice("view", "What is listed", VIEWS, () => this.again());
    this.range = new RangeChoice(() => this.again());
    this.byHost = element("div", {}, this.hosts.node);
    this.all = element("div", {}, this.workers.node, element("h2", { class: "section" }, "Agents"), this.agents.node);
    this.holder = element("div");
    this.node = element("div", {}, element("div", { class: "row" }, title("Workers"), this.range.node), element("div", { class: "row" }, this.search, this.view), this.holder);
    this.showView();
  }

  // Words are looked for among all workers: a host that is folded would hide what was found.
  get listsAll() { return this.view.value === "all" || this.words !== ""; }

  showView() {
    const shown = this.listsAll ? this.all : this.byHost;
    if (this.holder.firstChild !== shown) this.holder.replaceChildren(shown);
    this.range.node.hidden = this.listsAll;
  }

  again() {
    this.showView();
    this.update().catch(() => {});
  }

  addressChanged() {
    this.search.value = address.get("search");
    this.words = this.search.value.toLowerCase();
    this.view.value = address.get("view");
    this.workers.readAddress();
    this.agents.readAddress();
    this.hosts.readAddress();
    this.range.readAddress();
    this.again();
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

  // Which hosts are unfolded. A single one is, unless somebody has folded it.
  get openHosts() {
    const named = address.get("open", null);
    if (named !== null) return new Set(named.split(",").filter((name) => name && name !== "-"));
    return new Set(this.hostData?.hosts.length === 1 ? [this.hostData.hosts[0].name] : []);
  }

  isOpen(name) { return this.openHosts.has(name); }

  toggle(name) {
    const open = this.openHosts;
    if (!open.delete(name)) open.add(name);
    address.set({ open: [...open].join(",") || "-" }, { push: true });
    this.showHosts();
    this.again();
  }

  fold(row) {
    const open = this.isOpen(row.name);
    return element("button", { type: "button", class: "fold", "aria-expanded": String(open), "aria-label": `${row.name}, workers`, onclick: (event) => { event.stopPropagation(); this.toggle(row.name); } }, `${open ? "▾" : "▸"}\u00a0${row.name}`);
  }

  condition(row) {
    if (row.reasons.length) return element("span", {}, element("span", { class: "chip sick" }, "look at this"), reasonList(row.reasons));
    return chip(row.draining ? "draining" : "well");
  }

  under(row) {
    if (!row.members || !this.isOpen(row.name)) return null;
    let nested = this.nested.get(row.name);
    if (!nested) { nested = new HostWorkers(row.name, (worker) => this.openWorker(worker)); this.nested.set(row.name, nested); }
    nested.table.show(row.members);
    return nested.node;
  }

  async update() {
    if (this.listsAll || (!this.opened && address.get("show"))) this.data = await fetchJson("/api/workers");
    if (!this.listsAll) {
      const asked = range();
      const query = new URLSearchParams([...[...this.openHosts].slice(0, 50).map((name) => ["open", name]), ["seconds", asked]]);
      const data = await fetchJson(`/api/hosts?${query}`);
      if (asked !== range()) return;
      this.hostData = data;
      slots = Math.max(2, data.spans);
      this.range.show(data.kept_spans * data.span_seconds);
      this.showHosts();
    }
    this.show();
    if (!this.opened) this.openShown();
  }

  showHosts() {
    if (!this.hostData) return;
    const { hosts } = this.hostData;
    for (const name of this.nested.keys()) if (!hosts.some((host) => host.name === name)) this.nested.delete(name);
    this.hosts.show(hosts);
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
    openDetail(`Agent ${row.name}`, [["host", row.hostname], ["pid", row.pid], ["version", row.version], ["workers", link("workers", { search: row.name }, integer(row.workers))], ["capabilities", row.capabilities], ["tasks", integer(row.assigned)], ["not started", integer(row.queued)], ["memory free", bytes(row.rss_free_bytes)]], [functions.node]);
  }

  openWorker(row) {
    openDetail(`Worker ${row.name}`, [["agent", agentLink(row.agent)], ["host", row.hostname], ["pid", row.pid], ["state", chip(row.state)], ["what is wrong", row.reasons?.length ? reasonList(row.reasons) : ""], ["CPU", percent(row.cpu_percent)], ["memory", row.limit_bytes ? `${bytes(row.rss_bytes)}, of ${bytes(row.limit_bytes)} that it may have` : bytes(row.rss_bytes)], ["running", row.function && `${row.function}, task ${row.task}, for ${seconds(row.task_seconds)}`], ["tasks", integer(row.sent)], ["queued", integer(row.queued)], ["capabilities", row.capabilities], ["set up by clients", row.environment], ["last seen", `${seconds(row.last_seen_seconds)} ago`]],
      [element("p", { class: "row" }, row.function && link("functions", { show: row.function }, "its function"), link("tasks", { search: row.name }, "its tasks"), link("tasks", { search: row.agent }, "tasks of its agent"))], `${row.agent}/${row.name}`);
  }
}
