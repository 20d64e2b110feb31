// Jobs: sets of tasks that outlive the program that submitted them.

import * as address from "./address.js";
import { fetchJson } from "./data.js";
import { chip, closeDetail, count, element, link, meter, openDetail, searchField, size, Table, title } from "./elements.js";
import { bytes, clock, elapsed, integer, rate, remaining } from "./format.js";

const ended = (row) => row.done + row.failed + row.canceled + row.lost;
const share = (row) => meter(row.tasks ? ended(row) / row.tasks : 0, `${integer(ended(row))} of ${integer(row.tasks)}`);
const day = (at) => `${new Date(at * 1000).toLocaleDateString()} ${clock(at)}`;
const left = (row, now) => (row.expires_at === null ? "" : `in ${elapsed(Math.max(0, row.expires_at - now))}`);

export class Jobs {
  constructor() {
    this.note = element("span", { class: "note", role: "status" });
    this.search = searchField("search name, owner", () => this.show());
    this.table = new Table({ label: "Jobs", id: (row) => row.name, sort: "started_at", descending: true, name: "sort", empty: "there are no jobs", onOpen: (row) => this.open(row), columns: [
      { key: "name", label: "job" }, { key: "tasks", label: "ended", number: true, mark: (row) => `${ended(row)}/${row.tasks}`, show: share },
      { key: "seconds_left", label: "time left", number: true, mark: (row) => remaining(row.seconds_left), show: (row) => remaining(row.seconds_left) }, count("waiting", "waiting"), count("running", "running"), count("done", "done"), count("failed", "failed"), count("canceled", "canceled"), count("lost", "lost"),
      size("size_bytes", "kept"), { key: "closed", label: "submitted", value: (row) => Number(row.closed), show: (row) => (row.closed ? "all" : "open") }, { key: "started_at", label: "made", number: true, show: (row) => day(row.started_at) },
      { key: "expires_at", label: "forgotten", number: true, mark: (row) => left(row, this.now), show: (row) => left(row, this.now) }, { key: "owner", label: "owner" }, { key: "notice", label: "cannot run", wide: true },
    ] });
    this.node = element("div", {}, title("Jobs"), element("div", { class: "row" }, this.search, this.note), this.table.node);
  }

  addressChanged() {
    this.search.value = address.get("search");
    this.table.readAddress();
    this.show();
    this.openShown();
  }

  async update(overview) {
    this.now = overview.time ?? 0;
    this.data = await fetchJson("/api/jobs");
    this.show();
    if (!this.opened) this.openShown();
  }

  show() {
    if (!this.data) return;
    const words = address.get("search").toLowerCase();
    const { jobs, count: known } = this.data;
    this.note.textContent = known > jobs.length ? `${integer(jobs.length)} of ${integer(known)} jobs: those that changed last` : "";
    this.table.show(jobs.filter((row) => `${row.name} ${row.owner}`.toLowerCase().includes(words)), words ? "no job matches" : undefined);
  }

  openShown() {
    this.opened = true;
    const name = address.get("show");
    if (!name) { closeDetail(); return; }
    const row = this.data?.jobs.find((one) => one.name === name);
    if (row) this.open(row);
    else openDetail(`Job ${name}`, [["", this.data ? "there is no job of this name now" : "waiting for figures…"]], [], name);
    if (!this.data) this.opened = false;
  }

  open(row) {
    const counts = ["waiting", "running", "done", "failed", "canceled", "lost"].filter((state) => row[state]).map((state) => [state, integer(row[state])]);
    openDetail(`Job ${row.name}`, [["owner", row.owner], ["tasks", integer(row.tasks)], ["time left", row.seconds_left ? `${remaining(row.seconds_left)}, at ${rate(row.per_second)} tasks per second` : remaining(row.seconds_left)], ...counts, ["kept", bytes(row.size_bytes)], ["submitted", row.closed ? "all of it" : "it takes further tasks"], ["made", day(row.started_at)],
      ["forgotten", left(row, this.now) || "not before its tasks have ended"], ["cannot run", row.notice && element("span", {}, chip("warning"), " ", row.notice)]],
      [element("p", { class: "row" }, link("tasks", { client: row.client }, "its tasks"))], row.name);
  }
}
