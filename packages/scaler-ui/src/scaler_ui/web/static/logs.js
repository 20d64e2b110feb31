// Whose log is shown: the scheduler's, or that of an agent, which is asked for while it is shown.

import * as address from "./address.js";
import { fetchJson } from "./data.js";
import { choice, element } from "./elements.js";

const AGENTS_AGAIN_MS = 5000;

export class LogSource {
  constructor(onChange) {
    this.lines = [];
    this.node = choice("of", "Whose log", [["", "scheduler"]], () => { this.lines = []; this.answered = false; onChange(); });
    this.asked = 0;
  }

  get agent() { return address.get("of"); }

  get empty() { return this.answered ? "the agent has logged nothing yet" : this.problem ?? "asking the agent…"; }

  async update() {
    if (Date.now() > this.asked + AGENTS_AGAIN_MS) {
      this.asked = Date.now();
      const { agents } = await fetchJson("/api/workers");
      const names = [...new Set([...agents.map((agent) => agent.name), ...(this.agent ? [this.agent] : [])])].sort();
      this.node.replaceChildren(element("option", { value: "" }, "scheduler"), ...names.map((name) => element("option", { value: name }, `agent ${name}`)));
    }
    if (this.node.value !== this.agent) this.node.value = this.agent;
    const { agent } = this;
    if (!agent) return;
    const data = await fetchJson(`/api/agents/log?agent=${encodeURIComponent(agent)}`);
    if (agent !== this.agent || !data.parts) return;
    this.problem = data.gone ? "this agent is not connected" : data.silent.length ? "the agent does not answer" : null;
    this.answered = !this.problem;
    if (this.problem) return;
    this.lines = data.parts.flatMap((part) => part.pieces).map(([level, at, text]) => ({ level, at, text }));
  }
}
