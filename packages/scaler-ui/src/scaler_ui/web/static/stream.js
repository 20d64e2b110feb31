// The task stream: lanes of workers under their hosts, a bar for each task, and above them how many workers are busy. Bars are
// written as pixels into one image: each into one line of its lane, which is then copied. So a frame costs a few milliseconds
// however many there are. What is narrower than a pixel is added up, and its pixel is the paler the less of it is used.

import { roundTicks } from "./axis.js";
import { Bars, FAILED, place } from "./bars.js";
import { history } from "./data.js";
import { element } from "./elements.js";
import { clockFine, colours, percent, plural, seconds, STATE_COLOURS, STATE_NAMES } from "./format.js";
import { Lanes } from "./lanes.js";

const AXIS = 24;
const STRIP = 46;
const MARGIN = 150;
const NARROW = 560;
const ZOOM_MIN_SECONDS = 20e-6;
const SHADES = 8;
const FAILED_WIDTH = 3;
const LABELS_MAX = 300;
const LABEL_WIDTH = 52;
const INK = "#0b0f14";
const STATES = { column: "state", names: STATE_NAMES, colourOf: (value) => STATE_COLOURS[value] ?? "#888888" };

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const pixel = (colour) => {
  const value = parseInt(colour.slice(1), 16);
  return ((255 << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
};

function mix(ground, colour, share) {
  let mixed = 255 << 24;
  for (const shift of [0, 8, 16]) mixed |= Math.round(((ground >> shift) & 255) * (1 - share) + ((colour >> shift) & 255) * share) << shift;
  return mixed >>> 0;
}

export class TaskStream {
  constructor(node, tooltip, { onOpen, onView, onSay }) {
    Object.assign(this, { tooltip, onOpen, onView, onSay });
    this.bars = new Bars();
    this.lanes = new Lanes();
    this.colourBy = "function";
    this.only = null;
    this.following = true;
    this.span = 60;
    this.range = 0;
    this.end = Date.now() / 1000;
    this.scroll = 0;
    this.frameTimes = [];
    this.stride = 1;
    this.canvas = node;
    this.context = node.getContext("2d", { alpha: false });
    this.scheduled = false;
    this.listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.onResize = () => this.draw();
  }

  // Call this when the canvas is part of the page.
  start() {
    this.observer.observe(this.canvas.parentElement);
    addEventListener("resize", this.onResize);
    this.timer = setInterval(() => { if (this.following && this.bars.running.length && !document.hidden) this.draw(); }, 200);
  }

  destroy() {
    this.observer.disconnect();
    removeEventListener("resize", this.onResize);
    clearInterval(this.timer);
  }

  draw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.paint(); });
  }

  // Theme or colours have changed.
  recolour() { this.inks = null; this.paletteOf = ""; this.draw(); }

  // The colour and name of each value that bars are coloured by.
  key() {
    const { bars } = this;
    if (this.colourBy === "state") return STATES;
    const column = ["capability", "label", "client"].includes(this.colourBy) ? this.colourBy : "function";
    const given = { function: bars.functions, capability: bars.capabilities, client: bars.clientNames, label: bars.labels }[column];
    if (this.keyed?.given !== given) {
      const names = given.map((name) => name || "none");
      const chosen = colours(names);
      this.keyed = { given, column, names, colourOf: (value) => chosen.get(names[value]) ?? "#888888" };
    }
    return this.keyed;
  }

  #palette(ground) {
    const { column, names, colourOf } = this.key();
    const mark = `${column}/${this.bars.generation}/${names.length ?? 0}/${ground}/${this.only}`;
    if (mark === this.paletteOf) return;
    this.paletteOf = mark;
    const count = Math.max(names.length ?? 0, 8);
    this.shades = new Uint32Array(count * SHADES);
    for (let value = 0; value < count; value += 1) {
      const colour = pixel(colourOf(value));
      const dimmed = this.only !== null && this.only !== value;
      for (let level = 0; level < SHADES; level += 1) this.shades[value * SHADES + level] = mix(ground, colour, dimmed ? 0.13 : 0.3 + (0.7 * level) / (SHADES - 1));
    }
  }

  get lastTime() { return Math.max(this.bars.lastEnd, this.bars.running.length ? this.bars.clock() : -Infinity); }

  #measure() {
    const { canvas } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.max(240, canvas.parentElement.clientWidth);
    const above = canvas.parentElement.getBoundingClientRect().top + scrollY;
    const most = Math.max(320, innerHeight - above - 74);
    this.lanes.update(this.bars, most - STRIP - AXIS);
    const height = Math.round(Math.max(200, Math.min(most, this.lanes.height + STRIP + AXIS)));
    this.scroll = Math.max(0, Math.min(this.scroll, this.lanes.height - (height - STRIP - AXIS)));
    const narrow = width <= NARROW;
    this.left = narrow ? 8 : MARGIN;
    this.size = { width, height, ratio, narrow };
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== down || !this.image) {
      canvas.width = across;
      canvas.height = down;
      canvas.style.height = `${height}px`;
      this.image = this.context.createImageData(across, down);
      this.used = new Uint8ClampedArray(across * down);
    }
  }

  paint() {
    const begun = performance.now();
    this.#measure();
    const { canvas, context, size } = this;
    if (this.following && this.lastTime > -Infinity) this.end = this.lastTime;
    this.inks ??= Object.fromEntries(["surface", "raised", "line", "muted", "text", "failed", "accent", "accent-soft"].map((name) => [name, style(`--${name}`)]));
    const ground = pixel(this.inks.surface);
    this.#palette(ground);
    const pixels = new Uint32Array(this.image.data.buffer);
    const left = Math.round(this.left * size.ratio);
    const view = { pixels, width: canvas.width, left, plot: canvas.width - left, from: this.end - this.span, scale: (canvas.width - left) / this.span, top: Math.round(STRIP * size.ratio), bottom: canvas.height - Math.round(AXIS * size.ratio) };
    this.axis = roundTicks(view.from, this.end, (size.width - this.left) / (this.span < 20 ? 70 : 96));
    pixels.fill(ground);
    this.#paintGround(view);
    this.#lines(view);
    this.labels = [];
    this.failures = [];
    this.busy = new Float64Array(view.plot + 2);
    this.steps = new Float64Array(view.plot + 2);
    this.used.fill(0);
    this.#paintRunning(view);
    this.#paintBars(view);
    this.#paintFailures(view);
    this.#copyLines(view);
    this.#paintStrip(view);
    context.putImageData(this.image, 0, 0);
    this.#paintText(view);
    this.frameTimes.push(performance.now() - begun);
    if (this.frameTimes.length > 240) this.frameTimes.shift();
    this.onView?.(this);
  }

  #paintGround({ pixels, width, left, from, scale, top, bottom }) {
    const [raised, line] = [pixel(this.inks.raised), pixel(this.inks.line)];
    const { ratio } = this.size;
    this.lanes.rows.forEach((row, index) => {
      const y0 = Math.max(top, Math.round((row.y - this.scroll) * ratio) + top);
      const y1 = Math.min(bottom, Math.round((row.y + row.height - this.scroll) * ratio) + top);
      if (y1 <= y0) return;
      if (index % 2) pixels.fill(raised, y0 * width, y1 * width);
      if (row.head) pixels.fill(line, y0 * width + left, y0 * width + width);
    });
    for (const { at } of this.axis.ticks) {
      const x = left + Math.round((at - from) * scale);
      if (x >= left && x < width) for (let y = top; y < bottom; y += 1) pixels[y * width + x] = line;
    }
    pixels.fill(line, (top - 1) * width, top * width);
  }

  // The line that bars of each lane are written into, and the last one that it is copied to; -1: not in view.
  #lines({ top, bottom }) {
    const { lanes, scroll } = this;
    const { ratio } = this.size;
    const count = lanes.places.length;
    this.line = new Int32Array(count).fill(-1);
    this.lineEnd = new Int32Array(count);
    for (const row of lanes.rows) {
      if ((row.y + row.height - scroll) * ratio < 0 || (row.y - scroll) * ratio > bottom - top) continue;
      const gap = row.each * ratio >= 6 ? 1 : 0;
      for (const lane of row.lanes) {
        const y0 = Math.round((lanes.tops[lane] - scroll) * ratio) + top;
        const y1 = Math.max(y0 + 1, Math.round((lanes.tops[lane] + lanes.heights[lane] - scroll) * ratio) + top - gap);
        if (y1 <= top || y0 + gap >= bottom) continue;
        this.line[lane] = Math.max(top, y0 + gap);
        this.lineEnd[lane] = Math.min(bottom, y1);
      }
    }
  }

  #paintRunning({ pixels, width, left, plot, from, scale }) {
    const { bars } = this;
    const { column } = this.key();
    const now = bars.clock();
    this.runningSince = new Float64Array(this.lanes.places.length).fill(Infinity);
    const edge = pixel(this.inks.text);
    for (const task of bars.running) {
      const lane = this.lanes.byPlace.get(place(task));
      if (lane === undefined || this.lanes.tops[lane] < 0) continue;
      const x0 = (task.start - from) * scale;
      const x1 = (now - from) * scale;
      this.#count(x0, x1, plot);
      this.runningSince[lane] = Math.min(this.runningSince[lane], task.start);
      const line = this.line[lane];
      if (line < 0 || x1 < 0 || x0 > plot) continue;
      const value = column === "function" ? bars.functions.indexOf(task.function) : column === "client" ? bars.clients.indexOf(task.client) : column === "label" ? bars.labels.indexOf(task.label) : column === "capability" ? bars.capabilities.indexOf(task.capability) : 0;
      const shade = Math.max(0, value) * SHADES;
      const begin = Math.max(0, Math.floor(x0));
      const end = Math.min(plot, Math.max(begin + 2, Math.floor(x1)));
      const known = value >= 0 && column !== "state";
      const [dark, pale] = known ? [this.shades[shade + 4], this.shades[shade + 1]] : [pixel(this.inks.muted), pixel(this.inks.line)];
      for (let x = begin; x < end; x += 1) pixels[line * width + left + x] = (x - begin) % 6 < 3 ? dark : pale;
      if (end < plot || x1 <= plot + 1) pixels.fill(edge, line * width + left + end - 2, line * width + left + end);
    }
  }

  // One worker more is busy between two places.
  #count(x0, x1, plot) {
    const begin = Math.max(0, x0);
    const end = Math.min(plot, x1);
    if (end <= begin) return;
    const first = Math.floor(begin);
    const last = Math.floor(end);
    if (first === last) { this.busy[first] += end - begin; return; }
    this.busy[first] += first + 1 - begin;
    this.busy[last] += end - last;
    this.steps[first + 1] += 1;
    this.steps[last] -= 1;
  }

  #paintBars({ pixels, width, left, plot, from, scale }) {
    const { bars, line, shades, used } = this;
    const { start, duration, lane, state, inside } = bars.columns;
    const values = bars.columns[this.key().column];
    const { tops, heights } = this.lanes;
    const now = bars.clock();
    const labelWidth = LABEL_WIDTH * this.size.ratio;
    // Newest first: a task ends after those that it has waited for, and is drawn beneath them.
    for (const [first, after] of bars.ranges(from, this.end)) {
      for (let at = after - 1; at >= first; at -= 1) {
        const x0 = (start[at] - from) * scale;
        const length = duration[at] * scale;
        const x1 = x0 + length;
        const of = lane[at];
        if (x1 < 0 || x0 > plot || tops[of] < 0) continue;
        if (!inside[at] && (start[at] < this.runningSince[of] || start[at] > now)) this.#count(x0, x1, plot);
        if (state[at] === FAILED) this.failures.push(at);
        const y = line[of];
        if (y < 0) continue;
        const shade = values[at] * SHADES;
        if (length < 2) {
          const x = Math.max(0, Math.min(plot - 1, Math.floor(x0 + length / 2)));
          const place = y * width + left + x;
          used[place] += Math.max(1, length * 255);
          pixels[place] = shades[shade + (used[place] >> 5)];
          continue;
        }
        const begin = Math.max(0, Math.floor(x0));
        const end = Math.min(plot, Math.max(begin + 1, Math.floor(x1) - (length > 3 ? 1 : 0)));
        pixels.fill(shades[shade + SHADES - 1], y * width + left + begin, y * width + left + end);
        if (end - begin > labelWidth && heights[of] >= 13 && this.labels.length < LABELS_MAX) this.labels.push([at, begin, end]);
      }
    }
  }

  #paintFailures({ pixels, width, left, plot, from, scale }) {
    const { start, duration, lane } = this.bars.columns;
    const bad = pixel(this.inks.failed);
    const least = Math.round(FAILED_WIDTH * this.size.ratio);
    for (const at of this.failures) {
      const y = this.line[lane[at]];
      if (y < 0) continue;
      const x1 = Math.min(plot, Math.max(least, Math.floor((start[at] + duration[at] - from) * scale)));
      const x0 = Math.max(0, Math.min(Math.floor((start[at] - from) * scale), x1 - least));
      pixels.fill(bad, y * width + left + x0, y * width + left + x1);
    }
  }

  #copyLines({ pixels, width, left }) {
    const done = new Uint8Array(this.canvas.height);
    for (let lane = 0; lane < this.line.length; lane += 1) {
      const y = this.line[lane];
      if (y < 0 || done[y]) continue;
      done[y] = 1;
      for (let to = y + 1; to < this.lineEnd[lane]; to += 1) pixels.copyWithin(to * width + left, y * width + left, (y + 1) * width);
    }
  }

  // Whether the strip is made of the bars. Where not all tasks have one, and where nothing is known of them, it is made of samples.
  get countsBars() { return this.stride <= 1; }

  // The share of workers that are busy at a pixel column.
  #shares({ plot, from, scale }) {
    const shares = new Float32Array(plot);
    const { time, series } = history;
    const all = Math.max(1, this.lanes.count ?? 1);
    const sampled = !this.lanes.host && time.length > 0 && series.workers;
    let at = 0;
    let sum = 0;
    for (let x = 0; x < plot; x += 1) {
      const when = from + (x + 0.5) / scale;
      while (at + 1 < time.length && time[at] < when) at += 1;
      const workers = sampled && series.workers[at] ? series.workers[at] : all;
      sum += this.steps[x];
      shares[x] = this.countsBars ? Math.min(1, (sum + this.busy[x]) / workers) : sampled && when <= time.at(-1) + 1 ? Math.min(1, (series.busy_workers[at] ?? 0) / workers) : 0;
    }
    return shares;
  }

  #paintStrip(view) {
    const { pixels, width, left, plot, from, scale, top } = view;
    const { ratio } = this.size;
    const marks = Math.round(7 * ratio);
    const shares = this.#shares(view);
    this.shares = shares;
    const [soft, strong, bad] = [pixel(this.inks["accent-soft"]), pixel(this.inks.accent), pixel(this.inks.failed)];
    const floor = top - 2;
    const height = floor - marks - 1;
    for (let x = 0; x < plot; x += 1) {
      const peak = floor - Math.round(shares[x] * height);
      for (let y = peak; y < floor; y += 1) pixels[y * width + left + x] = y - peak < ratio ? strong : soft;
    }
    const { start, duration } = this.bars.columns;
    for (const at of this.failures) {
      const x = Math.max(0, Math.min(plot - 2, Math.round((start[at] + duration[at] - from) * scale) - 1));
      for (let y = 0; y < marks - 1; y += 1) pixels.fill(bad, y * width + left + x, y * width + left + x + 2);
    }
  }

  #paintText(view) {
    const { context, canvas, bars, lanes, inks, size } = this;
    const { ratio } = size;
    const { left, top, bottom, from, scale, plot } = view;
    const fits = (text, pixels, each = 6.1) => (text.length * each * ratio <= pixels ? text : pixels > 12 * ratio ? `${text.slice(0, Math.max(1, Math.floor(pixels / (each * ratio)) - 1))}…` : "");
    context.textBaseline = "middle";
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.save();
    context.beginPath();
    context.rect(0, top, canvas.width, bottom - top);
    context.clip();
    context.fillStyle = INK;
    for (const [at, begin, end] of this.labels) {
      const lane = bars.columns.lane[at];
      const failed = bars.columns.state[at] === FAILED;
      const y = (lanes.tops[lane] + lanes.heights[lane] / 2 - this.scroll) * ratio + top;
      context.fillStyle = failed ? inks.surface : INK;
      context.fillText(fits(`${failed ? "✕ " : ""}${bars.functions[bars.columns.function[at]]}`, end - begin - 8 * ratio), left + begin + 4 * ratio, y);
    }
    for (const row of lanes.rows) {
      const y = (row.y - this.scroll) * ratio + top;
      if (y + row.height * ratio < top || y > bottom) continue;
      const alone = row.lanes.length === 1;
      const text = alone ? lanes.places[row.lanes[0]].name : `${row.folded ? "▸" : "▾"} ${row.host}`;
      context.font = `${alone ? "" : "600 "}${(row.height < 12 ? 9 : 11) * ratio}px system-ui, sans-serif`;
      const middle = y + (row.head || Math.min(row.height, size.narrow ? 16 : row.height)) * 0.5 * ratio;
      const shown = fits(text, (size.narrow ? canvas.width : left) - 12 * ratio, 6.6);
      if (size.narrow && !row.head) {
        context.fillStyle = `${inks.surface}d8`;
        context.fillRect(left, middle - 7 * ratio, context.measureText(shown).width + 8 * ratio, 14 * ratio);
      }
      context.fillStyle = alone ? inks.muted : inks.text;
      context.fillText(shown, (size.narrow ? left + 4 : 8) * ratio, middle);
      if (row.head && !size.narrow && row.each >= 10) {
        context.font = `${11 * ratio}px system-ui, sans-serif`;
        context.fillStyle = inks.muted;
        row.lanes.forEach((lane) => context.fillText(fits(lanes.places[lane].name, left - 30 * ratio), 20 * ratio, (lanes.tops[lane] + row.each / 2 - this.scroll) * ratio + top));
      }
    }
    if (this.chosenBar !== undefined) this.#paintChosen(view);
    context.restore();
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.fillStyle = inks.muted;
    if (!size.narrow) {
      context.fillText("workers busy", 8 * ratio, 15 * ratio);
      context.fillText(percent(100 * this.utilisation()), 8 * ratio, 30 * ratio);
    }
    context.fillStyle = inks.line;
    context.fillRect(0, bottom, canvas.width, ratio);
    context.fillStyle = inks.muted;
    for (const { at, text } of this.axis.ticks) {
      const x = left + (at - from) * scale;
      context.fillRect(x, bottom, ratio, 5 * ratio);
      if (x < left + plot - 26 * ratio) context.fillText(text, x + 4 * ratio, bottom + 13 * ratio);
    }
    const shown = (bottom - top) / ratio;
    if (lanes.height > shown + 1) {
      const long = Math.max(24, (shown * shown) / lanes.height);
      context.fillRect(canvas.width - 5 * ratio, top + (this.scroll / (lanes.height - shown)) * (shown - long) * ratio, 4 * ratio, long * ratio);
    }
  }

  #paintChosen({ left, top, from, scale, plot }) {
    const { start, duration, lane } = this.bars.columns;
    const at = this.chosenBar - this.bars.base;
    if (at < 0 || at >= this.bars.length) return;
    const { ratio } = this.size;
    const x0 = Math.max(0, (start[at] - from) * scale);
    const x1 = Math.min(plot, Math.max(x0 + 3, (start[at] + duration[at] - from) * scale));
    this.context.strokeStyle = this.inks.text;
    this.context.lineWidth = 2 * ratio;
    this.context.strokeRect(left + x0 - 1, (this.lanes.tops[lane[at]] - this.scroll) * ratio + top, x1 - x0 + 2, this.lanes.heights[lane[at]] * ratio);
  }

  // Of what is shown: the mean share of busy workers, since the first task that is known.
  utilisation() {
    const { shares } = this;
    if (!shares?.length || !(this.bars.firstStart < Infinity)) return 0;
    const scale = shares.length / this.span;
    const first = Math.max(0, Math.min(shares.length - 1, Math.floor((this.bars.firstStart - this.end + this.span) * scale)));
    const last = Math.max(first + 1, Math.min(shares.length, Math.ceil((this.lastTime - this.end + this.span) * scale)));
    let sum = 0;
    for (let x = first; x < last; x += 1) sum += shares[x];
    return sum / (last - first);
  }

  // What is shown, by the names that bars are coloured by: tasks, failed ones, seconds.
  summary() {
    const { bars } = this;
    const { column, names } = this.key();
    const found = new Map();
    const from = this.end - this.span;
    const { start, duration, state, lane } = bars.columns;
    for (const [first, after] of bars.ranges(from, this.end)) {
      for (let at = first; at < after; at += 1) {
        if (start[at] + duration[at] < from || start[at] > this.end || this.lanes.tops[lane[at]] < 0) continue;
        const value = bars.columns[column][at];
        let row = found.get(value);
        if (!row) found.set(value, row = { value, name: names[value] ?? "?", tasks: 0, failed: 0, seconds: 0, longest: 0 });
        row.tasks += 1;
        row.failed += state[at] === FAILED ? 1 : 0;
        row.seconds += duration[at];
        row.longest = Math.max(row.longest, duration[at]);
      }
    }
    return [...found.values()].sort((a, b) => b.seconds - a.seconds);
  }

  timeAt(x) { return this.end - this.span + ((x - this.left) / (this.size.width - this.left)) * this.span; }

  // The bar under a point: the index of one that has ended, or a task that runs.
  barAt(x, y) {
    const { bars, size, lanes } = this;
    if (!size || x < this.left || y < STRIP || y > size.height - AXIS || !bars.columns.start) return null;
    const lane = lanes.laneAt(y - STRIP + this.scroll);
    if (lane < 0) return null;
    const time = this.timeAt(x);
    const tolerance = (this.span / (size.width - this.left)) * 2;
    let best = null;
    let bestLength = Infinity;
    for (const [first, after] of bars.ranges(time - tolerance, time + tolerance)) {
      for (let at = after - 1; at >= first; at -= 1) {
        if (bars.columns.lane[at] !== lane) continue;
        const begin = bars.columns.start[at];
        const length = bars.columns.duration[at];
        if (time >= begin - tolerance && time <= begin + length + tolerance && length < bestLength) { best = at; bestLength = length; }
      }
    }
    if (best !== null) return { at: best };
    const running = bars.running.find((task) => lanes.byPlace.get(place(task)) === lane && time >= task.start - tolerance && time <= bars.clock() + tolerance);
    return running ? { running } : null;
  }

  describe({ at, running }) {
    const { columns, functions, capabilities, clients, clientNames, labels, lanes } = this.bars;
    if (running) return { ...running, clientName: running.client_name, state: "running", duration: this.bars.clock() - running.start, worker: running.name };
    return {
      number: columns.number[at], client: clients[columns.client[at]], clientName: clientNames[columns.client[at]],
      function: functions[columns.function[at]], capability: capabilities[columns.capability[at]], label: labels[columns.label[at]], state: STATE_NAMES[columns.state[at]] ?? "?",
      start: columns.start[at], duration: columns.duration[at], worker: lanes[columns.lane[at]].name, host: lanes[columns.lane[at]].host,
    };
  }

  zoom(factor, centre = this.end - this.span / 2) {
    const whole = Math.max(1, this.lastTime - this.bars.firstStart);
    const span = Math.max(ZOOM_MIN_SECONDS, Math.min(this.span * factor, Math.max(whole * 1.1, 60)));
    const share = (this.end - centre) / this.span;
    this.span = span;
    if (!this.following || factor < 1) this.end = centre + share * span;
    this.following = this.end >= this.lastTime;
    this.draw();
  }

  move(by) {
    this.end += by;
    this.following = by > 0 && this.end >= this.lastTime;
    this.draw();
  }

  moveLanes(by) { this.scroll += by; this.draw(); }

  showAll() {
    if (this.bars.length) this.span = Math.max(1e-3, Math.min(this.range || Infinity, (this.lastTime - this.bars.firstStart) * 1.02));
    this.following = true;
    this.draw();
  }

  // Shows the failed task after (1) or before (-1) the one that was shown so, or the last one.
  nextFailure(step) {
    const { bars } = this;
    const shown = bars.failed.filter((at) => this.lanes.tops[bars.columns.lane[at - bars.base]] >= 0);
    if (!shown.length) { this.onSay?.("No task that is kept has failed."); return; }
    const now = shown.indexOf(this.chosenBar);
    this.chosenBar = now < 0 ? shown.at(step > 0 ? 0 : -1) : shown[(now + step + shown.length) % shown.length];
    const at = this.chosenBar - bars.base;
    const length = bars.columns.duration[at];
    const tops = this.lanes.tops[bars.columns.lane[at]];
    this.span = Math.min(this.span, Math.max(length * 20, 1));
    this.end = bars.columns.start[at] + length / 2 + this.span / 2;
    this.following = false;
    this.scroll = Math.max(0, tops - 100);
    const bar = this.describe({ at });
    this.onSay?.(`Failure ${shown.indexOf(this.chosenBar) + 1} of ${shown.length}: ${bar.function}, task ${bar.number} of ${bar.clientName}, after ${seconds(bar.duration)} on ${bar.worker}.`);
    this.draw();
  }

  open(bar) {
    const described = this.describe(bar);
    if (described.client) this.onOpen(described);
  }

  foldAll() { this.lanes.foldAll(); this.draw(); }

  listen() {
    const { canvas } = this;
    const pointers = new Map();
    let grabbed = null;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.offsetX < this.left || event.shiftKey) this.moveLanes(event.deltaY || event.deltaX);
      else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move((event.deltaX / this.size.width) * this.span);
      else this.zoom(Math.exp(event.deltaY * 0.0016), this.timeAt(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, event.clientX);
      grabbed = { x: event.clientX, y: event.clientY, end: this.end, span: this.span, scroll: this.scroll, moved: false, apart: this.#apart(pointers) };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grabbed) { this.hover(event); return; }
      if (!pointers.has(event.pointerId)) return;
      pointers.set(event.pointerId, event.clientX);
      if (pointers.size > 1) { this.#pinch(grabbed, this.#apart(pointers)); return; }
      const by = event.clientX - grabbed.x;
      if (Math.abs(by) > 3 || Math.abs(event.clientY - grabbed.y) > 3) grabbed.moved = true;
      if (!grabbed.moved) return;
      this.end = grabbed.end - (by / (this.size.width - this.left)) * this.span;
      if (event.pointerType === "mouse") this.scroll = grabbed.scroll - (event.clientY - grabbed.y);
      this.following = by < 0 && this.end >= this.lastTime;
      this.tooltip.hidden = true;
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      pointers.delete(event.pointerId);
      const clicked = grabbed && !grabbed.moved;
      grabbed = null;
      if (clicked) this.#click(event);
    });
    canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); grabbed = null; });
    canvas.addEventListener("pointerleave", () => { this.tooltip.hidden = true; });
    canvas.addEventListener("keydown", (event) => {
      const actions = {
        ArrowLeft: () => this.move(-this.span / 5), ArrowRight: () => this.move(this.span / 5), ArrowUp: () => this.moveLanes(-60), ArrowDown: () => this.moveLanes(60), PageUp: () => this.moveLanes(-400), PageDown: () => this.moveLanes(400),
        "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1.7), 0: () => this.showAll(), f: () => this.foldAll(), n: () => this.nextFailure(1), p: () => this.nextFailure(-1),
        Enter: () => { const at = this.chosenBar - this.bars.base; if (at >= 0) this.open({ at }); },
      };
      const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : actions[event.key];
      if (!action) return;
      event.preventDefault();
      event.stopPropagation();
      action();
    });
  }

  #apart(pointers) { const places = [...pointers.values()]; return places.length > 1 ? Math.max(10, Math.abs(places[0] - places[1])) : 0; }

  #pinch(grabbed, apart) {
    grabbed.moved = true;
    const centre = grabbed.end - grabbed.span / 2;
    this.span = Math.max(ZOOM_MIN_SECONDS, grabbed.span * (grabbed.apart / apart));
    this.end = centre + this.span / 2;
    this.following = false;
    this.draw();
  }

  // On the name of a host: folds it. On a bar: opens it.
  #click(event) {
    const y = event.offsetY - STRIP + this.scroll;
    const row = event.offsetY >= STRIP ? this.lanes.rowAt(y) : undefined;
    if (row && row.lanes.length > 1 && (event.offsetX < this.left || y < row.y + row.head)) { this.lanes.fold(row.host); this.draw(); return; }
    const bar = this.barAt(event.offsetX, event.offsetY);
    if (bar) this.open(bar);
  }

  hover(event) {
    const { size } = this;
    if (!size) return;
    const lines = this.#told(event.offsetX, event.offsetY);
    this.tooltip.hidden = !lines;
    if (!lines) return;
    this.tooltip.replaceChildren(...lines.flatMap((line, index) => (index ? [element("br"), line] : [line])));
    const x = Math.min(event.offsetX + 14, size.width - this.tooltip.offsetWidth - 6);
    this.tooltip.style.left = `${Math.max(4, x)}px`;
    this.tooltip.style.top = `${Math.min(event.offsetY + 16, Math.max(0, size.height - this.tooltip.offsetHeight - 4))}px`;
  }

  #told(x, y) {
    if (y < STRIP && x >= this.left && this.shares) {
      const share = this.shares[Math.floor((x - this.left) * this.size.ratio)] ?? 0;
      return [`${percent(100 * share)} of ${plural(this.lanes.count, "worker")} busy`, clockFine(this.timeAt(x))];
    }
    const found = this.barAt(x, y);
    if (!found) return null;
    const bar = this.describe(found);
    return [
      bar.function, `task ${bar.number}${bar.clientName ? ` of ${bar.clientName}` : ""}${bar.label ? `, ${bar.label}` : ""}`,
      `${bar.state === "running" ? "running for " : ""}${seconds(bar.duration)}${bar.state === "running" ? "" : `, ${bar.state}`}${bar.capability ? `, needs ${bar.capability}` : ""}`,
      `${clockFine(bar.start)} on ${bar.worker}`,
    ];
  }
}
