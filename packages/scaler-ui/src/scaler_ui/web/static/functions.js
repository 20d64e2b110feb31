// Which function takes the time, which one fails, which one waits.

import * as address from "./address.js";
import { cancelButton } from "./cancel.js";
import { fetchJson } from "./data.js";
import { breakable, closeDetail, count, element, link, meter, openDetail, searchField, size, Table, time, title } from "./elements.js";
import { bytes, clock, integer, percent, rate, seconds } from "./format.js";
import { range, RangeChoice, rangeText } from "./range.js";

const share = (row) => (row.failed_share === null ? "" : row.failed_share ? percent(100 * row.failed_share) : "0 %");

// What workers do around a task, besides running it.
const overhead = (row) => (row.overhead_share ? percent(100 * row.overhead_share) : "");

export class Functions {
  constructor() {
    this.words = address.get("search").toLowerCase();
    this.note = element("p", { class: "note" });
    this.table = new Table({ label: "Functions", id: (row) => row.name, sort: "total_seconds", descending: true, name: "sort", empty: "no function has been called", onOpen: (row) => this.open(row), columns: [
      { key: "name", label: "function", mono: true, show: (row) => link("tasks", { function: row.name }, breakable(row.name)) },
      { key: "total_seconds", label: "total time", number: true, mark: (row) => `${row.total_seconds}/${this.whole}`, show: (row) => meter(row.total_seconds / Math.max(1e-9, this.whole), seconds(row.total_seconds)) },
      count("running", "running now"), count("unfinished", "unfinished"), count("ended", "ended"), { key: "failed_share", label: "failed", number: true, mark: (row) => `${row.failed_share}`, show: (row) => (row.failed ? element("a", { href: address.href("errors", { search: row.name }), class: "bad" }, share(row)) : share(row)) }, { key: "per_second", label: "per second", number: true, show: (row) => rate(row.per_second) },
      time("mean_seconds", "mean"), time("p50_seconds", "p50"), time("p95_seconds", "p95"), time("max_seconds", "longest"), time("mean_wait_seconds", "mean wait"),
      { key: "overhead_share", label: "overhead", number: true, show: (row) => overhead(row) },
      size("memory_bytes", "memory now"),
    ] });
    this.search = searchField("search functions", (text) => { this.words = text.toLowerCase(); this.show(); });
    this.range = new RangeChoice(() => this.again());
    this.profile = element("div");
    const profile = element("button", { type: "button", onclick: () => this.openProfile() }, "Profile…");
    this.node = element("div", {}, element("div", { class: "row" }, title("Functions"), this.range.node), element("div", { class: "row" }, this.search, profile), this.note, this.profile, this.table.node);
    if (address.get("profile")) this.openProfile();
  }

  async openProfile() {
    const { openProfile } = await import("./flame.js");
    openProfile(this.profile);
  }

  destroy() { this.profile.firstChild?.stop?.(); }

  addressChanged() {
    this.search.value = address.get("search");
    this.words = this.search.value.toLowerCase();
    this.table.readAddress();
    this.range.readAddress();
    this.again();
    this.show();
    this.openShown();
  }

  // A request that fails is made again with the next second's update.
  again() { this.update(this.latest).catch(() => {}); }

  async update(overview) {
    this.latest = overview;
    const asked = range();
    const data = await fetchJson(`/api/functions?seconds=${asked}`);
    if (asked !== range()) return;
    this.data = data;
    this.range.show(data.since ? (overview?.time ?? data.since) - data.since : 0);
    this.show();
    if (!this.opened) this.openShown();
  }

  show() {
    if (!this.data) return;
    const { functions, stride } = this.data;
    this.whole = functions.reduce((sum, row) => sum + row.total_seconds, 0);
    this.note.textContent = `${range() ? `Tasks that ended in the ${rangeText()}` : "Since scaler_ui started"}${stride > 1 ? `; too many tasks to see all: estimated from 1 of ${stride}` : ""}. p50 and p95: 50 and 95 of 100 tasks took no longer. Memory: of the largest worker that runs it now. Overhead: the share of its workers' time that goes into reading arguments and writing results.`;
    this.table.show(functions.filter((row) => row.name.toLowerCase().includes(this.words)), this.words ? "no function matches" : range() ? `no task has ended in the ${rangeText()}` : undefined);
  }

  openShown() {
    const name = address.get("show");
    this.opened = true;
    if (!name) { closeDetail(); return; }
    const row = this.data?.functions.find((one) => one.name === name);
    if (row) this.open(row);
    else openDetail(name, [["", range() ? `no task of this function has ended in the ${rangeText()}` : "no task of this function was seen since scaler_ui started"]], [], name);
  }

  open(row) {
    openDetail(row.name, [
      ["running now", integer(row.running)], ["unfinished", integer(row.unfinished)], ["ended", `${integer(row.ended)}, ${rate(row.per_second)} per second now`],
      ["failed", `${integer(row.failed)}${row.failed_share === null ? "" : ` (${share(row)})`}, ${integer(row.failed_since_start)} since the scheduler started`], ["canceled", integer(row.canceled)],
      ["mean", seconds(row.mean_seconds)], ["p50", seconds(row.p50_seconds)], ["p95", seconds(row.p95_seconds)], ["longest", seconds(row.max_seconds)], ["total time", seconds(row.total_seconds)], ["mean wait", seconds(row.mean_wait_seconds)],
      ["reading arguments", row.read_seconds ? `${seconds(row.read_seconds)} in all` : ""], ["writing results", row.write_seconds ? `${seconds(row.write_seconds)} in all` : ""],
      ["memory now", row.memory_bytes === null ? "" : `${bytes(row.memory_bytes)}, the largest worker that runs it`], ["last ended", row.last_at && clock(row.last_at)],
    ], [element("p", { class: "row" }, link("tasks", { function: row.name }, "its tasks"), link("tasks", { function: row.name, order: "longest" }, "its longest tasks"), link("errors", { search: row.name }, "its errors")),
      ...(row.unfinished ? [element("p", { class: "row" }, cancelButton("Cancel its tasks", `all unfinished tasks of ${row.name}`, { function: row.name }))] : [])], row.name);
  }
}
