// A graph as a drawing: layers from left to right, as nodes with edges, or as blocks of layers where there are too many nodes.

import * as address from "./address.js";
import { integer, plural, seconds } from "./format.js";

const NODE = { width: 148, height: 26, across: 54, down: 8 };
const BLOCK = { width: 92, height: 190, across: 18 };
const HEAD = 22;
const SWEEPS = 6;
const LETTERS = 17;

export const MARKS = { waiting: "·", ready: "○", running: "▶", done: "✓", failed: "✕" };
export const STATES = ["done", "running", "ready", "waiting", "failed"];

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const short = (name) => { const last = name.split(".").at(-1); return last.length > LETTERS ? `${last.slice(0, LETTERS - 1)}…` : last; };

// Nodes of each layer in an order in which few edges cross: each stands near the mean of those it is joined with.
export function arrange(nodes, edges) {
  const layers = new Map();
  for (const node of nodes) { if (!layers.has(node.layer)) layers.set(node.layer, []); layers.get(node.layer).push(node); }
  const columns = [...layers.keys()].sort((a, b) => a - b).map((layer) => layers.get(layer));
  const joined = new Map(nodes.map((node) => [node.row, { before: [], after: [] }]));
  for (const [from, to] of edges) { joined.get(to).before.push(from); joined.get(from).after.push(to); }
  const place = new Map();
  const note = (column) => column.forEach((node, at) => place.set(node.row, (at + 0.5) / column.length));
  columns.forEach(note);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forwards = sweep % 2 === 0;
    for (const column of forwards ? columns : [...columns].reverse()) {
      const wish = new Map(column.map((node) => {
        const near = joined.get(node.row)[forwards ? "before" : "after"];
        return [node.row, near.length ? near.reduce((sum, row) => sum + place.get(row), 0) / near.length : place.get(node.row)];
      }));
      column.sort((a, b) => wish.get(a.row) - wish.get(b.row) || a.row - b.row);
      note(column);
    }
  }
  return columns;
}

function drawNodes({ client, nodes, edges }) {
  const columns = arrange(nodes, edges);
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  const height = HEAD + tallest * (NODE.height + NODE.down) + NODE.down;
  const width = columns.length * (NODE.width + NODE.across) - NODE.across + 8;
  const at = new Map();
  columns.forEach((column, index) => column.forEach((node, row) => {
    const free = (height - HEAD - column.length * (NODE.height + NODE.down)) / 2;
    at.set(node.row, { node, x: 4 + index * (NODE.width + NODE.across), y: HEAD + free + row * (NODE.height + NODE.down) });
  }));
  const lines = edges.map(([from, to]) => {
    const [a, b] = [at.get(from), at.get(to)];
    const [x0, y0, x1, y1] = [a.x + NODE.width, a.y + NODE.height / 2, b.x, b.y + NODE.height / 2];
    const bend = Math.max(18, (x1 - x0) / 2);
    return [a.node.critical && b.node.critical, shape("path", { class: a.node.critical && b.node.critical ? "edge critical" : "edge", d: `M${x0},${y0} C${x0 + bend},${y0} ${x1 - bend},${y1} ${x1},${y1}` })];
  }).sort(([a], [b]) => a - b).map(([, line]) => line);
  const heads = columns.map((column, index) => shape("text", { class: "head", x: 4 + index * (NODE.width + NODE.across), y: 13 }, `layer ${column[0].layer + 1}`));
  const boxes = [...at.values()].map(({ node, x, y }) => {
    const told = `${node.function}, task ${node.number}, ${node.state}${node.seconds ? `, ${seconds(node.seconds)}` : ""}${node.critical ? ", on the slow path" : ""}`;
    const right = node.seconds ? seconds(node.seconds) : "";
    const room = right ? LETTERS - right.length : LETTERS;
    const name = short(node.function);
    return shape("a", { href: address.href("tasks", { show: `${client}/${node.number}` }), class: `node ${node.state}${node.critical ? " critical" : ""}`, "aria-label": told },
      shape("title", {}, told), shape("rect", { x, y, width: NODE.width, height: NODE.height, rx: 6 }),
      shape("text", { x: x + 8, y: y + 17 }, `${MARKS[node.state]} ${name.length > room ? `${name.slice(0, Math.max(3, room - 1))}…` : name}`), shape("text", { class: "seconds", x: x + NODE.width - 7, y: y + 17, "text-anchor": "end" }, right));
  });
  return [width, height, [...heads, ...lines, ...boxes]];
}

const layersOf = (block) => (block.first_layer === block.last_layer ? `layer ${block.first_layer + 1}` : `layers ${block.first_layer + 1}–${block.last_layer + 1}`);

function drawBlocks({ client, first_number: first, blocks }) {
  const most = Math.max(...blocks.map((block) => block.nodes));
  // By the root, so that a layer of a few can be seen beside one of thousands.
  const tall = (count) => Math.max(10, BLOCK.height * Math.sqrt(count / most));
  const height = HEAD + BLOCK.height + 52;
  const parts = blocks.map((block, index) => {
    const x = 4 + index * (BLOCK.width + BLOCK.across);
    const whole = tall(block.nodes);
    let y = HEAD + BLOCK.height - whole;
    const top = y;
    const told = `${layersOf(block)}: ${plural(block.nodes, "node")}, ${STATES.filter((state) => block[state]).map((state) => `${integer(block[state])} ${state}`).join(", ")}; ${block.functions.map(([name, count]) => `${integer(count)} ${name}`).join(", ")}${block.more_functions ? ` and ${plural(block.more_functions, "function")} more` : ""}${block.path_seconds ? `; ${seconds(block.path_seconds)} of the slow path` : ""}`;
    const pieces = STATES.filter((state) => block[state]).map((state) => {
      const piece = (whole * block[state]) / block.nodes;
      y += piece;
      return shape("rect", { class: `part ${state}`, x, y: y - piece, width: BLOCK.width, height: piece });
    });
    const below = (line, text, kind = "") => shape("text", { class: kind, x: x + BLOCK.width / 2, y: HEAD + BLOCK.height + 15 + 15 * line, "text-anchor": "middle" }, text);
    const link = shape("a", { href: address.href("graphs", { graph: `${client}/${first}`, layers: `${block.first_layer}-${block.last_layer}` }), class: `block${block.path_seconds ? " critical" : ""}`, "aria-label": told },
      shape("title", {}, told), ...pieces, shape("rect", { class: "frame", x, y: top, width: BLOCK.width, height: whole, rx: 3 }));
    // The name of the link says the same in words.
    return shape("g", {}, link, shape("g", { "aria-hidden": "true" }, shape("text", { class: "head", x: x + BLOCK.width / 2, y: top - 6, "text-anchor": "middle" }, integer(block.nodes)), below(0, layersOf(block), "head"), below(1, short(block.functions[0][0]).slice(0, 13)), below(2, block.path_seconds ? seconds(block.path_seconds) : "", "seconds")));
  });
  return [blocks.length * (BLOCK.width + BLOCK.across) - BLOCK.across + 8, height, parts];
}

export function draw(picture) {
  const [width, height, parts] = picture.blocks.length ? drawBlocks(picture) : drawNodes(picture);
  return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": picture.blocks.length ? "Layers of the graph" : "Nodes of the graph" }, ...parts);
}
