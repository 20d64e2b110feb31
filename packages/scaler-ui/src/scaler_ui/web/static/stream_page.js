// The page of the task stream: what stands around the drawing, and the same as a table.

import * as address from "./address.js";
import { showTask } from "./details.js";
import { choice, closeDetail, count, element, functionLink, Table, time, title } from "./elements.js";
import { integer, plural, seconds } from "./format.js";
import { range, RangeChoice } from "./range.js";
import { TaskStream } from "./stream.js";

const LEGEND_MAX = 24;
const SUMMARY_MAX = 100;

const swatch = (colour) => { const square = element("i", { class: "swatch" }); square.style.background = colour; return square; };

export class Stream {
  constructor() {
    const canvas = element("canvas", { tabindex: "0", role: "img", "aria-describedby": "stream-note", "aria-label": "Task stream: a lane for each worker, under its host, and a bar for each task; above them the share of busy workers. Arrow keys move, plus and minus zoom, 0 shows all, n and p go to failures, f folds hosts. The table below says the same in words." });
    const tooltip = element("div", { class: "tooltip", hidden: true });
    const button = (text, act, more = {}) => element("button", { type: "button", onclick: act, ...more }, text);
    this.legend = element("div", { class: "legend", role: "group", "aria-label": "Legend: press one to see only its tasks" });
    this.note = element("span", { class: "note", id: "stream-note" });
    this.said = element("p", { class: "note", "aria-live": "polite", hidden: true });
    this.stream = new TaskStream(canvas, tooltip, { onOpen: (bar) => showTask(bar.client, bar.number), onView: () => this.describe(), onSay: (text) => { this.said.hidden = false; this.said.textContent = text; } });
    this.colour = choice("colour", "Colour by", ["function", "capability", "label", "state", "client"].map((name) => [name, `colour by ${name}`]), () => this.recolourBy());
    this.stream.colourBy = this.colour.value;
    this.range = new RangeChoice(() => this.showRange());
    this.host = element("select", { "aria-label": "Host", onchange: () => { address.set({ host: this.host.value || null }, { push: true }); this.stream.lanes.host = this.host.value; this.stream.draw(); } }, element("option", { value: "" }, "all hosts"));
    this.stream.lanes.host = address.get("host");
    this.failures = button("Next failure", () => this.stream.nextFailure(1));
    this.table = new Table({ label: "Tasks in view", id: (row) => String(row.value), sort: "seconds", descending: true, empty: "no task is in view", columns: [
      { key: "name", label: "name", mono: true, mark: (row) => `${row.name}/${row.colour}`, show: (row) => element("span", {}, swatch(row.colour), this.colour.value === "function" ? functionLink(row.name) : row.name) },
      count("tasks", "tasks"), count("failed", "failed"), time("seconds", "total time"), { key: "mean", label: "mean", number: true, value: (row) => row.seconds / row.tasks, mark: (row) => row.seconds / row.tasks, show: (row) => seconds(row.seconds / row.tasks) }, time("longest", "longest"),
    ] });
    this.summary = element("div", { hidden: true }, this.table.node);
    this.asTable = button("What is in view, as a table", () => { this.summary.hidden = !this.summary.hidden; this.asTable.setAttribute("aria-expanded", String(!this.summary.hidden)); this.showSummary(); }, { class: "summary", "aria-expanded": "false" });
    this.node = element("div", {}, element("div", { class: "row" }, title("Task stream"), this.range.node), element("div", { class: "row" }, this.colour, this.host,
      button("Zoom in", () => this.stream.zoom(0.5)), button("Zoom out", () => this.stream.zoom(2)), button("Show all", () => this.stream.showAll()), button("Follow", () => { this.stream.following = true; this.stream.draw(); }),
      button("Fold hosts", () => this.stream.foldAll()), this.failures, element("a", { href: "/api/trace", download: "scaler-trace.json" }, "Chrome trace"), this.note), this.said, element("div", { class: "stream" }, canvas, tooltip), this.legend, this.asTable, this.summary);
  }

  recolourBy() { Object.assign(this.stream, { colourBy: this.colour.value, only: null, paletteOf: "" }); this.showLegend(); this.showSummary(); this.stream.draw(); }

