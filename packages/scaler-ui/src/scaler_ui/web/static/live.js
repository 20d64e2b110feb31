// A shared worker: one for all tabs of a browser. It has the only event stream, because browsers open no more than six connections
// to a host, and passes on what it receives.

const SILENCE_MS = 6000;
const ports = new Set();
let source = null;
let silence = null;
let last = null;

function tell(message) {
  last = message;
  for (const port of ports) port.postMessage(message);
}

// A connection that is cut raises no error, so too long a silence counts as one.
function watch() {
  clearTimeout(silence);
  silence = setTimeout(() => { tell({ lost: true }); connect(); }, SILENCE_MS);
}

function connect() {
  source?.close();
  source = new EventSource("/api/stream");
  source.addEventListener("overview", (event) => { watch(); tell({ overview: event.data }); });
  source.onerror = () => {
    tell({ lost: true });
    // Not tried again by the browser itself: the answer was an error.
    if (source.readyState === EventSource.CLOSED) { clearTimeout(silence); silence = setTimeout(connect, 2000); }
  };
  watch();
}

function leave(port) {
  ports.delete(port);
  if (ports.size) return;
  source?.close();
  source = null;
  last = null;
  clearTimeout(silence);
}

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => {
    if (data === "leave") { leave(port); return; }
    ports.add(port);
    if (last) port.postMessage(last);
    if (!source) connect();
  };
});
