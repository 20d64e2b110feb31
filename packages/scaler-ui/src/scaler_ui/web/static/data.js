// The pages' data: one event stream that says when there is more, and plain requests for the rest.

export async function fetchJson(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  // The session has ended: this shows the sign-in form.
  if (response.status === 401) location.reload();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response.json();
}

// Calls `onOverview(data)` about once a second, and `onLost()` when scaler_ui does not answer. Connects again by itself.
// All tabs share one stream. Where a browser has no shared workers, the visible tab asks once a second.
export function listen(onOverview, onLost) {
  const lost = () => {
    onLost();
    // The stream ends with the session: ask whether that is why.
    fetchJson("/api/overview").catch(() => {});
  };
  let worker;
  // There is none on some phones, and none in a frame on another site where the browser keeps such frames from storing anything.
  try { worker = new SharedWorker(new URL("./live.js", import.meta.url)); } catch { poll(onOverview, lost); return; }
  worker.onerror = () => { worker.onerror = null; poll(onOverview, lost); };
  const { port } = worker;
  port.onmessage = ({ data }) => { if (data.lost) lost(); else onOverview(JSON.parse(data.overview)); };
  const join = () => port.postMessage("join");
  join();
  addEventListener("pagehide", () => port.postMessage("leave"));
  addEventListener("pageshow", (event) => { if (event.persisted) join(); });
}

function poll(onOverview, lost) {
  const ask = async () => {
    if (!document.hidden) {
      try { onOverview(await fetchJson("/api/overview")); } catch { lost(); }
    }
    setTimeout(ask, 1000);
  };
  ask();
}

// Without a sample for longer, lines are interrupted: nobody knows what was there.
const GAP_SECONDS = 5;

// All samples of the last hour: requested once, then only continued. Gaps have a sample without values.
export class History {
  constructor() { this.count = 0; this.time = []; this.series = {}; this.limit = 3600; }

  append(time, series) {
    const names = Object.keys(series);
    time.forEach((at, index) => {
      const last = this.time.at(-1);
      if (last !== undefined && at - last > GAP_SECONDS) {
        this.time.push(last + 1);
        for (const name of names) (this.series[name] ??= []).push(null);
      }
      this.time.push(at);
      for (const name of names) (this.series[name] ??= []).push(series[name][index]);
    });
  }

  // Of how many seconds there are samples.
  get seconds() { return this.time.length ? this.time.at(-1) - this.time[0] : 0; }

  async update(expected) {
    if (expected === this.count) return false;
    const data = await fetchJson(`/api/history?seen=${this.count}`);
    const again = data.count < this.count || data.count - this.count !== data.time.length;
    if (again) { this.time = []; this.series = {}; }
    this.append(data.time, data.series);
    const surplus = this.time.length - this.limit;
    if (surplus > 0) for (const column of [this.time, ...Object.values(this.series)]) column.splice(0, surplus);
    this.count = data.count;
    return true;
  }
}

export const history = new History();