  addressChanged() {
    this.colour.value = address.get("colour", "function");
    this.stream.lanes.host = this.host.value = address.get("host");
    this.recolourBy();
    if (Number(this.range.select.value) !== range()) { this.range.readAddress(); this.showRange(); }
    if (!address.get("show")) closeDetail();
  }

  // Shows the range. One may zoom from there: the range is where that begins, and what "Show all" shows.
  showRange() {
    this.stream.range = range();
    this.stream.showAll();
  }

  async update(data) {
    this.stream.stride = data.stride;
    const { bars } = this.stream;
    const first = bars.seen === 0;
    const fresh = await bars.update(() => this.stream.draw());
    this.range.show(bars.length ? this.stream.lastTime - bars.firstStart : 0);
    if (first && bars.length && range()) this.showRange();
    else if (first && bars.length) this.stream.span = Math.min(60, Math.max(2, this.stream.lastTime - bars.firstStart) * 1.02);
    if (!fresh && !this.stale) return;
    // What ran until now has ended.
    this.stale = bars.running.length > 0;
    this.showLegend();
    this.showHosts();
    this.showSummary();
    this.stream.draw();
  }

  showHosts() {
    const { hosts } = this.stream.lanes;
    if (this.host.length !== hosts.length + 1) this.host.replaceChildren(element("option", { value: "" }, "all hosts"), ...hosts.map((name) => element("option", { value: name }, name)));
    this.host.value = this.stream.lanes.host;
    this.host.hidden = hosts.length < 2 && !this.stream.lanes.host;
  }

  showLegend() {
    const { names, colourOf, column } = this.stream.key();
    const values = column === "state" ? [2, 3, 4] : [...names.keys()].slice(0, LEGEND_MAX);
    const { running, failed } = this.stream.bars;
    const mark = [column, this.stream.only, ...values.map((value) => names[value]), names.length, running.length > 0, failed.length > 0].join("/");
    if (mark === this.legendOf) return;
    this.legendOf = mark;
    const focused = [...this.legend.children].indexOf(document.activeElement);
    const entry = (value) => element("button", { type: "button", "aria-pressed": String(this.stream.only === value), onclick: () => { this.stream.only = this.stream.only === value ? null : value; this.showLegend(); this.stream.draw(); } }, swatch(colourOf(value)), names[value]);
    const bad = element("span", {}, swatch("var(--failed)"), "failed");
    this.legend.replaceChildren(...values.map(entry), ...(names.length > values.length ? [`and ${names.length - values.length} more`] : []), ...(column === "state" || !failed.length ? [] : [bad]), ...(running.length ? [element("span", {}, element("i", { class: "hatched" }), "still running")] : []));
    this.legend.children[focused]?.focus();
  }

  showSummary() {
    // Once at least, so that it never says that figures are awaited.
    if (!this.stream.lanes.tops || (this.summary.hidden && this.table.data?.length)) return;
    const { colourOf } = this.stream.key();
    this.table.show(this.stream.summary().slice(0, SUMMARY_MAX).map((row) => ({ ...row, colour: colourOf(row.value) })));
  }

  describe() {
    const { bars, following, span, lanes, stride } = this.stream;
    const parts = [`${plural(bars.length, "task")} on ${plural(bars.lanes.length, "worker")}`, `${seconds(span)} shown${following ? ", following" : ""}`];
    if (bars.running.length) parts.push(`${integer(bars.running.length + bars.runningOmitted)} running${bars.runningOmitted ? `, of which ${integer(bars.runningOmitted)} are not drawn` : ""}`);
    if (bars.failed.length) parts.push(`${integer(bars.failed.length)} failed`);
    if (stride > 1) parts.push(`too many tasks to draw all: 1 of ${stride} is drawn`);
    const text = bars.length || bars.running.length ? parts.join("; ") : "no task has ended since scaler_ui started";
    if (this.note.textContent !== text) this.note.textContent = text;
    this.failures.disabled = !bars.failed.length;
    if (lanes.hosts.length + 1 !== this.host.length) this.showHosts();
    if (!this.summary.hidden || !this.table.data?.length) this.summaryDue ??= setTimeout(() => { this.summaryDue = undefined; this.showSummary(); }, 250);
  }

  shown() { this.stream.start(); }

  recolour() { this.stream.recolour(); this.legendOf = ""; this.showLegend(); }

  destroy() { clearTimeout(this.summaryDue); this.stream.destroy(); }
}
