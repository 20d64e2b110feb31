// What happened while workers were started and stopped: who asked for how many and why, and what came.

import { chip, element, Table } from "./elements.js";
import { clock, integer } from "./format.js";

const DAY_SECONDS = 86400;

const when = (unix) => (Date.now() / 1000 - unix > DAY_SECONDS ? new Date(unix * 1000).toLocaleString("en-GB") : clock(unix));

export function scalingEvents() {
  return new Table({ label: "Scaling events", id: (row) => String(row.number), sort: "number", descending: true, name: "events", empty: "no worker was started or stopped yet", columns: [
    { key: "number", label: "when", mark: (row) => row.at, show: (row) => element("time", { datetime: new Date(row.at * 1000).toISOString() }, when(row.at)) },
    { key: "kind", label: "what", show: (row) => chip(row.kind) }, { key: "groups", label: "worker groups", number: true, show: (row) => (row.groups ? integer(row.groups) : "") },
    { key: "reason", label: "why", wide: true }, { key: "adapter", label: "adapter" },
  ] });
}
