// Makes elements, and tables that change in place: a row keeps its element, so focus and scroll position stay.

import * as address from "./address.js";
import { bytes, elapsed, integer, seconds } from "./format.js";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const title = (text) => element("h1", {}, text);

// The words of people for states, which the data names as the protocol does.
const WORDS = { submitted: "waiting", returned: "waiting", success: "succeeded", processor_died: "processor died", worker_died: "worker died", timed_out: "timed out" };

export const stateWord = (state) => WORDS[state] ?? state;

export const chip = (text) => element("span", { class: `chip ${text}` }, stateWord(text));

export const link = (page, params, text) => element("a", { href: address.href(page, params) }, text);

const isPlain = (event) => event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

// Whether a link shows this row of the page it is on: then it opens as the row does, and the filter and order stay.
function leadsTo(target, id) {
  const there = address.parse(target.hash ?? "");
  return there.page === address.parse().page && there.params.get("show") === id;
}

// A name that may break behind its dots and underscores, where a table needs the room.
export const breakable = (name) => element("span", {}, ...name.split(/(?<=[._])/).flatMap((part, place) => (place ? [element("wbr"), part] : [part])));

// Names lead to what they name, on every page.
export const functionLink = (name) => (name ? link("functions", { show: name }, breakable(name)) : "");
export const taskLink = (client, number) => link("tasks", { show: `${client}/${number}` }, String(number));
export const clientLink = (id, name) => (id ? link("clients", { show: id }, name || id.slice(0, 8)) : name);
export const agentLink = (agent) => (agent ? link("workers", { search: agent }, agent) : "");
export const workerLink = (agent, worker) => (worker ? link("workers", { show: `${agent}/${worker}` }, worker) : agentLink(agent));
export const labelLink = (label) => (label ? link("tasks", { label }, label) : "");

export function meter(share, text) {
  const bar = element("i");
  bar.style.width = `${Math.max(0, Math.min(100, share * 100))}%`;
  return element("span", { class: "measured" }, element("span", { class: "meter", "aria-hidden": "true" }, bar), text);
}

export function card(heading, note, ...children) {
  return element("section", { class: "card" }, element("header", {}, element("h2", {}, heading), element("span", { class: "note" }, note ?? "")), ...children);
}

export function searchField(label, onInput) {
  let timer = null;
  const field = element("input", { type: "search", placeholder: label, "aria-label": label, maxlength: "200", oninput: () => { clearTimeout(timer); timer = setTimeout(() => { address.set({ search: field.value, after: null, before: null }); onInput(field.value); }, 150); } });
  field.value = address.get("search");
  return field;
}

// A choice that is kept in the address under `name`.
export function choice(name, label, options, onChange) {
  const select = element("select", { "aria-label": label, onchange: () => { address.set({ [name]: select.value === options[0][0] ? null : select.value, after: null, before: null }, { push: true }); onChange(select.value); } }, ...options.map(([value, text]) => element("option", { value }, text)));
  select.value = address.get(name, options[0][0]);
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  return select;
}

