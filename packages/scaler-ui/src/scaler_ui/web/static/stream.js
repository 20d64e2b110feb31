// The task stream: one lane per worker, one bar per task. A hundred thousand bars are written as pixels into one image, so
// that a frame costs a few milliseconds however many there are.

import { clockFine, colours, seconds, STATE_COLOURS, STATE_NAMES } from "./format.js";
import { fetchJson } from "./data.js";

const AXIS = 24;
const MARGIN = 150;
const COLUMNS = ["start", "duration", "number", "state", "lane", "function", "capability", "client", "label"];
const ZOOM_MIN_SECONDS = 20e-6;

// Bars as columns of numbers. Every request appends to them; the oldest are dropped first.
export class Bars {
  constructor() { this.generation = 0; this.clear(); this.limit = 100000; this.loading = false; }

  clear() {
    this.seen = 0; this.length = 0; this.capacity = 0; this.columns = {};
    Object.assign(this, { lanes: [], functions: [], capabilities: [], clients: [], clientNames: [], labels: [] });
    this.firstStart = Infinity; this.lastEnd = -Infinity;
  }

  async update(expected) {
    if (this.loading || expected === this.seen) return false;
    this.loading = true;
    try {
      for (let more = true; more;) {
        const data = await fetchJson(`/api/bars?seen=${this.seen}&generation=${this.generation}`);
        if (data.again) this.clear();
        this.generation = data.generation;
        this.limit = data.limit;
        this.append(data);
        this.seen = data.count;
        more = data.more;
      }
    } finally { this.loading = false; }
    return true;
  }

  append(data) {
    Object.assign(this, { lanes: data.lanes, functions: data.functions, capabilities: data.capabilities, clients: data.clients, clientNames: data.client_names, labels: data.labels });
    const added = data.columns.start.length;
    if (this.length + added > this.limit * 1.1) this.drop(Math.min(this.length, this.length + added - this.limit));
    this.reserve(this.length + added);
    const { start, duration } = data.columns;
    for (let at = 0; at < added; at += 1) {
      const begin = data.origin + start[at];
      this.columns.start[this.length + at] = begin;
      if (begin < this.firstStart) this.firstStart = begin;
      if (begin + duration[at] > this.lastEnd) this.lastEnd = begin + duration[at];
    }
    for (const name of COLUMNS.slice(1)) this.columns[name].set(data.columns[name], this.length);
    this.length += added;
  }

  reserve(size) {
    if (size <= this.capacity) return;
    this.capacity = Math.max(4096, Math.ceil(size * 1.5));
    for (const name of COLUMNS) {
      const kind = name === "start" || name === "number" ? Float64Array : name === "duration" ? Float32Array : Uint16Array;
      const column = new kind(this.capacity);
      if (this.columns[name]) column.set(this.columns[name].subarray(0, this.length));
      this.columns[name] = column;
    }
  }

  drop(count) {
    for (const name of COLUMNS) this.columns[name].copyWithin(0, count, this.length);
    this.length -= count;
    this.firstStart = Infinity;
    for (let at = 0; at < this.length; at += 1) this.firstStart = Math.min(this.firstStart, this.columns.start[at]);
  }
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function pixel(colour) {
  const value = parseInt(colour.slice(1), 16);
  return (255 << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16);
}

export class TaskStream {
  constructor(node, tooltip, { onOpen, onLegend, onView }) {
    Object.assign(this, { tooltip, onOpen, onLegend, onView });
    this.bars = new Bars();
    this.colourBy = "function";
    this.following = true;
    this.span = 60;
    this.end = Date.now() / 1000;
    this.frameTimes = [];
    this.canvas = node;
    this.context = node.getContext("2d", { alpha: false });
    this.scheduled = false;
    this.listen();
    this.observer = new ResizeObserver(() => this.draw());
  }

  // Call this when the canvas is part of the page.
  start() { this.observer.observe(this.canvas.parentElement); }

  destroy() { this.observer.disconnect(); }

