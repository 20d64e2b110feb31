// How far a running task says that it is.

import { element, meter } from "./elements.js";
import { integer } from "./format.js";

const number = (value) => (Number.isInteger(value) ? integer(value) : String(value));

export function progress(said) {
  if (!said) return "";
  const text = [said.total === null ? number(said.done) : `${number(said.done)} of ${number(said.total)}`, said.note].filter(Boolean).join(", ");
  return said.total > 0 ? meter(said.done / said.total, text) : element("span", {}, text);
}
