// Graphs in progress and the last ones that ended, and one of them drawn.

import * as address from "./address.js";
import { fetchJson } from "./data.js";
import { chip, clientLink, count, element, functionLink, Table, taskLink, time, title } from "./elements.js";
import { clock, integer, plural, seconds } from "./format.js";
import { draw, MARKS, STATES } from "./graph_drawing.js";

function progress(graph) {
  const bar = element("div", { class: "progress", role: "progressbar", "aria-label": "nodes that have ended", "aria-valuemin": "0", "aria-valuemax": String(graph.rows), "aria-valuenow": String(graph.done + graph.failed) });
  for (const part of ["done", "failed", "released"]) { const piece = element("i", { class: part }); piece.style.width = `${(100 * graph[part]) / Math.max(1, graph.rows)}%`; bar.append(piece); }
  return bar;
}

const idOf = (row) => `${row.client}/${row.first_number}`;

const columns = [
  { key: "client_name", label: "client", show: (row) => clientLink(row.client, row.client_name) }, { key: "first_number", label: "first task", number: true }, { key: "progress", label: "progress", value: (row) => row.done / Math.max(1, row.rows), mark: (row) => `${row.done}/${row.failed}/${row.released}`, show: progress },
  count("rows", "nodes"), count("done", "done"),
];

export class Graphs {
  constructor() {
    const onOpen = (row) => { address.set({ graph: idOf(row), layers: null }, { push: true }); this.openShown(); };
    this.running = new Table({ label: "Graphs", name: "sort", id: idOf, sort: "client_name", empty: "no graph is in progress", onOpen, columns: [
      ...columns, count("released", "ready or running"), count("waiting", "waiting"), count("failed", "failed"), count("held_results", "results in memory"), time("took_seconds", "for"),
    ] });
    this.ended = new Table({ label: "Ended graphs", name: "ended", id: (row) => `${idOf(row)}/${row.ended_at}`, sort: "ended_at", descending: true, empty: "no graph has ended", onOpen, columns: [
      ...columns, count("failed", "failed"), time("took_seconds", "took"), { key: "ended_at", label: "ended", number: true, show: (row) => clock(row.ended_at) }, { key: "drawn", label: "nodes kept", show: (row) => (row.drawn ? "yes" : "no") },
    ] });
    this.heading = element("h2", { class: "section" });
    this.facts = element("p", { class: "note" });
    this.back = element("button", { type: "button", onclick: () => { address.set({ layers: null }, { push: true }); this.openShown(); } }, "All layers");
    this.holder = element("div", { class: "graph", tabindex: "0", role: "region", "aria-label": "Drawing of the graph" });
    this.legend = element("div", { class: "legend" }, ...STATES.map((state) => element("span", {}, element("i", { class: `swatch-${state}` }), `${MARKS[state]} ${state}`)), element("span", {}, element("i", { class: "swatch-path" }), "slow path: takes longest one after another"));
    this.path = new Table({ label: "Slow path", id: (row) => String(row.row), empty: "nothing is known of it yet", columns: [
      { key: "layer", label: "layer", number: true, show: (row) => integer(row.layer + 1) }, { key: "number", label: "task", number: true, show: (row) => taskLink(this.chosen.client, row.number) }, { key: "function", label: "function", mono: true, show: (row) => functionLink(row.function) }, { key: "state", label: "state", show: (row) => chip(row.state) }, { key: "seconds", label: "ran for", number: true, show: (row) => seconds(row.seconds) },
    ] });
    this.pathHolder = element("div");
    this.drawing = element("section", { hidden: true, "aria-label": "One graph" }, element("div", { class: "row" }, this.heading, this.back), this.facts, this.holder, this.legend, this.pathHolder);
    this.node = element("div", {}, title("Graphs"), element("h2", { class: "section" }, "In progress"), this.running.node, this.drawing, element("h2", { class: "section" }, "Ended"), this.ended.node);
    this.readAddress();
  }

