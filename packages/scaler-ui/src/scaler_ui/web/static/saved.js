// Saved filters: for each page some addresses with names, kept in this browser. A browser may refuse to keep anything, as in a
// frame on another site: then the dialog says so, and nothing else changes.

import * as address from "./address.js";
import { element } from "./elements.js";

const KEY = "saved-filters";
const NAMES_MAX = 30;
const NAME_CHARACTERS_MAX = 60;
const ADDRESS_CHARACTERS_MAX = 2000;
// Where a visitor is on the page, and not what it shows.
const PASSING = ["show", "after", "before"];

// All that is kept: [{ name, query }] by page. Null: the browser keeps nothing.
function read() {
  let text;
  try { text = window.localStorage.getItem(KEY); } catch { return null; }
  try {
    const kept = JSON.parse(text ?? "{}");
    return typeof kept === "object" && kept !== null ? kept : {};
  } catch { return {}; }
}

// Whatever else may have been written there is left out.
function listOf(kept, page) {
  const list = Array.isArray(kept[page]) ? kept[page] : [];
  return list.filter((one) => typeof one?.name === "string" && typeof one?.query === "string").slice(0, NAMES_MAX);
}

function write(kept, page, list) {
  try { window.localStorage.setItem(KEY, JSON.stringify({ ...kept, [page]: list })); return true; } catch { return false; }
}

function shownNow() {
  const { page, params } = address.parse();
  for (const name of PASSING) params.delete(name);
  return { page, query: params.toString() };
}

const REFUSED = "This browser keeps nothing for these pages, as in private windows or in frames on other sites, so filters cannot be saved here. A bookmark of the address does the same.";

// `label`: what the page is called.
export function openSaved(label) {
  document.getElementById("saved-title").textContent = `Saved filters of ${label}`;
  show("");
  document.getElementById("saved").showModal();
}

function show(said) {
  const { page, query } = shownNow();
  const kept = read();
  const note = element("p", { class: "note", role: "status" }, said);
  const body = document.getElementById("saved-body");
  if (!kept) { note.textContent = REFUSED; body.replaceChildren(note); return; }
  const list = listOf(kept, page);
  const put = (next, text) => show(write(kept, page, next) ? text : REFUSED);
  const row = (one) => element("li", {},
    element("a", { class: "kept-address", href: address.href(page, Object.fromEntries(new URLSearchParams(one.query))), "aria-current": one.query === query ? "true" : undefined, onclick: () => document.getElementById("saved").close() }, one.name),
    element("button", { type: "button", class: "quiet", "aria-label": `Forget ${one.name}`, onclick: () => put(list.filter((other) => other !== one), `${one.name} is forgotten.`) }, "✕"));
  const name = element("input", { type: "text", "aria-label": "Name for what is shown now", placeholder: "name for what is shown now", maxlength: NAME_CHARACTERS_MAX, required: true });
  const save = (event) => {
    event.preventDefault();
    const called = name.value.trim();
    if (!called) return;
    const others = list.filter((one) => one.name !== called);
    if (others.length >= NAMES_MAX) { note.textContent = `${NAMES_MAX} filters are kept of a page; forget one first.`; return; }
    put([...others, { name: called, query }].sort((one, other) => one.name.localeCompare(other.name)), `${called} is saved.`);
  };
  const why = !query ? "The page shows everything now: choose a filter, an order or a range first." : query.length > ADDRESS_CHARACTERS_MAX ? "This filter is too long to be saved." : "";
  body.replaceChildren(list.length ? element("ul", { class: "saved" }, ...list.map(row)) : element("p", { class: "empty" }, "none yet"),
    why ? element("p", { class: "note" }, why) : element("form", { onsubmit: save }, name, element("button", {}, "Save")), note);
}
