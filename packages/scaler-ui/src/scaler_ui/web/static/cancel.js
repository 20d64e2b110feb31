// Cancelling: a button that asks once more in a dialog. Where it is not allowed, the button says why.

import { element } from "./elements.js";

// Why nothing may be cancelled; empty: it may. From the overview.
let refusal = "";

export function setRefusal(text) { refusal = text ?? ""; }

async function request(which) {
  const response = await fetch("/api/cancel", { method: "POST", headers: { "content-type": "application/json", accept: "application/json" }, body: JSON.stringify(which) });
  if (response.status === 401) location.reload();
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return `${answer.canceled === 1 ? "1 task was" : `${answer.canceled.toLocaleString("en-US")} tasks were`} cancelled, or told to stop.`;
  throw new Error(typeof answer.detail === "string" ? answer.detail : answer.error ?? `${response.status} ${response.statusText}`);
}

// `what`: as in "task 17 of alice"; `which`: what is sent.
function ask(what, which) {
  const said = element("p", { role: "status" });
  const yes = element("button", { type: "button", class: "danger" }, "Cancel the tasks");
  const no = element("button", { type: "button", onclick: () => dialog.close() }, "Keep them");
  const dialog = element("dialog", { class: "ask", "aria-labelledby": "ask-title" }, element("h2", { id: "ask-title" }, `Cancel ${what}?`),
    element("p", {}, "What waits never begins, and what runs is stopped. The programs that submitted it get a CancelledError that says so. This cannot be undone."), said, element("p", { class: "row" }, yes, no));
  yes.addEventListener("click", async () => {
    yes.disabled = true;
    said.textContent = "asking the scheduler…";
    try { said.textContent = await request(which); yes.remove(); no.textContent = "Close"; no.focus(); } catch (error) { said.textContent = `Not cancelled: ${error.message}`; yes.disabled = false; }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  no.focus();
}

// A button. Its reason stands beside it where it cannot be pressed: a title alone is not read on phones.
export function cancelButton(text, what, which) {
  if (refusal) return element("span", { class: "note refusal" }, `Cancelling is not possible here: ${refusal}`);
  return element("button", { type: "button", class: "danger", onclick: () => ask(what, which) }, text);
}
