// What workers run: a profile of some seconds as a flame graph, with the callers at the top, and as a table.

import * as address from "./address.js";
import { card, element, Table } from "./elements.js";
import { colourOf, integer, percent, plural, seconds } from "./format.js";

const ROW = 22;
const POLL_MS = 1000;
// A narrower call is not drawn; it is in the table, and drawn when its caller is zoomed in to.
const NARROWEST = 1 / 700;
const LENGTHS = [5, 10, 30, 60];

export function openProfile(place) {
  if (place.firstChild) { place.firstChild.querySelector("select").focus(); return; }
  if (!document.getElementById("flame-style")) document.head.append(element("link", { id: "flame-style", rel: "stylesheet", href: new URL("./flame.css", import.meta.url) }));
  const panel = new Panel();
  panel.node.stop = () => panel.stop();
  place.append(panel.node);
}

// One node for each call under its caller; `root` is above the functions of tasks.
export function treeOf({ parents, names, files, lines, microseconds, texts }, only = "") {
  const root = { name: "all", file: "", line: 0, own: 0, total: 0, children: [], above: null, depth: 0 };
  const nodes = parents.map((parent, row) => ({ name: texts[names[row]], file: texts[files[row]], line: lines[row], own: microseconds[row] / 1e6, total: 0, children: [], above: null, depth: 0 }));
  nodes.forEach((node, row) => {
    const above = parents[row] ? nodes[parents[row] - 1] : root;
    if (above === root && only && node.name !== only) { node.left = true; return; }
    node.left = above.left;
    if (node.left) return;
    node.above = above;
    node.depth = above.depth + 1;
    above.children.push(node);
  });
  for (let row = nodes.length - 1; row >= 0; row -= 1) {
    const node = nodes[row];
    if (node.left) continue;
    node.total += node.own;
    node.above.total += node.total;
  }
  const order = (a, b) => b.total - a.total || (a.name < b.name ? -1 : 1);
  for (const node of [root, ...nodes]) node.children.sort(order);
  return { root, nodes: nodes.filter((node) => !node.left) };
}

const base = (file) => file.slice(file.lastIndexOf("/") + 1);
const nameOf = (node) => node.name || `line ${node.line} of ${base(node.file)}`;
const placeOf = (node) => (node.file ? `${node.file}:${node.line}` : "");

// By function: time in itself, its lines included, and with all that it called, each moment once.
export function functionsOf({ nodes }) {
  const found = new Map();
  for (const node of nodes) {
    const of = node.name ? node : node.above;
    const key = `${of.name}\n${placeOf(of)}`;
    if (!found.has(key)) found.set(key, { key, name: nameOf(of), place: placeOf(of), own: 0, total: 0 });
    const row = found.get(key);
    row.own += node.own;
    if (!node.name) continue;
    let above = node.above;
    while (above && !(above.name === node.name && placeOf(above) === placeOf(node))) above = above.above;
    if (!above) row.total += node.total;
  }
  return [...found.values()];
}

class Panel {
  constructor() {
    this.length = element("select", { "aria-label": "Length of the profile" }, ...LENGTHS.map((count) => element("option", { value: String(count) }, `${count} seconds`)));
    this.length.value = "10";
    this.button = element("button", { type: "button", onclick: () => this.start() }, "Start");
    this.status = element("span", { class: "note", role: "status" });
    this.only = element("select", { "aria-label": "Function of the task", onchange: () => this.show() });
    this.search = element("input", { type: "search", placeholder: "find calls", "aria-label": "find calls", maxlength: "200", oninput: () => this.graph?.mark(this.search.value) });
    this.out = element("button", { type: "button", onclick: () => this.graph.zoom(this.graph.root) }, "Zoom out");
    this.download = element("a", { download: "scaler-profile.txt" }, "Collapsed stacks");
    this.controls = element("div", { class: "row", hidden: true }, this.only, this.search, this.out, this.download);
    this.picture = element("div");
    this.table = new Table({ label: "Calls", id: (row) => row.key, sort: "own", descending: true, empty: "nothing ran", rowsMax: 100, columns: [
      { key: "name", label: "function", mono: true }, { key: "place", label: "file and line", wide: true },
      { key: "own", label: "self", number: true, mark: (row) => this.shareText(row.own) }, { key: "total", label: "total", number: true, mark: (row) => this.shareText(row.total) },
    ] });
    this.table.node.hidden = true;
    this.node = card("Profile of what workers run", "sampled for some seconds, about 100 times a second on each worker; time that passes, not processor time", element("div", { class: "row" }, this.length, this.button, this.status), this.controls, this.picture, this.table.node);
    const kept = address.get("profile");
    if (kept) this.follow(kept);
  }

