// Where the pages' data comes from: one stream that says when there is more, and plain requests for the rest.

export async function fetchJson(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response.json();
}

// Calls `onOverview(data)` about once a second, `onLost()` when this service does not answer; reconnects by itself.
export function listen(onOverview, onLost) {
  let source = null;
  let silence = null;

  function connect() {
    source = new EventSource("/api/stream");
    source.addEventListener("overview", (event) => { watch(); onOverview(JSON.parse(event.data)); });
    source.onerror = () => onLost();
    watch();
  }

  // A connection that is cut without a word raises no error: silence does.
  function watch() {
    clearTimeout(silence);
    silence = setTimeout(() => { onLost(); source.close(); connect(); }, 6000);
  }

  connect();
  addEventListener("pageshow", (event) => { if (event.persisted) { source.close(); connect(); } });
}

// All samples of the last hour, asked for once and then only continued.
export class History {
  constructor() { this.count = 0; this.time = []; this.series = {}; this.limit = 3600; }

  async update(expected) {
    if (expected === this.count) return false;
    const data = await fetchJson(`/api/history?seen=${this.count}`);
    const again = data.count < this.count || data.count - this.count !== data.time.length;
    if (again) { this.time = []; this.series = {}; }
    this.time.push(...data.time);
    for (const [name, values] of Object.entries(data.series)) (this.series[name] ??= []).push(...values);
    const surplus = this.time.length - this.limit;
    if (surplus > 0) for (const column of [this.time, ...Object.values(this.series)]) column.splice(0, surplus);
    this.count = data.count;
    return true;
  }
}

export const history = new History();
