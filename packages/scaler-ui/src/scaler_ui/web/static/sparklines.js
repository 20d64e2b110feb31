// A line as wide as a word: how something went in the last minutes.

const SVG = "http://www.w3.org/2000/svg";

const make = (tag, attributes) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};

// `most`: the value at the top. `slots`: how many values fit, the newest at the right. `label`: what is read out.
export function sparkline(values, most, label, slots = 60) {
  const svg = make("svg", { viewBox: `0 0 ${slots - 1} 20`, preserveAspectRatio: "none", class: "trend", role: "img", "aria-label": label });
  const start = slots - values.length;
  const points = values.map((value, at) => `${start + at} ${(19 - (18 * Math.min(value, most)) / Math.max(most, 1)).toFixed(1)}`);
  if (points.length) svg.append(make("path", { class: "area", d: `M${start} 20 L${points.join(" L")} L${slots - 1} 20 Z` }), make("path", { class: "line", d: `M${points.join(" L")}` }));
  return svg;
}
