// Which lane of the task stream is where: one lane for each worker, under the name of its host. A folded host is one row, which
// its workers share.

import { place } from "./bars.js";

export const HEAD = 18;
const LANE = [11, 56];
const FOLDED = [10, 64];
const FOLDED_BESIDE_OPEN = 22;

const clamp = (value, [low, high]) => Math.max(low, Math.min(high, value));
const collator = new Intl.Collator("en", { numeric: true });

export class Lanes {
  constructor() { this.folds = new Map(); this.host = ""; this.places = []; this.hosts = []; this.rows = []; this.height = 0; this.signature = ""; }

  // Place everything for so much height. Running tasks may be at workers that have ended none yet.
  update(bars, available) {
    const running = bars.running.map(place).join();
    const signature = `${bars.generation}/${bars.lanes.length}/${bars.hosts}/${running}/${available}/${this.host}/${[...this.folds]}`;
    if (signature === this.signature) return;
    this.signature = signature;
    this.places = [...bars.lanes];
    this.byPlace = new Map(this.places.map((lane, at) => [place(lane), at]));
    for (const task of bars.running) {
      if (this.byPlace.has(place(task))) continue;
      this.byPlace.set(place(task), this.places.length);
      this.places.push({ agent: task.agent, slot: task.slot, name: task.name, host: task.host });
    }
    const groups = new Map();
    this.places.forEach((lane, at) => { if (!groups.has(lane.host)) groups.set(lane.host, []); groups.get(lane.host).push(at); });
    this.hosts = [...groups.keys()].sort(collator.compare);
    // The host that the address names may come with a later part.
    this.#arrange(groups.has(this.host) ? [this.host] : this.hosts, groups, available);
  }

  #arrange(hosts, groups, available) {
    const { places } = this;
    const count = hosts.reduce((sum, host) => sum + groups.get(host).length, 0);
    this.foldsByItself = hosts.length > 1 && hosts.length * HEAD + count * LANE[0] > available;
    const folded = hosts.map((host) => groups.get(host).length > 1 && (this.folds.get(host) ?? this.foldsByItself));
    const closed = folded.filter(Boolean).length;
    const heads = hosts.filter((host, at) => !folded[at] && groups.get(host).length > 1).length;
    const open = hosts.reduce((sum, host, at) => sum + (folded[at] ? 0 : groups.get(host).length), 0);
    const foldedHeight = open ? FOLDED_BESIDE_OPEN : clamp(available / Math.max(1, closed), FOLDED);
    const laneHeight = clamp((available - heads * HEAD - closed * foldedHeight) / Math.max(1, open), LANE);
    this.tops = new Float64Array(places.length).fill(-1);
    this.heights = new Float64Array(places.length);
    this.rows = [];
    let y = 0;
    hosts.forEach((host, at) => {
      const lanes = groups.get(host).sort((a, b) => collator.compare(places[a].agent, places[b].agent) || places[a].slot - places[b].slot);
      const head = !folded[at] && lanes.length > 1 ? HEAD : 0;
      const each = folded[at] ? foldedHeight / lanes.length : laneHeight;
      lanes.forEach((lane, index) => { this.tops[lane] = y + head + index * each; this.heights[lane] = each; });
      const height = head + lanes.length * each;
      this.rows.push({ host, lanes, y, head, height, folded: folded[at], each });
      y += height;
    });
    this.height = y;
    this.count = count;
  }

  rowAt(y) { return this.rows.find((row) => y >= row.y && y < row.y + row.height); }

  // The lane at a height, -1 where there is none.
  laneAt(y) {
    const row = this.rowAt(y);
    const index = row ? Math.floor((y - row.y - row.head) / row.each) : -1;
    return row && index >= 0 ? row.lanes[Math.min(index, row.lanes.length - 1)] : -1;
  }

  fold(host) { this.folds.set(host, !(this.folds.get(host) ?? this.foldsByItself)); }

  foldAll() {
    const all = this.rows.every((row) => row.folded || row.lanes.length === 1);
    for (const host of this.hosts) this.folds.set(host, !all);
  }
}
