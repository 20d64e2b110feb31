// Makes elements, and tables that change in place: a row keeps its element, so focus and scroll position stay.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const chip = (text) => element("span", { class: `chip ${text}` }, text);

export function meter(share, text) {
  const bar = element("i");
  bar.style.width = `${Math.max(0, Math.min(100, share * 100))}%`;
  return element("span", {}, element("span", { class: "meter", "aria-hidden": "true" }, bar), text);
}

export function card(title, note, ...children) {
  return element("section", { class: "card" }, element("header", {}, element("h2", {}, title), element("span", { class: "note" }, note ?? "")), ...children);
}

const collator = new Intl.Collator("en", { numeric: true });

// columns: { key, label, number, wide, mono, value(row) for sorting, show(row) text or element, mark(row) what `show` depends on
// where that is more than row[key] }. `onOpen(row)` makes rows open something.
export class Table {
  constructor({ columns, id, label, sort, descending = false, onOpen = null, empty = "no rows", rowsMax = 1000 }) {
    Object.assign(this, { columns, id, sort, descending, onOpen, rowsMax, empty });
    this.emptyNow = empty;
    this.rows = new Map();
    this.data = [];
    this.heads = columns.map((column) => this.#head(column));
    this.body = element("tbody");
    this.table = element("table", { class: "data", "aria-label": label }, element("thead", {}, element("tr", {}, ...this.heads)), this.body);
    this.note = element("p", { class: "empty" }, empty);
    this.node = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, this.table, this.note);
    this.#markSorted();
  }

  #head(column) {
    const head = element("th", { scope: "col", class: column.number ? "number" : undefined, "data-key": column.key });
    if (this.sort === undefined) head.append(element("span", {}, column.label));
    else head.append(element("button", { type: "button", onclick: () => this.sortBy(column) }, column.label));
    return head;
  }

  sortBy(column) {
    this.descending = this.sort === column.key ? !this.descending : Boolean(column.number);
    this.sort = column.key;
    this.#markSorted();
    this.show(this.data, this.emptyNow);
  }

  #markSorted() {
    this.columns.forEach((column, at) => {
      if (column.key === this.sort) this.heads[at].setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else this.heads[at].removeAttribute("aria-sort");
    });
  }

  #ordered(data) {
    const column = this.columns.find((candidate) => candidate.key === this.sort);
    if (!column) return data;
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
      if (!present.has(id)) { row.node.remove(); this.rows.delete(id); }
    }
    let previous = null;
    for (const item of ordered) {
      const row = this.#row(item);
      const expected = previous === null ? this.body.firstChild : previous.nextSibling;
      if (row.node !== expected) this.body.insertBefore(row.node, expected);
      previous = row.node;
    }
    this.note.textContent = data.length ? `${data.length - ordered.length} more rows are not shown` : empty;
    this.note.hidden = data.length > 0 && data.length === ordered.length;
  }

  #row(item) {
    const id = this.id(item);
    let row = this.rows.get(id);
    if (!row) {
      const cells = this.columns.map((column) => element("td", { class: [column.number && "number", column.wide && "wide", column.mono && "mono"].filter(Boolean).join(" ") || undefined }));
      row = { node: element("tr", {}, ...cells), cells, shown: [], item };
      if (this.onOpen) {
        row.node.tabIndex = 0;
        row.node.addEventListener("click", () => this.onOpen(row.item));
        row.node.addEventListener("keydown", (event) => { if (event.key === "Enter") this.onOpen(row.item); });
      }
      this.rows.set(id, row);
    }
    row.item = item;
    this.columns.forEach((column, at) => {
      const mark = column.mark ? column.mark(item) : item[column.key];
      if (row.shown[at] === mark && at in row.shown) return;
      row.shown[at] = mark;
      const shown = column.show ? column.show(item) : mark ?? "";
      row.cells[at].replaceChildren(shown instanceof Node ? shown : String(shown));
    });
    return row;
  }
}

export function openDetail(title, facts, ...children) {
  const dialog = document.getElementById("detail");
  document.getElementById("detail-title").textContent = title;
  const list = element("dl");
  for (const [name, value] of facts) {
    if (value === "" || value === null || value === undefined) continue;
    list.append(element("dt", {}, name), element("dd", {}, value));
  }
  document.getElementById("detail-body").replaceChildren(list, ...children);
  if (!dialog.open) dialog.showModal();
}
