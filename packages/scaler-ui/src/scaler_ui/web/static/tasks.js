// Single tasks: search, state, order, pages.

import * as address from "./address.js";
import { fetchJson } from "./data.js";
import { showTask } from "./details.js";
import { agentLink, chip, choice, clientLink, closeDetail, element, functionLink, labelLink, searchField, Table, taskLink, time, title, workerLink } from "./elements.js";
import { clockFine, integer } from "./format.js";
import { progress } from "./progress.js";

const PAGE_ROWS = 200;
const STATES = [["", "any state"], ["submitted", "waiting"], ["assigned", "assigned"], ["success", "succeeded"], ["failed", "failed"], ["canceled", "canceled"]];
const ORDERS = [["newest", "newest first"], ["oldest", "oldest first"], ["longest", "longest first"], ["waited", "waited longest first"]];

export class Tasks {
  constructor() {
    this.note = element("span", { class: "note", role: "status" });
    this.only = element("span", { class: "row only" });
    const again = () => this.again();
    this.search = searchField("search function, agent, client, label, tag, capability, number", again);
    this.states = choice("state", "State", STATES, again);
    this.order = choice("order", "Order", ORDERS, again);
    this.newer = element("button", { type: "button", onclick: () => this.turn(-1) }, "Previous page");
    this.older = element("button", { type: "button", onclick: () => this.turn(1) }, "Next page");
    this.table = new Table({ label: "Tasks", id: (row) => `${row.client}/${row.number}`, onOpen: (row) => showTask(row.client, row.number), empty: "no task matches", columns: [
      { key: "number", label: "task", number: true, show: (row) => taskLink(row.client, row.number) }, { key: "function", label: "function", mono: true, show: (row) => functionLink(row.function) }, { key: "state", label: "state", show: (row) => chip(row.state) },
      time("duration_seconds", "ran for"), time("waited_seconds", "waited"),
      { key: "worker", label: "worker", mark: (row) => `${row.agent}/${row.worker}`, show: (row) => (row.worker ? workerLink(row.agent, row.worker) : agentLink(row.agent)) },
      { key: "progress", label: "progress", mark: (row) => JSON.stringify(row.progress), show: (row) => progress(row.progress) },
      { key: "client_name", label: "client", show: (row) => clientLink(row.client, row.client_name) }, { key: "label", label: "label", show: (row) => labelLink(row.label) }, { key: "tags", label: "tags" }, { key: "capabilities", label: "capabilities" },
      { key: "submitted_at", label: "submitted", show: (row) => (row.submitted_at ? clockFine(row.submitted_at) : "") }, { key: "ended_at", label: "ended", show: (row) => (row.ended_at ? clockFine(row.ended_at) : "") },
    ] });
    this.node = element("div", {}, title("Tasks"), element("div", { class: "row" }, this.search, this.states, this.order), element("div", { class: "row" }, this.note, this.only, this.newer, this.older), this.table.node);
    this.newer.hidden = this.older.hidden = true;
  }

  // A request that fails is made again with the next second's update.
  again() { this.update().catch(() => {}); }

  get page() { return Math.max(1, Math.floor(Number(address.get("page", "1"))) || 1); }

  turn(by) {
    address.set({ page: this.page + by > 1 ? this.page + by : null }, { push: true });
    this.again();
  }

  addressChanged() {
    this.search.value = address.get("search");
    this.states.value = address.get("state");
    this.order.value = address.get("order", "newest");
    this.openShown();
    this.again();
  }

  openShown() {
    this.opened = true;
    const [client, number] = address.get("show").split("/");
    if (number) showTask(client, number);
    else closeDetail();
  }

  async update() {
    const [fn, client] = [address.get("function"), address.get("client")];
    const asked = new URLSearchParams({ search: address.get("search"), state: this.states.value, order: this.order.value, function: fn, client, limit: PAGE_ROWS, offset: (this.page - 1) * PAGE_ROWS }).toString();
    this.asked = asked;
    if (!this.opened) this.openShown();
    const data = await fetchJson(`/api/tasks?${asked}`);
    if (asked !== this.asked) return;
    const pages = Math.max(1, Math.ceil(data.matching / PAGE_ROWS));
    this.note.textContent = `${integer(data.matching)} of the last ${integer(data.known)} tasks${data.stride > 1 ? ` (too many to show all: 1 of ${data.stride} is shown)` : ""}${pages > 1 ? `, page ${this.page} of ${pages}` : ""}`;
    this.newer.hidden = this.older.hidden = pages === 1 && this.page === 1;
    this.newer.disabled = this.page === 1;
    this.older.disabled = this.page >= pages;
    this.showOnly(fn, client, data);
    this.table.show(data.tasks, data.known ? undefined : "no task was submitted since scaler_ui started");
  }

  showOnly(fn, client, data) {
    if (this.shownOnly === `${fn}/${client}`) return;
    this.shownOnly = `${fn}/${client}`;
    const chipOf = (name, text) => element("button", { type: "button", class: "filter", "aria-label": `Show not only ${text}`, onclick: () => { address.set({ [name]: null, page: null }, { push: true }); this.again(); } }, `only ${text} ✕`);
    this.only.replaceChildren(...(fn ? [chipOf("function", fn)] : []), ...(client ? [chipOf("client", data.tasks[0]?.client_name ?? `client ${client.slice(0, 8)}`)] : []));
  }
}
