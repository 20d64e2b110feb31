// Single tasks: search, state, order, pages.

import * as address from "./address.js";
import { cancelButton } from "./cancel.js";
import { fetchJson } from "./data.js";
import { showTask } from "./details.js";
import { agentLink, chip, choice, clientLink, closeDetail, element, functionLink, growing, labelLink, searchField, Table, taskLink, time, title, workerLink } from "./elements.js";
import { clockFine, integer, remaining } from "./format.js";
import { progress } from "./progress.js";

const PAGE_ROWS = 200;
const STATES = [["", "any state"], ["submitted", "waiting"], ["assigned", "assigned"], ["success", "succeeded"], ["failed", "failed"], ["canceled", "canceled"]];
// The protocol's names of a state, where there are several, and how many tasks are in it.
const NAMES = { submitted: ["submitted", "returned"] };
const countOf = (states, state) => (state ? NAMES[state] ?? [state] : Object.keys(states)).reduce((sum, name) => sum + states[name], 0);
// Kinds of reasons why tasks wait, as in "waiting for a free worker".
const KINDS = [["busy", "for a free worker"], ["resources", "for resources"], ["limit", "for the limit of their group"], ["capability", "for a capability"], ["place", "for one worker or host"], ["pause", "for another attempt"], ["no worker", "without workers"], ["memory", "for object memory"], ["assigning", "about to be assigned"]];
const whyText = (row) => (row.waits ? (row.pause_seconds > 0 ? `failed, runs again in ${remaining(row.pause_seconds)}` : row.waits.text) : "");
const waited = (row) => growing(row.waited_seconds, row.state === "submitted" || row.state === "returned");
// States beside which a reason may be chosen.
const WAITS = ["", "submitted"];
const ENDED = ["success", "failed", "canceled"];
// Orders of links that were passed on before columns could be sorted.
const ORDERS = { oldest: "submitted_at", longest: "-duration_seconds", waited: "-waited_seconds" };
// The filters that a link may set; the first word is that of the address.
const FILTERS = ["function", "client", "label"];

export class Tasks {
  constructor() {
    this.readOrder();
    this.note = element("span", { class: "note", role: "status" });
    this.only = element("span", { class: "row only" });
    const again = () => { address.set({ after: null, before: null, ...(WAITS.includes(this.states.value) ? {} : { why: null }) }); this.again(); };
    this.search = searchField("search function, worker, client, label, tag, capability, number", again);
    this.states = choice("state", "State", STATES, again);
    this.counts = STATES.map(([state, word]) => {
      const count = element("b");
      return { state, count, node: element("a", { class: `facet ${state}`, href: "#tasks" }, state ? `${word} ` : "all ", count) };
    });
    this.facets = element("div", { class: "row facets states", role: "group", "aria-label": "How many tasks there are" }, ...this.counts.map((one) => one.node));
    this.kinds = KINDS.map(([why, word]) => {
      const count = element("b");
      return { why, count, node: element("a", { class: "facet", href: "#tasks", hidden: true }, `${word} `, count) };
    });
    this.unlisted = element("span", { class: "unlisted" });
    this.reasons = element("div", { class: "row facets whys", role: "group", "aria-label": "Why tasks wait", hidden: true }, element("span", {}, "waiting"), ...this.kinds.map((one) => one.node), this.unlisted);
    this.newer = element("button", { type: "button", onclick: () => this.turn({ before: this.data?.previous }) }, "Previous page");
    this.older = element("button", { type: "button", onclick: () => this.turn({ after: this.data?.next }) }, "Next page");
    this.table = new Table({ label: "Tasks", name: "sort", sort: "submitted_at", descending: true, onSort: again, id: (row) => `${row.client}/${row.number}`, onOpen: (row) => showTask(row.client, row.number), empty: "no task matches", columns: [
      { key: "number", label: "task", number: true, show: (row) => taskLink(row.client, row.number) }, { key: "function", label: "function", mono: true, show: (row) => functionLink(row.function) }, { key: "state", label: "state", mark: (row) => `${row.state}/${whyText(row)}`, show: (row) => element("span", {}, chip(row.state), row.waits ? element("span", { class: "why" }, whyText(row)) : "") },
      time("duration_seconds", "ran for"), { key: "waited_seconds", label: "waited", number: true, mark: waited, show: waited },
      { key: "worker", label: "worker", mark: (row) => `${row.agent}/${row.worker}`, show: (row) => (row.worker ? workerLink(row.agent, row.worker) : agentLink(row.agent)) },
      { key: "progress", label: "progress", mark: (row) => JSON.stringify(row.progress), show: (row) => progress(row.progress) },
      { key: "client_name", label: "client", show: (row) => clientLink(row.client, row.client_name) }, { key: "label", label: "label", show: (row) => labelLink(row.label) }, { key: "tags", label: "tags" }, { key: "capabilities", label: "capabilities" },
      { key: "submitted_at", label: "submitted", show: (row) => (row.submitted_at ? clockFine(row.submitted_at) : "") }, { key: "ended_at", label: "ended", show: (row) => (row.ended_at ? clockFine(row.ended_at) : "") },
    ] });
    this.node = element("div", {}, title("Tasks"), element("div", { class: "row" }, this.search, this.states), this.facets, this.reasons, element("div", { class: "row" }, this.note, this.only, this.newer, this.older), this.table.node);
    this.newer.hidden = this.older.hidden = true;
  }

