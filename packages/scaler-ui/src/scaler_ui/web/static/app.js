// Which page is shown, the state of the connection, the theme, and the keyboard.

import { get, href, keepRange, parse } from "./address.js";
import { setRefusal } from "./cancel.js";
import { history, listen } from "./data.js";
import { closeDetail, detailClosed, element } from "./elements.js";
import { elapsed, integer } from "./format.js";
import { PAGES } from "./pages.js";
import { openSaved } from "./saved.js";

const holder = document.getElementById("page");
const navigation = document.getElementById("navigation");
const notice = document.getElementById("notice");
let page = null;
let name = null;
let latest = null;
let updating = false;
let shownErrors = null;

PAGES.forEach(([id, label], at) => navigation.append(element("a", { href: `#${id}`, title: at < 10 ? `key ${(at + 1) % 10}` : undefined }, label)));

class Unknown {
  constructor() {
    this.node = element("div", {}, element("h1", {}, "There is no such page"), element("p", {}, `“${parse().page}” is none of the pages here. `, element("a", { href: "#overview" }, "Go to the overview"), "."));
  }

  update() {}
}

function open() {
  const { page: id } = parse();
  const found = PAGES.find(([candidate]) => candidate === id);
  const [, label, Kind] = found ?? ["", "no such page", Unknown];
  closeDetail();
  page?.destroy?.();
  name = id;
  page = new Kind();
  holder.replaceChildren(page.node);
  page.shown?.();
  document.title = `${label} · Scaler`;
  for (const link of navigation.children) {
    if (parse(link.getAttribute("href")).page === id) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest", inline: "nearest" }); }
    else link.removeAttribute("aria-current");
  }
  if (latest) update();
}

async function update() {
  // Without a scheduler there are no figures; the notice says so, and the page stays as it is.
  if (updating || document.hidden || latest.connection === "waiting") return;
  updating = true;
  const shown = page;
  try {
    await history.update(latest.samples);
    if (shown === page) await shown.update(latest);
  } catch (error) {
    // scaler_ui ended between the stream's last message and this request; the stream reports that itself.
    showStatus("lost", LOST);
  } finally { updating = false; }
  if (shown !== page) update();
}

const LOST = "scaler_ui does not answer; trying again";

// Beside the line at the top: figures that are not from now are grey, and a notice above them says how old they are.
function showStatus(kind, text) {
  const status = document.getElementById("status");
  if (status.className !== `status ${kind}`) status.className = `status ${kind}`;
  const line = document.getElementById("status-text");
  if (line.textContent !== text) line.textContent = text;
  document.body.dataset.connection = kind;
  const told = noticeOf(kind);
  if (notice.textContent !== told) notice.textContent = told;
  notice.hidden = !told;
}

function noticeOf(kind) {
  if (kind === "waiting") return `No scheduler has answered at ${latest.monitor_address} yet. Is it running, and is this the monitor address in its first line of log? Pages fill by themselves when it answers.`;
  if (kind === "silent") return `Old figures, ${elapsed(latest.silent_seconds)} ago: the scheduler says nothing.`;
  if (kind === "lost" && latest) return `Old figures, from ${new Date((latest.time ?? lastHeard / 1000) * 1000).toLocaleTimeString("en-GB")}: this page has lost its connection to scaler_ui.`;
  return "";
}

let lastHeard = Date.now();

function describe(data) {
  if (data.connection === "waiting") return ["waiting", `waiting for a scheduler at ${data.monitor_address} for ${elapsed(data.silent_seconds)}`];
  if (data.connection === "silent") return ["silent", `no message from the scheduler for ${elapsed(data.silent_seconds)}; the figures are from its last one`];
  const notes = [`connected to ${data.monitor_address}`];
  if (data.standby) notes.push("a standby: another scheduler is first");
  if (data.restarts) notes.push(`the scheduler was restarted ${data.restarts === 1 ? "once" : `${data.restarts} times`}`);
  if (data.missed_messages) notes.push(`${integer(data.missed_messages)} messages were lost`);
  return ["live", notes.join(" · ")];
}

listen((data) => {
  latest = data;
  lastHeard = Date.now();
  setRefusal(data.cancel_refusal);
  showStatus(...describe(data));
  if (shownErrors !== data.failures) {
    shownErrors = data.failures;
    const link = [...navigation.children].find((candidate) => parse(candidate.getAttribute("href")).page === "errors");
    link.querySelector(".count")?.remove();
    if (data.failures) link.append(element("span", { class: "count", "aria-label": `${data.failures} failed tasks` }, integer(data.failures)));
  }
  update();
}, () => showStatus("lost", LOST));

function nextTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme === "dark" || (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* in a frame that may store nothing */ }
  page.recolour?.();
}

const showSaved = () => openSaved(PAGES.find(([id]) => id === name)?.[1] ?? "this page");

document.getElementById("saved-button").addEventListener("click", showSaved);
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.getElementById("detail").addEventListener("close", detailClosed);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const at = "1234567890".indexOf(event.key);
  if (at >= 0 && PAGES[at]) location.hash = href(PAGES[at][0], { range: get("range") });
  else if (event.key === "/") { const field = holder.querySelector("input[type=search]"); if (field) { event.preventDefault(); field.focus(); } }
  else if (event.key === "s") showSaved();
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") document.getElementById("help").showModal();
});

addEventListener("hashchange", () => {
  if (parse().page === name && page.addressChanged) { page.addressChanged(); return; }
  open();
  if (!get("show")) holder.focus({ preventScroll: true });
});
for (const kind of ["click", "auxclick", "contextmenu"]) {
  addEventListener(kind, (event) => {
    const link = event.target.closest?.('a[href^="#"]:not(.skip, .kept-address)');
    if (link) keepRange(link);
  }, { capture: true });
}
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); holder.focus(); });
addEventListener("visibilitychange", () => { if (!document.hidden && latest) update(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page?.recolour?.());

// For measurements: how long the last frames of the task stream took, in milliseconds.
window.scaler = { frameTimes: () => page?.stream?.frameTimes ?? [], page: () => page };

if (document.readyState === "loading") addEventListener("DOMContentLoaded", open);
else open();