  shareText(value) { return `${seconds(value)} (${percent(100 * value / Math.max(1e-9, this.tree.root.total))})`; }

  async ask(path, options) {
    const answer = await fetch(path, { headers: { accept: "application/json" }, ...options });
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw new Error(answer.status === 404 ? "This profile is not kept any more." : `scaler_ui answers ${answer.status}.`);
    return answer.json();
  }

  async start() {
    this.button.disabled = true;
    try {
      const { id } = await this.ask(`/api/profiles?seconds=${this.length.value}`, { method: "POST" });
      address.set({ profile: String(id) });
      this.status.textContent = "asking workers…";
      await this.follow(String(id));
    } catch (error) { this.fail(error); }
  }

  fail(error) { this.status.textContent = error.message; this.button.disabled = false; }

  async follow(id) {
    this.button.disabled = true;
    clearTimeout(this.timer);
    try {
      const data = await this.ask(`/api/profiles/${encodeURIComponent(id)}`);
      if (this.stopped) return;
      this.id = id;
      this.button.disabled = !data.done;
      this.status.textContent = data.error || this.describe(data);
      if (data.parents && (data.done || data.parents.length)) { this.data = data; this.show(); }
      if (!data.done) this.timer = setTimeout(() => this.follow(id), POLL_MS);
    } catch (error) { this.fail(error); }
  }

  stop() { this.stopped = true; clearTimeout(this.timer); }

  describe(data) {
    if (!data.parents) return "asking workers…";
    const notes = [data.done ? `${integer(data.seconds)} s` : `${integer(data.elapsed_seconds)} of ${integer(data.seconds)} s`, `${plural(data.samples, "sample")} from ${plural(data.processors, "processor")}`, `sampling took ${seconds(data.cost_seconds)}`];
    if (data.done && data.answered < data.agents) notes.push(`${data.agents - data.answered} of ${plural(data.agents, "worker agent")} have sent none`);
    if (data.done && !data.parents.length) notes.push("no task ran");
    return notes.join(" · ");
  }

  show() {
    const roots = [...new Set(this.data.parents.flatMap((parent, row) => (parent ? [] : [this.data.texts[this.data.names[row]]])))].sort();
    const chosen = roots.includes(this.only.value) ? this.only.value : "";
    this.only.replaceChildren(element("option", { value: "" }, "all functions"), ...roots.map((name) => element("option", { value: name }, name)));
    this.only.value = chosen;
    this.controls.hidden = this.table.node.hidden = !this.data.parents.length;
    this.download.href = `/api/profiles/${this.id}/collapsed?function=${encodeURIComponent(chosen)}`;
    this.tree = treeOf(this.data, chosen);
    const kept = this.graph && this.graph.path();
    const focused = this.graph?.node.contains(document.activeElement);
    this.graph = new Flame(this.tree, (value) => this.shareText(value), kept);
    this.picture.replaceChildren(...(this.data.parents.length ? [this.graph.node, this.graph.told] : []));
    this.graph.mark(this.search.value);
    if (focused) this.graph.buttons.get(this.graph.shown).focus();
    this.table.show(functionsOf(this.tree));
  }
}

