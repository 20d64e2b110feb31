// The range of time that all pages share. The address keeps it as "range", in seconds; without it, it is all that is kept.

import * as address from "./address.js";
import { element } from "./elements.js";
import { elapsed } from "./format.js";

const RANGES = [["60", "last 1 min"], ["300", "last 5 min"], ["900", "last 15 min"], ["3600", "last 1 h"], ["", "all kept"]];

const about = (value) => (value < 60 ? elapsed(value) : value < 5400 ? `${Math.floor(value / 60)} min` : `${(value / 3600).toFixed(1)} h`);

// In seconds; 0: all that is kept. A range that is none of these, of an older link, is the next longer one.
export function range() {
  const asked = Number(address.get("range"));
  return asked > 0 ? Number(RANGES.find(([seconds]) => Number(seconds) >= asked)?.[0] ?? 0) : 0;
}

// In words, as in "failures, last 5 min".
export const rangeText = () => RANGES.find(([seconds]) => Number(seconds) === range())[1];

export class RangeChoice {
  constructor(onChange) {
    this.select = element("select", { "aria-label": "Time range", onchange: () => { address.set({ range: this.select.value }, { push: true }); onChange(); } }, ...RANGES.map(([value, text]) => element("option", { value }, text)));
    this.note = element("span", { class: "known" });
    this.node = element("span", { class: "range" }, this.note, this.select);
    this.readAddress();
  }

  readAddress() { this.select.value = range() || ""; }

  // `known`: of how many seconds something is known. Said where that is less than the range, or where the range is all of it.
  show(known) {
    const text = !(known > 0) ? "" : !range() ? `${about(known)} are kept` : known < range() - 1 ? `only the last ${about(known)} are known` : "";
    if (this.note.textContent !== text) this.note.textContent = text;
  }
}