  // A request that fails is made again with the next second's update.
  again() { this.update().catch(() => {}); }

  turn(to) {
    address.set({ after: null, before: null, ...to }, { push: true });
    this.again();
  }

  readOrder() {
    const sort = ORDERS[address.get("order")];
    if (sort) address.set({ order: null, sort });
  }

  addressChanged() {
    this.readOrder();
    this.search.value = address.get("search");
    this.states.value = address.get("state");
    this.table.readAddress();
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
    const filters = Object.fromEntries(FILTERS.map((name) => [name, address.get(name)]));
    const asked = new URLSearchParams({ search: address.get("search"), state: this.states.value, why: address.get("why"), sort: `${this.table.descending ? "-" : ""}${this.table.sort}`, after: address.get("after"), before: address.get("before"), limit: PAGE_ROWS, ...filters }).toString();
    this.asked = asked;
    this.linkCounts();
    if (!this.opened) this.openShown();
    const data = await fetchJson(`/api/tasks?${asked}`);
    if (asked !== this.asked) return;
    this.data = data;
    const pages = data.previous || data.next;
    const shown = data.tasks.length ? `, ${integer(data.offset + 1)} to ${integer(data.offset + data.tasks.length)}` : "";
    this.note.textContent = `${integer(data.matching)} of the last ${integer(data.known)} tasks${data.stride > 1 ? ` (too many to show all: 1 of ${data.stride} is shown)` : ""}${pages ? shown : ""}`;
    this.newer.hidden = this.older.hidden = !pages;
    this.newer.disabled = !data.previous;
    this.older.disabled = !data.next;
    this.showCounts(data);
    this.showOnly(filters, data);
    this.table.show(data.tasks, data.known ? undefined : "no task was submitted since scaler_ui started");
  }

  // Links to the same page with another state: what else is asked for stays.
  linkCounts() {
    const kept = { ...Object.fromEntries(address.parse().params), after: null, before: null, show: null };
    for (const { state, node } of this.counts) {
      node.setAttribute("href", address.href("tasks", { ...kept, state, why: null }));
      this.mark(node, state === this.states.value);
    }
    for (const { why, node } of this.kinds) {
      node.setAttribute("href", address.href("tasks", { ...kept, state: "submitted", why }));
      this.mark(node, why === address.get("why"));
    }
  }

  mark(node, isCurrent) {
    if (isCurrent) node.setAttribute("aria-current", "true");
    else node.removeAttribute("aria-current");
  }

  showCounts({ states, reasons, waiting_for_tasks: unlisted }) {
    for (const { state, count, node } of this.counts) {
      const tasks = countOf(states, state);
      count.textContent = integer(tasks);
      node.classList.toggle("some", tasks > 0);
    }
    for (const { why, count, node } of this.kinds) {
      count.textContent = integer(reasons[why]);
      node.hidden = !reasons[why] && why !== address.get("why");
    }
    this.unlisted.textContent = unlisted ? `${integer(unlisted)} more for results of other tasks: listed here when they have them` : "";
    this.reasons.hidden = !WAITS.includes(this.states.value) || !(unlisted || address.get("why") || countOf(states, "submitted"));
  }

  showOnly(filters, data) {
    const name = data.tasks[0]?.client_name ?? `client ${filters.client.slice(0, 8)}`;
    const words = { function: filters.function, client: name, label: `label ${filters.label}` };
    const set = FILTERS.filter((one) => filters[one]);
    // Words are searched here, and the scheduler does not know them: what is cancelled would be more than what is shown.
    const cancels = set.length > 0 && !address.get("search") && !ENDED.includes(this.states.value);
    const mark = JSON.stringify([filters, words, cancels]);
    if (this.shownOnly === mark) return;
    this.shownOnly = mark;
    const chipOf = (one) => element("button", { type: "button", class: "filter", "aria-label": `Show not only ${words[one]}`, onclick: () => { address.set({ [one]: null, after: null, before: null }, { push: true }); this.again(); } }, `only ${words[one]} ✕`);
    const what = `all unfinished tasks of ${set.map((one) => words[one]).join(", and of ")}`;
    this.only.replaceChildren(...set.map(chipOf), ...(cancels ? [cancelButton("Cancel them", what, Object.fromEntries(set.map((one) => [one, filters[one]])))] : []));
  }
}
