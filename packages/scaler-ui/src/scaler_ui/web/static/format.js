// Numbers, times and colours as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${UNITS[unit]}`;
}

export const plural = (count, word) => `${integer(count)} ${word}${count === 1 ? "" : "s"}`;

export const integer = (value) => (value ?? 0).toLocaleString("en-US");

// For counts and percentages along an axis.
export const whole = (value) => integer(Math.round(value));
export const wholePercent = (value) => `${Math.round(value)} %`;

export function rate(value) {
  return value >= 100 ? integer(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(value ? 2 : 0);
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value >= 3600) return `${Math.floor(value / 3600)} h ${Math.floor(value / 60) % 60} min`;
  if (value >= 60) return `${Math.floor(value / 60)} min ${Math.floor(value) % 60} s`;
  if (value >= 10) return `${value.toFixed(1)} s`;
  if (value >= 1) return `${value.toFixed(2)} s`;
  if (value >= 1e-3) return `${(value * 1e3).toFixed(value >= 0.1 ? 0 : 1)} ms`;
  return value ? `${Math.round(value * 1e6)} µs` : "0 s";
}

// How long something has lasted that still goes on. Hundredths would only flicker.
export function elapsed(value) {
  return value !== null && value < 60 ? `${Math.floor(value ?? 0)} s` : seconds(value);
}

// How long something will take; a guess, so not finer than it is good for.
export function remaining(value) {
  if (value === null || value === undefined) return "not known";
  if (value >= 172800) return `${integer(Math.round(value / 86400))} days`;
  if (value >= 5400) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 90) return `${Math.round(value / 60)} min`;
  return value >= 1 ? `${Math.round(value)} s` : value ? "under 1 s" : "";
}

export const clock = (unix) => (unix ? new Date(unix * 1000).toLocaleTimeString("en-GB") : "");

export function clockFine(unix) {
  const date = new Date(unix * 1000);
  return `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

export const percent = (value) => `${value >= 100 ? Math.round(value) : value.toFixed(1)} %`;

// Twelve colours with a contrast of 3 and more to the backgrounds of both themes, and of 4.5 to black text on them. None is the
// red of failures. A name has the same colour on every page and after a reload.
export const PALETTE = ["#4085ff", "#d86a10", "#2d9a76", "#d65cb1", "#8c77f0", "#a58520", "#1e95b3", "#778aa5", "#6d9533", "#b3749c", "#599395", "#a77b52"];

export function colourOf(name) {
  let hash = 2166136261;
  for (let at = 0; at < name.length; at += 1) hash = Math.imul(hash ^ name.charCodeAt(at), 16777619);
  return PALETTE[(hash >>> 0) % PALETTE.length];
}

// Names that are shown together get different colours until all colours are used.
export function colours(names) {
  const taken = new Map();
  const used = new Set();
  for (const name of names) {
    let colour = colourOf(name);
    if (used.size < PALETTE.length) {
      let at = PALETTE.indexOf(colour);
      while (used.has(PALETTE[at])) at = (at + 1) % PALETTE.length;
      colour = PALETTE[at];
    }
    used.add(colour);
    taken.set(name, colour);
  }
  return taken;
}

export const STATE_COLOURS = { 2: "#2d9a76", 3: "#e05d5d", 4: "#a58520" };
export const STATE_NAMES = { 2: "succeeded", 3: "failed", 4: "canceled" };