  draw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.paint(); });
  }

  // The colour and name of each value that bars are coloured by.
  key() {
    const { bars } = this;
    if (this.colourBy === "state") return { column: "state", names: Object.values(STATE_NAMES), colourOf: (value) => STATE_COLOURS[value] ?? "#888888" };
    const column = this.colourBy === "function" ? "function" : ["capability", "label"].includes(this.colourBy) ? this.colourBy : "client";
    const names = { function: bars.functions, capability: bars.capabilities, client: bars.clientNames, label: bars.labels }[column].map((name) => name || "none");
    const chosen = colours(names);
    return { column, names, colourOf: (value) => chosen.get(names[value]) ?? "#888888" };
  }

  // The lanes that have bars, ordered by name.
  order() {
    const { bars } = this;
    const collator = new Intl.Collator("en", { numeric: true });
    const indexes = [...bars.lanes.keys()].sort((a, b) => collator.compare(bars.lanes[a].agent, bars.lanes[b].agent) || bars.lanes[a].slot - bars.lanes[b].slot);
    const rows = new Uint16Array(bars.lanes.length);
    indexes.forEach((lane, row) => { rows[lane] = row; });
    return { indexes, rows };
  }

  paint() {
    const begun = performance.now();
    const { bars, canvas, context } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { indexes, rows } = this.order();
    const laneCount = Math.max(1, indexes.length);
    const height = Math.max(220, Math.min(Math.max(innerHeight - 330, 320), AXIS + laneCount * 22));
    const width = Math.max(240, canvas.parentElement.clientWidth);
    this.size = { width, height, laneHeight: (height - AXIS) / laneCount, indexes };
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
      this.image = null;
    }
    if (this.following && bars.length) this.end = bars.lastEnd;
    this.image ??= context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(this.image.data.buffer);
    const [ground, stripe] = [pixel(style("--surface")), pixel(style("--raised"))];
    pixels.fill(ground);
    const left = Math.round((width > 560 ? MARGIN : 8) * ratio);
    this.left = left / ratio;
    const laneHeight = this.size.laneHeight * ratio;
    if (laneHeight >= 6) {
      for (let row = 1; row < laneCount; row += 2) {
        pixels.fill(stripe, Math.round(row * laneHeight) * canvas.width, Math.round((row + 1) * laneHeight) * canvas.width);
      }
    }
    this.paintBars(pixels, left, laneHeight, rows, ratio);
    context.putImageData(this.image, 0, 0);
    this.paintText(context, ratio, left, laneHeight, indexes);
    this.frameTimes.push(performance.now() - begun);
    if (this.frameTimes.length > 240) this.frameTimes.shift();
    this.onView?.(this);
  }

  paintBars(pixels, left, laneHeight, rows, ratio) {
    const { bars, canvas } = this;
    const { start, duration, lane, state } = bars.columns;
    const { column, names, colourOf } = this.key();
    const values = bars.columns[column];
    const palette = new Uint32Array(Math.max(names.length, 8));
    for (let value = 0; value < palette.length; value += 1) palette[value] = pixel(colourOf(value));
    const failed = pixel("#e05d5d");
    const from = this.end - this.span;
    const scale = (canvas.width - left) / this.span;
    const gap = laneHeight >= 6 ? Math.max(1, Math.round(ratio)) : 0;
    // Long bars first, so that the nested tasks of a waiting task are drawn on top of it.
    for (const wide of [true, false]) {
      for (let at = 0; at < bars.length; at += 1) {
        const x0 = (start[at] - from) * scale;
        const length = duration[at] * scale;
        if ((length > 40) !== wide || x0 + length < 0 || x0 > canvas.width) continue;
        const begin = Math.max(left, left + Math.floor(x0));
        const end = Math.min(canvas.width, Math.max(begin + 1, left + Math.floor(x0 + length) - (length > 3 ? 1 : 0)));
        const row = rows[lane[at]];
        const top = Math.round(row * laneHeight) + gap;
        const bottom = Math.max(top + 1, Math.round((row + 1) * laneHeight) - gap);
        const colour = palette[values[at]];
        for (let y = top; y < bottom; y += 1) pixels.fill(colour, y * canvas.width + begin, y * canvas.width + end);
        if (state[at] === 3 && column !== "state" && bottom - top > 3) {
          for (let y = bottom - 2; y < bottom; y += 1) pixels.fill(failed, y * canvas.width + begin, y * canvas.width + end);
        }
      }
    }
  }

  paintText(context, ratio, left, laneHeight, indexes) {
    const { canvas, bars } = this;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.fillStyle = style("--muted");
    if (left > 40 * ratio && laneHeight >= 11 * ratio) {
      indexes.forEach((lane, row) => {
        context.fillText(bars.lanes[lane].name, 8 * ratio, (row + 0.5) * laneHeight, left - 14 * ratio);
      });
    }
    const top = canvas.height - AXIS * ratio;
    context.fillStyle = style("--surface");
    context.fillRect(0, top, canvas.width, AXIS * ratio);
    context.fillStyle = style("--muted");
    const wanted = this.span / Math.max(2, (canvas.width - left) / (110 * ratio));
    const power = 10 ** Math.floor(Math.log10(wanted));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= wanted);
    const from = this.end - this.span;
    for (let at = Math.ceil(from / step) * step; at < this.end; at += step) {
      const x = left + ((at - from) / this.span) * (canvas.width - left);
      context.fillRect(x, top, ratio, 4 * ratio);
      const text = step >= 1 ? new Date(at * 1000).toLocaleTimeString("en-GB") : `−${seconds(this.end - at)}`;
      context.fillText(text, x + 4 * ratio, top + 13 * ratio);
    }
  }

  timeAt(x) { return this.end - this.span + ((x - this.left) / (this.size.width - this.left)) * this.span; }

  barAt(x, y) {
    const { bars, size } = this;
    if (!size || x < this.left || y > size.height - AXIS) return -1;
    const lane = size.indexes[Math.floor(y / size.laneHeight)];
    const time = this.timeAt(x);
    const tolerance = (this.span / (size.width - this.left)) * 2;
    let best = -1;
    let bestLength = Infinity;
    for (let at = bars.length - 1; at >= 0; at -= 1) {
      if (bars.columns.lane[at] !== lane) continue;
      const begin = bars.columns.start[at];
      const length = bars.columns.duration[at];
      if (time >= begin - tolerance && time <= begin + length + tolerance && length < bestLength) { best = at; bestLength = length; }
    }
    return best;
  }

  describe(at) {
    const { columns, functions, capabilities, clients, clientNames, labels, lanes } = this.bars;
    return {
      number: columns.number[at], client: clients[columns.client[at]], clientName: clientNames[columns.client[at]],
      function: functions[columns.function[at]], capability: capabilities[columns.capability[at]], label: labels[columns.label[at]], state: STATE_NAMES[columns.state[at]] ?? "?",
      start: columns.start[at], duration: columns.duration[at], worker: lanes[columns.lane[at]].name,
    };
  }

  zoom(factor, centre = this.end - this.span / 2) {
    const whole = Math.max(1, this.bars.lastEnd - this.bars.firstStart);
    const span = Math.max(ZOOM_MIN_SECONDS, Math.min(this.span * factor, Math.max(whole * 1.1, 60)));
    const share = (this.end - centre) / this.span;
    this.span = span;
    if (!this.following || factor < 1) { this.end = centre + share * span; }
    this.following = this.end >= this.bars.lastEnd;
    this.draw();
  }

  move(by) {
    this.end += by;
    this.following = by > 0 && this.end >= this.bars.lastEnd;
    this.draw();
  }

  showAll() {
    if (this.bars.length) this.span = Math.max(1e-3, (this.bars.lastEnd - this.bars.firstStart) * 1.02);
    this.following = true;
    this.draw();
  }

  listen() {
    const { canvas } = this;
    let grabbed = null;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move((event.deltaX / this.size.width) * this.span);
      else this.zoom(Math.exp(event.deltaY * 0.0016), this.timeAt(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      grabbed = { x: event.clientX, end: this.end, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (grabbed) {
        const by = event.clientX - grabbed.x;
        if (Math.abs(by) > 3) grabbed.moved = true;
        if (grabbed.moved) {
          this.end = grabbed.end - (by / (this.size.width - this.left)) * this.span;
          this.following = this.end >= this.bars.lastEnd;
          this.tooltip.hidden = true;
          this.draw();
        }
      } else this.hover(event);
    });
    canvas.addEventListener("pointerup", (event) => {
      const at = grabbed && !grabbed.moved ? this.barAt(event.offsetX, event.offsetY) : -1;
      grabbed = null;
      if (at >= 0) this.onOpen(this.describe(at));
    });
    canvas.addEventListener("pointercancel", () => { grabbed = null; });
    canvas.addEventListener("pointerleave", () => { this.tooltip.hidden = true; });
    canvas.addEventListener("keydown", (event) => {
      const actions = { ArrowLeft: () => this.move(-this.span / 5), ArrowRight: () => this.move(this.span / 5), "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1.7), 0: () => this.showAll() };
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      event.stopPropagation();
      action();
    });
  }

  hover(event) {
    const at = this.barAt(event.offsetX, event.offsetY);
    this.tooltip.hidden = at < 0;
    if (at < 0) return;
    const bar = this.describe(at);
    const lines = [bar.function, `task ${bar.number} of ${bar.clientName}${bar.label ? `, ${bar.label}` : ""}`, `${seconds(bar.duration)}, ${bar.state}${bar.capability ? `, needs ${bar.capability}` : ""}`, `${clockFine(bar.start)} on ${bar.worker}`];
    this.tooltip.replaceChildren(...lines.flatMap((line, index) => (index ? [document.createElement("br"), line] : [line])));
    const x = Math.min(event.offsetX + 14, this.size.width - this.tooltip.offsetWidth - 6);
    this.tooltip.style.left = `${Math.max(4, x)}px`;
    this.tooltip.style.top = `${Math.min(event.offsetY + 16, Math.max(0, this.size.height - this.tooltip.offsetHeight - 4))}px`;
  }
}
