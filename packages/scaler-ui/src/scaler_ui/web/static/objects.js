// Objects in storage: memory over time, by client, and all objects a page at a time.

import * as address from "./address.js";
import { Chart } from "./charts.js";
import { fetchJson, history } from "./data.js";
import { card, clientLink, count, element, link, searchField, Table, title } from "./elements.js";
import { bytes, elapsed, integer, percent } from "./format.js";
import { RangeChoice } from "./range.js";

const PAGE_ROWS = 100;

const tile = (label, value, note = "") => element("div", { class: "tile" }, element("div", { class: "label" }, label), element("div", { class: "value" }, value), element("div", { class: "note" }, note));

export class Objects {
  constructor() {
    const again = () => { address.set({ from: null }); this.again(); };
    this.facts = element("div", { class: "tiles" });
    this.range = new RangeChoice(() => this.draw());
    this.holder = element("div", { role: "img", "aria-label": "Object memory over time" });
    this.table = new Table({ label: "Objects by client", name: "clients", id: (row) => row.id, sort: "object_bytes", descending: true, empty: "no connected client has objects", columns: [
      { key: "name", label: "client", show: (row) => clientLink(row.id, row.name) }, { key: "object_count", label: "objects", number: true, show: (row) => link("objects", { owner: row.id }, integer(row.object_count)) }, { key: "object_bytes", label: "bytes (shared objects counted for each client)", number: true, show: (row) => bytes(row.object_bytes) },
    ] });
    this.list = new Table({ label: "All objects", name: "sort", id: (row) => row.id, sort: "size_bytes", descending: true, onSort: again, empty: "nothing is in object storage", columns: [
      { key: "name", label: "name", show: (row) => row.name || row.id.slice(0, 8) }, { key: "owner_name", label: "owner", show: (row) => clientLink(row.owner, row.owner_name) }, { key: "size_bytes", label: "size", number: true, show: (row) => bytes(row.size_bytes) }, { key: "age_seconds", label: "stored for", number: true, show: (row) => elapsed(row.age_seconds) }, { key: "place", label: "where" },
      { key: "homes", label: "also on hosts", mark: (row) => row.homes.join(), show: (row) => row.homes.join(", ") }, { key: "tasks", label: "unfinished tasks", number: true, fixed: true, show: (row) => row.tasks === null ? "not counted" : integer(row.tasks) }, count("readers_waiting", "readers waiting"),
    ] });
    this.search = searchField("search names", again);
    this.note = element("span", { class: "note", role: "status" });
    this.only = element("span", { class: "row only" });
    const turn = (by) => { address.set({ from: Math.max(0, this.from + by) || null }, { push: true }); this.again(); };
    this.previous = element("button", { type: "button", onclick: () => turn(-PAGE_ROWS) }, "Previous page");
    this.next = element("button", { type: "button", onclick: () => turn(PAGE_ROWS) }, "Next page");
    this.previous.hidden = this.next.hidden = true;
    this.node = element("div", {}, element("div", { class: "row" }, title("Objects"), this.range.node), this.facts, element("div", { class: "grid" }, card("Memory in use", "identical objects count once", this.holder), card("By client", "", this.table.node)),
      card("All objects", "unfinished tasks: of the owner, that name the object", element("div", { class: "row" }, this.search, this.only, this.note, this.previous, this.next), this.list.node));
  }

  get from() { return Math.max(0, Math.floor(Number(address.get("from"))) || 0); }

  // A request that fails is made again with the next second's update.
  again() { this.update(this.latest).catch(() => {}); }

  addressChanged() {
    for (const part of [this.table, this.list, this.range]) part.readAddress();
    this.search.value = address.get("search");
    this.draw();
    this.again();
  }

  draw() { this.chart?.update(); this.range.show(history.seconds); }

  shown() { this.chart = new Chart(this.holder, [{ name: "object_bytes", label: "bytes", colour: "#d65db1", fill: true }], bytes, { minimum: 1024 }); }

  async update(data) {
    this.latest = data;
    if (!data?.objects) return;
    const { count: all, bytes: used, limit_bytes: limit } = data.objects;
    this.facts.replaceChildren(tile("objects", integer(all)), tile("in memory", bytes(used)), tile("limit", limit ? bytes(limit) : "not known", limit ? percent((100 * used) / limit) : ""));
    this.draw();
    const clients = await fetchJson("/api/clients");
    this.table.show(clients.filter((client) => client.object_count));
    await this.load(all, clients);
  }

  async load(all, clients) {
    const owner = address.get("owner");
    const sort = `${this.list.descending ? "-" : ""}${this.list.sort}`;
    const asked = new URLSearchParams({ sort, search: address.get("search"), owner, offset: this.from }).toString();
    this.asked = asked;
    const page = await fetchJson(`/api/objects/page?${asked}`);
    if (asked !== this.asked) return;
    this.showOnly(owner, clients);
    const filtered = address.get("search") || owner;
    if (page.objects === null) { this.note.textContent = "object storage has not answered yet"; return; }
    const known = page.looked_at !== null && page.looked_at < all ? `; only the ${integer(page.looked_at)} oldest are looked at` : "";
    const to = page.offset + page.objects.length;
    this.note.textContent = `${page.objects.length ? `${integer(page.offset + 1)} to ${integer(to)} of ` : ""}${integer(page.matching)}${filtered ? ` of ${integer(all)}` : ""} objects${known}`;
    this.previous.hidden = this.next.hidden = page.matching <= PAGE_ROWS && !page.offset;
    this.previous.disabled = !page.offset;
    this.next.disabled = to >= page.matching;
    this.list.show(page.objects, filtered || page.offset ? "no object matches" : undefined);
  }

  showOnly(owner, clients) {
    const name = clients.find((client) => client.id === owner)?.name ?? `client ${owner.slice(0, 8)}`;
    const mark = owner && name;
    if (this.only.dataset.shown === mark) return;
    this.only.dataset.shown = mark;
    this.only.replaceChildren(...(owner ? [element("button", { type: "button", class: "filter", "aria-label": `Show not only ${name}: only ${name} ✕`, onclick: () => { address.set({ owner: null, from: null }, { push: true }); this.again(); } }, `only ${name} ✕`)] : []));
  }

  recolour() { this.chart?.build(); }

  destroy() { this.chart?.destroy(); }
}
