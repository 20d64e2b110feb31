// What a task has printed and logged, as agents have kept it: asked for again and again while somebody looks.

import { fetchJson } from "./data.js";
import { element } from "./elements.js";
import { clockFine, plural } from "./format.js";

const AGAIN_MS = 2000;
const LINES_MAX = 2000;
const STREAMS = { 1: "stdout", 2: "stderr", 3: "log", 4: "note", 5: "called with" };
// Programs colour their output for terminals.
const COLOURS = /\u001b\[[0-9;]*[A-Za-z]/g;

export function saveText(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Lines of one part: { stream, at, text }. Pieces of one stream that do not end with a line go on in the next.
export function linesOf(pieces) {
  const lines = [];
  const open = new Map();
  for (const [stream, at, text] of pieces) {
    const texts = text.replace(COLOURS, "").split("\n");
    texts.forEach((one, index) => {
      const line = open.get(stream);
      if (line) line.text += one;
      else if (one || index < texts.length - 1) { lines.push({ stream, at, text: one }); open.set(stream, lines.at(-1)); }
      if (index < texts.length - 1) open.delete(stream);
    });
  }
  return lines;
}

export class Output {
  constructor(client, number, running = false) {
    Object.assign(this, { client, number, running, data: null });
    this.search = element("input", { type: "search", placeholder: "filter the output", "aria-label": "Filter the output", maxlength: "200", oninput: () => this.show() });
    this.stream = element("select", { "aria-label": "Which output", onchange: () => this.show() }, ...[["", "everything"], ["1", "stdout"], ["2", "stderr"], ["3", "log"], ["5", "arguments"]].map(([value, text]) => element("option", { value }, text)));
    this.download = element("button", { type: "button", disabled: true, onclick: () => saveText(`task-${number}.txt`, this.text()) }, "Download");
    this.note = element("p", { class: "note", role: "status" }, "asking the workers…");
    this.list = element("div", { class: "log output", tabindex: "0", role: "log", "aria-label": `Output of task ${number}` });
    this.list.hidden = true;
    this.node = element("section", { class: "kept" }, element("div", { class: "row tight" }, element("h3", {}, "Output"), element("span", { class: "row tight" }, this.search, this.stream, this.download)), this.note, this.list);
    setTimeout(() => this.update());
  }

  async update() {
    if (!this.node.isConnected || !document.getElementById("detail").open) return;
    try {
      this.data = await fetchJson(`/api/tasks/${encodeURIComponent(this.client)}/${encodeURIComponent(this.number)}/output`);
      this.show();
    } catch { this.note.textContent = "the output cannot be asked for now; trying again"; this.data = null; }
    if (this.running || !this.data?.parts) setTimeout(() => this.update(), AGAIN_MS);
  }

  parts() {
    const words = this.search.value.toLowerCase();
    return (this.data?.parts ?? []).map((part) => ({ ...part, lines: linesOf(part.pieces).filter((line) => (!this.stream.value || line.stream === Number(this.stream.value)) && line.text.toLowerCase().includes(words)) }));
  }

  text() {
    return this.parts().map((part) => [`# ${part.worker}, process ${part.pid}`, ...(part.dropped ? ["# older output was dropped"] : []), ...part.lines.map((line) => `${new Date(line.at * 1000).toISOString()} ${STREAMS[line.stream] ?? ""} ${line.text}`)].join("\n")).join("\n") + "\n";
  }

  show() {
    const { data } = this;
    if (!data?.parts) return;
    const atEnd = this.list.hidden || this.list.scrollTop + this.list.clientHeight >= this.list.scrollHeight - 30;
    const parts = this.parts();
    let room = LINES_MAX;
    const shown = [];
    for (const part of [...parts].reverse()) {
      const lines = room > 0 ? part.lines.slice(-room) : [];
      room -= lines.length;
      const left = part.lines.length - lines.length;
      shown.unshift(
        element("p", { class: "of" }, `${part.worker || part.agent}, process ${part.pid}`, part.ended ? ` · has ended: ${part.ended}` : ""),
        ...(part.dropped ? [element("p", { class: "of" }, "older output was dropped")] : []), ...(left ? [element("p", { class: "of" }, `${plural(left, "earlier line")} in the download`)] : []),
        ...lines.map((line) => element("div", { class: `o${line.stream}` }, element("span", { class: "time" }, clockFine(line.at)), element("span", { class: "from" }, STREAMS[line.stream] ?? ""), line.text)),
      );
    }
    this.list.replaceChildren(...shown);
    this.list.hidden = !parts.length;
    this.download.disabled = !parts.length;
    this.note.textContent = notes(data, parts).join(" · ");
    this.note.hidden = !this.note.textContent;
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }
}

function notes(data, parts) {
  const told = [];
  if (data.gone) told.push(`the worker is gone: ${data.gone} has ended, and what it kept with it`);
  if (!parts.length && !data.gone) told.push("nothing is kept: the task has printed nothing, or newer output has overwritten it");
  if (data.silent.length) told.push(`no answer from ${data.silent.join(", ")}`);
  if (data.unreadable.length) told.push(`no readable answer from ${data.unreadable.join(", ")}`);
  if (data.omitted) told.push(`${plural(data.omitted, "answer")} left out: all together are too large`);
  return told;
}
