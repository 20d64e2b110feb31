// Ticks of a time axis at round times of the clock on the wall.

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// At most about `most` of them: { step, ticks: [{ at, text }] }, times in Unix seconds.
export function roundTicks(from, to, most) {
  const least = (to - from) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-9)));
  const fine = [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= least * 0.999);
  const step = fine < 1 ? fine : STEPS.find((candidate) => candidate >= least) ?? Math.ceil(least / 86400) * 86400;
  // Days and quarters of them begin at midnight here, not in Greenwich.
  const offset = -new Date(from * 1000).getTimezoneOffset() * 60;
  const digits = Math.max(0, Math.round(-Math.log10(step) + 0.499));
  const ticks = [];
  for (let count = Math.ceil((from + offset) / step); count * step - offset <= to; count += 1) {
    const at = count * step - offset;
    const whole = Math.abs(at - Math.round(at)) < step / 4;
    const options = { hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) };
    ticks.push({ at, text: whole ? new Date(Math.round(at) * 1000).toLocaleTimeString("en-GB", options) : (at - Math.floor(at)).toFixed(digits).slice(1) });
  }
  return { step, ticks };
}