export function copyButton(text) {
  const button = element("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(text()); button.textContent = "Copied"; } catch { button.textContent = "Cannot copy here"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } }, "Copy");
  return button;
}

const collator = new Intl.Collator("en", { numeric: true });

// Columns of usual kinds.
export const count = (key, label) => ({ key, label, number: true, show: (row) => integer(row[key]) });
export const size = (key, label) => ({ key, label, number: true, show: (row) => (row[key] === null ? "" : bytes(row[key])) });
export const time = (key, label) => ({ key, label, number: true, show: (row) => seconds(row[key]) });
// `goesOn`: it still grows, so hundredths would only flicker.
export const growing = (value, goesOn) => (goesOn && value >= 1 ? elapsed(value) : seconds(value));
export const age = (key, label) => ({ key, label, number: true, show: (row) => `${elapsed(row[key])} ago` });

// columns: { key, label, number, wide, mono, value(row) for sorting, show(row) text or element, mark(row) what `show` depends on
// where that is more than row[key] }. `onOpen(row)` makes rows open something. `name`: where the address keeps the order.
// `fixed`: nothing is sorted by it. `under(row)`: what stands below the row in its full width, or null.
// `onSort`: called for another order, where the rows come in it already.
export class Table {
  constructor({ columns, id, label, sort, descending = false, onOpen = null, empty = "no rows", rowsMax = 1000, name = null, onSort = null, under = null }) {
    Object.assign(this, { columns, id, onOpen, rowsMax, empty, name, onSort, under, usual: { sort, descending } });
    this.emptyNow = empty;
    this.rows = new Map();
    this.data = null;
    this.sortable = sort !== undefined;
    this.heads = columns.map((column) => this.#head(column));
    this.body = element("tbody", { role: "rowgroup" });
    this.table = element("table", { class: "data", "aria-label": label, role: "table" }, element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...this.heads)), this.body);
    this.note = element("p", { class: "empty loading" }, "waiting for figures…");
    this.choice = this.sortable ? element("select", { "aria-label": `Order of ${label}`, onchange: () => this.sortBy(columns.find((column) => column.key === this.choice.value)) }, ...columns.filter((column) => !column.fixed).map((column) => element("option", { value: column.key }, `by ${column.label}`))) : null;
    this.scroller = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, this.table, this.note);
    this.node = element("div", { class: "table" }, this.choice && element("div", { class: "sort-choice" }, this.choice), this.scroller);
    this.readAddress();
  }

  readAddress() {
    const kept = this.name ? address.get(this.name) : "";
    const key = kept.replace(/^-/, "");
    if (this.columns.some((column) => column.key === key && !column.fixed)) Object.assign(this, { sort: key, descending: kept.startsWith("-") });
    else Object.assign(this, this.usual);
    this.#markSorted();
    if (this.data) this.show(this.data, this.emptyNow);
  }

  #head(column) {
    const head = element("th", { scope: "col", role: "columnheader", class: column.number ? "number" : undefined, "data-key": column.key });
    if (!this.sortable || column.fixed) head.append(element("span", {}, column.label));
    else head.append(element("button", { type: "button", onclick: () => this.sortBy(column) }, column.label));
    return head;
  }

  sortBy(column) {
    this.descending = this.sort === column.key ? !this.descending : Boolean(column.number);
    this.sort = column.key;
    if (this.name) {
      const usual = this.sort === this.usual.sort && this.descending === this.usual.descending;
      address.set({ [this.name]: usual ? null : `${this.descending ? "-" : ""}${this.sort}` }, { push: true });
    }
    this.#markSorted();
    if (this.onSort) this.onSort();
    else if (this.data) this.show(this.data, this.emptyNow);
  }

  #markSorted() {
    this.columns.forEach((column, at) => {
      if (column.key === this.sort) this.heads[at].setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else this.heads[at].removeAttribute("aria-sort");
    });
    if (this.choice) this.choice.value = this.sort;
  }

  #ordered(data) {
    const column = this.columns.find((candidate) => candidate.key === this.sort);
    if (!column || this.onSort) return data;
    const value = column.value ?? ((row) => row[column.key]);
    const sign = this.descending ? -1 : 1;
    return [...data].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "string" || typeof y === "string" ? collator.compare(x ?? "", y ?? "") : (x ?? -Infinity) - (y ?? -Infinity);
      return sign * order || collator.compare(this.id(a), this.id(b));
    });
  }

  // `empty`: the text to show when there are no rows, if it differs from the table's own.
  show(data, empty = this.empty) {
    this.data = data;
    this.emptyNow = empty;
    const ordered = this.#ordered(data).slice(0, this.rowsMax);
    const present = new Set(ordered.map(this.id));
    for (const [id, row] of this.rows) {
      if (!present.has(id)) { row.node.remove(); row.below?.remove(); this.rows.delete(id); }
    }
    let previous = null;
    for (const item of ordered) {
      const row = this.#row(item);
      const expected = previous === null ? this.body.firstChild : previous.nextSibling;
      if (row.node !== expected) this.body.insertBefore(row.node, expected);
      previous = row.node;
      const under = this.under?.(item);
      if (under) {
        row.below ??= element("tr", { role: "row", class: "below" }, element("td", { role: "cell", colspan: String(this.columns.length) }));
        if (row.below.firstChild.firstChild !== under) row.below.firstChild.replaceChildren(under);
        if (row.below !== previous.nextSibling) this.body.insertBefore(row.below, previous.nextSibling);
        previous = row.below;
      } else row.below?.remove();
    }
    this.note.classList.remove("loading");
    this.note.textContent = data.length ? `${data.length - ordered.length} more rows are not shown` : empty;
    this.note.hidden = data.length > 0 && data.length === ordered.length;
    this.table.hidden = !data.length;
  }

  #row(item) {
    const id = this.id(item);
    let row = this.rows.get(id);
    if (!row) {
      const cells = this.columns.map((column) => element("td", { role: "cell", "data-label": column.label, class: [column.number && "number", column.wide && "wide", column.mono && "mono"].filter(Boolean).join(" ") || undefined }));
      row = { node: element("tr", { role: "row" }, ...cells), cells, shown: [], item };
      if (this.onOpen) {
        row.node.tabIndex = 0;
        row.node.addEventListener("click", (event) => {
          const target = event.target.closest("a, button");
          if (target && !(isPlain(event) && leadsTo(target, id))) return;
          event.preventDefault();
          this.onOpen(row.item);
        });
        row.node.addEventListener("keydown", (event) => { 
          if (event.key !== "Enter" || event.target !== row.node) return;
          // Otherwise the same key would press the button that closes it, which has the focus then.
          event.preventDefault();
          this.onOpen(row.item);
        });
      }
      this.rows.set(id, row);
    }
    row.item = item;
    this.columns.forEach((column, at) => {
      const mark = column.mark ? column.mark(item) : item[column.key];
      if (row.shown[at] === mark && at in row.shown) return;
      row.shown[at] = mark;
      const shown = column.show ? column.show(item) : mark ?? "";
      row.cells[at].replaceChildren(...(shown instanceof Node ? [shown] : shown === "" ? [] : [String(shown)]));
    });
    return row;
  }
}

// `show`: what the address calls it, so that the link can be passed on. Closing it takes that out again.
export function openDetail(heading, facts, children = [], show = null) {
  const dialog = document.getElementById("detail");
  document.getElementById("detail-title").textContent = heading;
  const list = element("dl");
  for (const [name, value] of facts) {
    if (value === "" || value === null || value === undefined) continue;
    list.append(element("dt", {}, name), element("dd", {}, value));
  }
  document.getElementById("detail-body").replaceChildren(list, ...children);
  dialog.dataset.show = show ?? "";
  if (show !== null) address.set({ show }, { push: address.get("show") === "" });
  if (!dialog.open) dialog.showModal();
}

// The address has moved on already.
export function closeDetail() {
  const dialog = document.getElementById("detail");
  dialog.dataset.show = "";
  if (dialog.open) dialog.close();
}

// Called when a visitor has closed it.
export function detailClosed() {
  const { open, dataset } = document.getElementById("detail");
  if (!open && dataset.show && address.get("show") === dataset.show) address.set({ show: null });
}