// Buttons, so that keyboards and screen readers have them too. Arrow keys go from call to call.
class Flame {
  constructor(tree, shareText, path = []) {
    Object.assign(this, { root: tree.root, shareText, words: "" });
    this.node = element("div", { class: "flame", role: "group", "aria-label": "Flame graph", onkeydown: (event) => this.press(event) });
    this.told = element("p", { class: "flame-told" }, "Callers are above what they call. Click a call, or press Enter, to zoom in; Escape zooms out.");
    let shown = this.root;
    for (const name of path) shown = shown.children.find((child) => nameOf(child) === name) ?? shown;
    this.draw(shown);
  }

  path() {
    const names = [];
    for (let node = this.shown; node.above; node = node.above) names.unshift(nameOf(node));
    return names;
  }

  zoom(node) {
    this.draw(node);
    this.buttons.get(node)?.focus();
  }

  draw(shown) {
    this.shown = shown;
    this.buttons = new Map();
    let deepest = 0;
    const add = (node, left, width, above) => {
      const button = element("button", { type: "button", tabindex: "-1", class: above ? "above" : undefined, title: `${nameOf(node)}\n${placeOf(node)}`, "aria-label": `${nameOf(node)}, total ${this.shareText(node.total)}, self ${this.shareText(node.own)}`, onclick: () => this.zoom(node), onfocus: () => this.tell(node), onpointerenter: () => this.tell(node) }, nameOf(node));
      Object.assign(button.style, { left: `${100 * left}%`, width: `${100 * width}%`, top: `${ROW * node.depth}px`, background: node.above ? colourOf(nameOf(node)) : "#c3cad4" });
      this.buttons.set(node, button);
      deepest = Math.max(deepest, node.depth);
    };
    for (let node = shown; node; node = node.above) add(node, 0, 1, node !== shown);
    const waiting = [[shown, 0, 1]];
    // The list grows while it is gone through: level by level, from left to right.
    for (const [node, left, width] of waiting) {
      let at = left;
      for (const child of node.children) {
        const part = node.total ? width * child.total / node.total : 0;
        if (part >= NARROWEST) { add(child, at, part, false); waiting.push([child, at, part]); }
        at += part;
      }
    }
    this.node.style.height = `${ROW * (deepest + 1)}px`;
    const ordered = [...this.buttons].sort(([a], [b]) => a.depth - b.depth);
    this.node.replaceChildren(...ordered.map(([, button]) => button));
    this.buttons.get(shown).tabIndex = 0;
    this.mark(this.words);
  }

  tell(node) {
    this.told.textContent = [nameOf(node), placeOf(node), `total ${this.shareText(node.total)}`, `self ${this.shareText(node.own)}`].filter(Boolean).join(" · ");
    for (const button of this.buttons.values()) button.tabIndex = -1;
    this.buttons.get(node).tabIndex = 0;
  }

  mark(words) {
    this.words = words;
    const wanted = words.trim().toLowerCase();
    this.node.classList.toggle("searched", Boolean(wanted));
    for (const [node, button] of this.buttons) button.classList.toggle("found", Boolean(wanted) && `${nameOf(node)} ${placeOf(node)}`.toLowerCase().includes(wanted));
  }

  press(event) {
    const node = [...this.buttons].find(([, button]) => button === event.target)?.[0];
    if (!node) return;
    if (event.key === "Escape") { event.preventDefault(); this.zoom(this.shown.above ?? this.root); return; }
    const drawn = (candidate) => candidate && this.buttons.has(candidate);
    const beside = node.above?.children.filter(drawn) ?? [];
    const at = beside.indexOf(node);
    const next = { ArrowUp: node.above, ArrowDown: node.children.find(drawn), ArrowLeft: beside[at - 1], ArrowRight: beside[at + 1], Home: this.root }[event.key];
    if (!(event.key in { ArrowUp: 1, ArrowDown: 1, ArrowLeft: 1, ArrowRight: 1, Home: 1 })) return;
    event.preventDefault();
    if (drawn(next)) this.buttons.get(next).focus();
  }
}
