// Lines over time, drawn by uPlot.

import { history } from "./data.js";
import { bytes, whole, wholePercent } from "./format.js";
import { range } from "./range.js";

// Ticks of memory stand at whole binary units.
const BINARY_STEPS = Array.from({ length: 44 }, (_, power) => 2 ** power);

// Other ticks of counts would be rounded, and say the same several times.
const WHOLE_STEPS = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
const STEPS = new Map([[bytes, BINARY_STEPS], [whole, WHOLE_STEPS], [wholePercent, WHOLE_STEPS]]);

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function clockTicks(ticks) {
  const options = ticks.some((unix) => unix % 60) ? {} : { hour: "2-digit", minute: "2-digit" };
  return ticks.map((unix) => new Date(unix * 1000).toLocaleTimeString("en-GB", options));
}

// series: { name, label, colour, fill, smooth }; smooth: means over a sixtieth of the range, 5 samples at least. `format` makes
// text of a value.
function smoothed(values, window) {
  const means = [];
  let [sum, count] = [0, 0];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] === null) { sum = 0; count = 0; means.push(null); continue; }
    sum += values[at];
    count += 1;
    if (count > window) { sum -= values[at - window]; count = window; }
    means.push(Math.max(0, sum / count));
  }
  return means;
}

export class Chart {
  constructor(node, series, format, { minimum = 1 } = {}) {
    Object.assign(this, { node, series, format, minimum });
    node.classList.add("chart");
    this.build();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(node);
  }

  build() {
    this.plot?.destroy();
    const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      width: Math.max(200, this.node.clientWidth), height: 172,
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { x: { time: true, range: () => this.range() }, y: { range: (_, low, high) => [0, Math.max(this.minimum, (high ?? 0) * 1.08)] } },
      axes: [{ ...axis, space: 74, size: 28, values: (_, ticks) => clockTicks(ticks) }, { ...axis, size: 62, ...(STEPS.has(this.format) ? { incrs: STEPS.get(this.format) } : {}), values: (_, ticks) => ticks.map((tick) => this.format(tick)) }],
      series: [{ label: "time", value: (_, value) => (value ? new Date(value * 1000).toLocaleTimeString("en-GB") : "") },
        ...this.series.map((one) => ({ label: one.label, stroke: one.colour, width: 1.6, spanGaps: false, fill: one.fill ? `${one.colour}22` : undefined, points: { show: false }, value: (_, value) => (value === null || value === undefined ? "" : this.format(value)) }))],
    }, this.data(), this.node);
    this.resize();
  }

  range() {
    const last = history.time.at(-1) ?? Date.now() / 1000;
    const first = history.time[0] ?? last;
    return [Math.max(Math.min(first, last - 30), last - (range() || Infinity)), last];
  }

  data() {
    const [from, to] = this.range();
    const window = Math.max(5, Math.round((to - from) / 60));
    return [history.time, ...this.series.map((one) => { const values = history.series[one.name] ?? []; return one.smooth ? smoothed(values, window) : values; })];
  }

  update() {
    this.plot.setData(this.data());
    // Without a pointer in it, the legend tells the newest values.
    if (!this.plot.cursor.left || this.plot.cursor.left < 0) this.plot.setLegend({ idx: history.time.length - 1 });
  }

  resize() {
    this.plot.setSize({ width: Math.max(200, this.node.clientWidth), height: 172 });
  }

  destroy() { this.observer.disconnect(); this.plot.destroy(); }
}
