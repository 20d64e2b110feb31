// Failures in groups: what fails, how often, since when.

import * as address from "./address.js";
import { fetchJson } from "./data.js";
import { chip, closeDetail, count, element, functionLink, link, openDetail, searchField, stateWord, Table, taskLink, title } from "./elements.js";
import { errorParts, failureFacts } from "./details.js";
import { clock, clockFine, integer } from "./format.js";
import { Output } from "./output.js";
import { range, RangeChoice, rangeText } from "./range.js";

const [NEW_SECONDS, SETTLED_SECONDS] = [600, 60];

const SVG = "http://www.w3.org/2000/svg";

// One bar for each part of the range: of the last hour, where that is all.
function sparkline(counts) {
  const most = Math.max(1, ...counts);
  const part = (range() || 3600) / counts.length;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${counts.length * 2} 20`);
  svg.setAttribute("class", "sparkline");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${integer(counts.reduce((sum, one) => sum + one, 0))} in the ${range() ? rangeText() : "last hour"}, ${integer(counts.at(-1))} in the last ${part < 60 ? `${part} s` : "minute"}`);
  counts.forEach((one, at) => {
    if (!one) return;
    const height = Math.max(2, (18 * one) / most);
    const bar = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x: at * 2, y: 20 - height, width: 1.6, height })) bar.setAttribute(name, value);
    svg.append(bar);
  });
  return svg;
}

export class Errors {
  constructor() {
    this.words = address.get("search");
    this.table = new Table({ label: "Errors", id: (row) => String(row.group), sort: "last_at", descending: true, name: "sort", onOpen: (row) => this.open(row.group), empty: "no task has failed", columns: [
      { key: "kind", label: "error", mark: (row) => `${row.kind}/${this.isNew(row)}`, show: (row) => element("span", {}, chip(row.kind), this.isNew(row) ? " " : "", this.isNew(row) ? chip("new") : "") }, { key: "text", label: "text", wide: true, mark: (row) => row.text, show: (row) => row.text }, count("recent", "failures"),
      { key: "trend", label: "when", value: (row) => row.trend.reduce((sum, one) => sum + one, 0), mark: (row) => row.trend.join(), show: (row) => sparkline(row.trend) },
      { key: "function", label: "function", mono: true, show: (row) => functionLink(row.function) }, { key: "items", label: "items", number: true, show: (row) => (row.items ? integer(row.items) : "") },
      { key: "first_at", label: "first", show: (row) => clock(row.first_at) }, { key: "last_at", label: "last", show: (row) => clock(row.last_at) }, { key: "client_name", label: "last client" }, { key: "agent", label: "last agent" },
    ] });
    this.search = searchField("search errors, functions, texts", (text) => { this.words = text; this.again(); });
    this.range = new RangeChoice(() => this.again());
    this.node = element("div", {}, element("div", { class: "row" }, title("Errors"), this.range.node), element("p", { class: "note" }, "Failures of one type in one function whose texts differ only in numbers, quoted words, paths and ids are one line, with the newest text. New: first seen in the last ten minutes, and a minute or more after the oldest error."), element("div", { class: "row" }, this.search), this.table.node);
  }

  addressChanged() {
    this.search.value = address.get("search");
    this.table.readAddress();
    this.range.readAddress();
    if (this.asked !== range()) this.again();
    if (this.words !== this.search.value) { this.words = this.search.value; this.again(); }
    this.openShown();
  }

  // Errors that have come while others were there already: what somebody has changed may be their cause.
  isNew(row) { return row.first_at > Math.max(this.now - NEW_SECONDS, this.oldest + SETTLED_SECONDS); }

  async update(data) {
    this.now = data.time ?? 0;
    this.range.show(this.since ? this.now - this.since : 0);
    const part = Math.floor((data.time ?? 0) / (range() && range() < 3600 ? 10 : 60));
    // Nothing is asked for until something has failed, or a part of the range is over.
    if (this.seen !== `${data.incarnation}/${data.failures}/${part}`) {
      // The range moves on with each part: then all are asked for, and otherwise what has changed.
      await this.load(this.base !== `${data.incarnation}/${part}`);
      this.base = `${data.incarnation}/${part}`;
      this.seen = `${data.incarnation}/${data.failures}/${part}`;
    }
    if (!this.opened) this.openShown();
  }

  // A request that fails is made again with the next second's update.
  again() { this.load().catch(() => { this.seen = ""; }); }

  async load(whole = true) {
    const [asked, seconds] = [this.words, range()];
    this.asked = seconds;
    const data = await fetchJson(`/api/errors?limit=500&seconds=${seconds}&search=${encodeURIComponent(asked)}&seen=${whole ? 0 : this.changes ?? 0}`);
    if (asked !== this.words || seconds !== range()) return;
    this.since = data.since;
    this.range.show(this.now - this.since);
    if (data.whole) this.groups = new Map();
    for (const group of data.groups) this.groups.set(group.group, group);
    this.changes = data.changes;
    this.oldest = Math.min(this.oldest ?? Infinity, ...[...this.groups.values()].map((row) => row.first_at));
    this.table.show([...this.groups.values()], asked ? "no error matches" : seconds ? `no task has failed in the ${rangeText()}` : undefined);
  }

  openShown() {
    this.opened = true;
    const group = address.get("show");
    if (group) this.open(group);
    else closeDetail();
  }

  async open(group) {
    const failures = await fetchJson(`/api/errors/${encodeURIComponent(group)}`).catch(() => []);
    if (!failures.length) { openDetail("Error", [["", "this error is not known any more: only the last 1,000 failures are kept"]], [], String(group)); return; }
    const [last] = failures;
    const others = new Table({ label: "Failures", id: (row) => String(row.failure), sort: "at", descending: true, columns: [
      { key: "at", label: "at", show: (row) => clockFine(row.at) }, { key: "number", label: "task", number: true, show: (row) => taskLink(row.client, row.number) }, { key: "attempt", label: "attempts", number: true }, { key: "client_name", label: "client" }, { key: "text", label: "text", wide: true, show: (row) => row.text.split("\n")[0].slice(0, 200) },
    ] });
    others.show(failures);
    openDetail(`${stateWord(last.kind)} in ${last.function}`, failureFacts(last), [
      element("p", { class: "row" }, link("tasks", { function: last.function, state: "failed" }, "open in tasks")), ...errorParts(last), new Output(last.client, last.number).node, element("h3", {}, failures.length === 1 ? "The only failure kept" : `The last ${integer(failures.length)} failures`), others.node,
    ], String(group));
  }
}
