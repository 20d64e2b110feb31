// The bars of the task stream as columns of numbers. Every request appends to them; the oldest are dropped first.

import { fetchJson } from "./data.js";

const COLUMNS = ["start", "duration", "number", "state", "lane", "function", "capability", "client", "label"];
const KINDS = { start: Float64Array, number: Float64Array, duration: Float32Array };

// Bars of which only the first begin and the last end are looked at, to find those that are in view.
const CHUNK = 256;

// So many at once: reading them holds up the page for a few milliseconds.
const BARS_AT_ONCE = 4000;

// A bar around others comes after them. So many of its lane are looked at for that.
const INSIDE_LOOKED = 4096;

export const FAILED = 3;

export const place = (lane) => `${lane.agent}/${lane.slot}`;

export class Bars {
  constructor() { this.generation = 0; this.limit = 100000; this.clear(); this.loading = false; this.now = 0; this.nowAt = 0; this.running = []; this.runningOmitted = 0; }

  clear() {
    Object.assign(this, { seen: 0, length: 0, capacity: 0, base: 0, hosts: 0, columns: {}, lanes: [], functions: [], capabilities: [], clients: [], clientNames: [], labels: [] });
    // First begin and last end of each chunk; the newest bars of each lane that are in no other one.
    Object.assign(this, { chunkStarts: [], chunkEnds: [], outer: [], failed: [] });
    this.firstStart = Infinity; this.lastEnd = -Infinity;
  }

  // Whether something is new. `onPart` is called after each part.
  async update(onPart = () => {}) {
    if (this.loading) return false;
    this.loading = true;
    const before = this.seen;
    try {
      for (let more = true; more;) {
        const known = [this.lanes, this.functions, this.capabilities, this.clients, this.labels].map((names) => names.length);
        const data = await fetchJson(`/api/bars?seen=${this.seen}&generation=${this.generation}&limit=${BARS_AT_ONCE}&known=${[...known, this.hosts]}`);
        if (data.again) this.clear();
        this.generation = data.generation;
        this.limit = data.limit;
        this.hosts = data.hosts;
        this.name(data);
        this.append(data);
        this.seen = data.count;
        this.running = data.running;
        this.runningOmitted = data.running_omitted;
        this.now = data.now;
        this.nowAt = performance.now();
        more = data.more;
        if (more) onPart();
      }
    } finally { this.loading = false; }
    return this.seen !== before || this.running.length > 0;
  }

  // The time at the scheduler. It stands still when nothing is heard of it for some seconds, and never goes back.
  clock() {
    this.latest = Math.max(this.latest ?? 0, this.now + Math.min(3, (performance.now() - this.nowAt) / 1000));
    return this.latest;
  }

  name(data) {
    const [lanes, functions, capabilities, clients, labels] = data.known;
    const extend = (key, from, names) => { this[key] = names.length || from < this[key].length ? [...this[key].slice(0, from), ...names] : this[key]; };
    extend("lanes", lanes, data.lanes);
    extend("functions", functions, data.functions);
    extend("capabilities", capabilities, data.capabilities);
    extend("clients", clients, data.clients);
    extend("clientNames", clients, data.client_names);
    extend("labels", labels, data.labels);
  }

  append(data) {
    const { columns } = data;
    const added = columns.start.length;
    if (!added) return;
    if (this.length + added > this.limit * 1.1) this.drop(this.length + added - this.limit);
    this.reserve(this.length + added);
    for (const name of COLUMNS.slice(1)) this.columns[name].set(columns[name], this.length);
    for (let at = 0; at < added; at += 1) this.#enter(this.length + at, data.origin + columns.start[at], columns.duration[at]);
    this.length += added;
  }

  #enter(at, start, duration) {
    const { columns, chunkStarts, chunkEnds } = this;
    const end = start + duration;
    columns.start[at] = start;
    columns.inside[at] = 0;
    if (start < this.firstStart) this.firstStart = start;
    if (end > this.lastEnd) this.lastEnd = end;
    const chunk = Math.floor(at / CHUNK);
    if (!(chunkStarts[chunk] <= start)) chunkStarts[chunk] = start;
    if (!(chunkEnds[chunk] >= end)) chunkEnds[chunk] = end;
    if (columns.state[at] === FAILED) this.failed.push(this.base + at);
    // What a task waited for, at the same worker, lies within it.
    const outer = (this.outer[columns.lane[at]] ??= []);
    for (let last = outer.length - 1; last >= 0; last -= 1) {
      const other = outer[last] - this.base;
      if (other >= 0 && columns.start[other] < start) break;
      if (other >= 0) columns.inside[other] = 1;
      outer.pop();
    }
    outer.push(this.base + at);
    if (outer.length > INSIDE_LOOKED) outer.splice(0, INSIDE_LOOKED / 2);
  }

  reserve(size) {
    if (size <= this.capacity) return;
    this.capacity = Math.max(4096, Math.ceil(size * 1.5));
    for (const name of [...COLUMNS, "inside"]) {
      const column = new (KINDS[name] ?? (name === "inside" ? Uint8Array : Uint16Array))(this.capacity);
      if (this.columns[name]) column.set(this.columns[name].subarray(0, this.length));
      this.columns[name] = column;
    }
  }

  // Whole chunks, so at least `count`, as far as there are as many.
  drop(count) {
    const chunks = Math.min(Math.ceil(count / CHUNK), Math.floor(this.length / CHUNK));
    const dropped = chunks * CHUNK;
    for (const name of [...COLUMNS, "inside"]) this.columns[name].copyWithin(0, dropped, this.length);
    this.length -= dropped;
    this.base += dropped;
    this.chunkStarts.splice(0, chunks);
    this.chunkEnds.splice(0, chunks);
    this.failed = this.failed.filter((at) => at >= this.base);
    this.firstStart = Math.min(Infinity, ...this.chunkStarts);
  }

  // Pairs of indexes: outside of them no bar is between the two times. Newest first.
  ranges(from, to) {
    const found = [];
    for (let chunk = this.chunkStarts.length - 1; chunk >= 0; chunk -= 1) {
      if (this.chunkEnds[chunk] >= from && this.chunkStarts[chunk] <= to) found.push([chunk * CHUNK, Math.min(this.length, (chunk + 1) * CHUNK)]);
    }
    return found;
  }
}
