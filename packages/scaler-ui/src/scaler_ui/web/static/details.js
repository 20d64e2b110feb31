// What opens above a page: one task, one failure.

import { cancelButton } from "./cancel.js";
import { fetchJson } from "./data.js";
import { agentLink, chip, clientLink, copyButton, element, functionLink, growing, labelLink, link, openDetail, stateWord, taskLink, workerLink } from "./elements.js";
import { clockFine, integer, remaining, seconds } from "./format.js";
import { Output } from "./output.js";
import { progress } from "./progress.js";

export function errorParts(failure) {
  const whole = () => [failure.kind && `${failure.kind}: ${failure.text}`, failure.traceback].filter(Boolean).join("\n\n");
  return [
    element("div", { class: "row tight" }, element("h3", {}, "Error"), copyButton(whole)), element("pre", { class: "error-text", tabindex: "0" }, failure.text || "(no text)"),
    ...(failure.traceback ? [element("h3", {}, "Remote traceback"), element("pre", { class: "traceback", tabindex: "0" }, failure.traceback)] : []),
  ];
}

export const failureFacts = (failure) => [
  ["task", taskLink(failure.client, failure.number)], ["function", functionLink(failure.function)], ["client", clientLink(failure.client, failure.client_name)],
  ["worker", failure.worker ? workerLink(failure.agent, failure.worker) : ""], ["agent", agentLink(failure.agent)], ["status", chip(failure.status)], ["label", labelLink(failure.label)], ["tags", failure.tags],
  ["failed items", failure.items ? `${integer(failure.items)} of a map chunk; this is the error of the first one` : ""],
  ["attempts", failure.attempt], ["at", clockFine(failure.at)], ["ran for", seconds(failure.duration_seconds)],
];

export async function showTask(client, number) {
  const show = `${client}/${number}`;
  let found;
  try { found = await fetchJson(`/api/tasks/${encodeURIComponent(client)}/${encodeURIComponent(number)}`); } catch (error) {
    openDetail(`Task ${number}`, [["", "no details are stored for this task: only the last 20,000 tasks are kept"]], [], show);
    return;
  }
  const { task, failures } = found;
  if (!task) { openDetail(`Task ${number}: ${stateWord(failures[0].kind)}`, failureFacts(failures[0]), [...errorParts(failures[0]), new Output(client, number).node], show); return; }
  openDetail(`Task ${task.number}: ${task.function}`, [
    ["state", chip(task.state)], ["progress", progress(task.progress)], ["function", functionLink(task.function)], ["client", clientLink(task.client, task.client_name)], ["worker", task.worker && workerLink(task.agent, task.worker)], ["agent", agentLink(task.agent)],
    ["waits", task.waits && `${task.waits.text}${task.pause_seconds > 0 ? `, in ${remaining(task.pause_seconds)}` : ""}`], ["what to do", task.waits?.what_to_do],
    ["label", labelLink(task.label)], ["tags", task.tags], ["capabilities", task.capabilities], ["resources", task.resources], ["submitted", task.submitted_at && clockFine(task.submitted_at)], ["assigned", task.assigned_at && clockFine(task.assigned_at)],
    ["ended", task.ended_at && clockFine(task.ended_at)], ["waited", growing(task.waited_seconds, ["submitted", "returned"].includes(task.state))], ["ran for", seconds(task.duration_seconds)], ["read its arguments for", seconds(task.read_seconds || null)], ["wrote its result for", seconds(task.write_seconds || null)], ["attempts", task.attempts],
    ["errors like this", failures[0]?.group ? link("errors", { show: failures[0].group }, `${stateWord(failures[0].kind)} in ${failures[0].function}`) : ""],
  ], [...(task.ended_at ? [] : [element("p", { class: "row" }, cancelButton("Cancel this task", `task ${task.number}, ${task.function}, of ${task.client_name}`, { client: task.client, number: task.number }))]), ...failures.flatMap(errorParts), new Output(client, number, ["submitted", "assigned", "returned"].includes(task.state)).node], show);
}