  readAddress() {
    const [client, first] = address.get("graph").split("/");
    const layers = /^(\d+)-(\d+)$/.exec(address.get("layers"));
    this.chosen = client && first ? { client, first, layers: layers ? [Number(layers[1]), Number(layers[2])] : null } : null;
  }

  addressChanged() { this.running.readAddress(); this.ended.readAddress(); this.openShown(); }

  openShown() { this.readAddress(); this.drawn = ""; this.show(); }

  async update() {
    this.data = await fetchJson("/api/graphs");
    this.running.show(this.data.filter((row) => !row.ended_at));
    this.ended.show(this.data.filter((row) => row.ended_at));
    await this.show();
  }

  // The graph of the address; without one, the first in progress, or the last one whose nodes are known.
  async show() {
    const first = this.data?.find((row) => !row.ended_at) ?? this.data?.find((row) => row.drawn);
    if (!this.chosen && first && !address.get("graph")) this.chosen = { client: first.client, first: String(first.first_number), layers: null };
    const { chosen: shown } = this;
    if (!shown) return;
    const layers = shown.layers ? `&first_layer=${shown.layers[0]}&last_layer=${shown.layers[1]}` : "";
    let found = { graph: null, picture: null };
    // It may have ended long ago, or have gone with its scheduler: that is no error. What no graph can be called is one.
    try { found = await fetchJson(`/api/graphs/${encodeURIComponent(shown.client)}/${encodeURIComponent(shown.first)}?absent=null${layers}`); } catch { /* the page says so */ }
    if (this.chosen === shown) this.draw(found);
  }

  draw({ graph, picture }) {
    const { chosen: shown } = this;
    this.drawing.hidden = false;
    this.heading.textContent = `Graph of ${graph?.client_name ?? shown.client.slice(0, 8)} from task ${shown.first} on`;
    this.back.hidden = !shown.layers;
    for (const part of [this.holder, this.legend, this.pathHolder]) part.hidden = !picture;
    const facts = graph ? [`${integer(graph.done)} of ${plural(graph.rows, "node")} done`, ...(graph.failed ? [`${integer(graph.failed)} failed`] : []), ...(graph.took_seconds === null ? [] : [`${graph.ended_at ? "took" : "for"} ${seconds(graph.took_seconds)}`])] : ["it ended long ago, or its client has left"];
    if (!picture) facts.push(graph && !graph.ended_at ? "its nodes are asked for" : "its nodes are not known: nobody looked at it on this page while it ran");
    else facts.push(...this.#remarks(picture));
    this.facts.textContent = `${facts.join("; ")}.`;
    if (!picture) return;
    const mark = JSON.stringify([picture.nodes, picture.edges, picture.blocks]);
    if (mark !== this.drawn) {
      this.drawn = mark;
      const focused = document.activeElement?.closest?.(".graph a")?.getAttribute("href");
      this.holder.replaceChildren(draw(picture));
      if (focused) [...this.holder.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
    }
    if (!this.path.node.isConnected) this.pathHolder.append(element("h2", { class: "section" }, "Slow path"), this.path.node);
    this.path.show(picture.path.nodes);
  }

  #remarks(picture) {
    const remarks = [picture.first_layer === 0 && picture.last_layer === picture.layers - 1 ? plural(picture.layers, "layer") : `layers ${picture.first_layer + 1} to ${picture.last_layer + 1} of ${integer(picture.layers)}`];
    if (picture.path.rows) remarks.push(`slow path: ${plural(picture.path.rows, "node")}${picture.path.seconds ? `, ${seconds(picture.path.seconds)}` : ""}${picture.path.rows > picture.path.nodes.length ? `, the first ${picture.path.nodes.length} below` : ""}`);
    if (picture.durations_known < picture.rows_known) remarks.push(`durations are known of ${plural(picture.durations_known, "node")}`);
    if (picture.rows_known < picture.rows) remarks.push(`only its first ${integer(picture.rows_known)} nodes are drawn`);
    if (picture.left_out) remarks.push(`${plural(picture.left_out, "node")} of this layer are left out`);
    if (picture.edges_left_out) remarks.push(`${integer(picture.edges_left_out)} edges are left out`);
    return remarks;
  }
}
