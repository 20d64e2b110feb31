"""The table: medians of every system, ours beside its target and beside the best peer."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import OURS, Results, reached, times_better, used
from benchmarks.steps import steepest
from benchmarks.workload import Metric, Workload

STEPS_SHOWN = 12
STEPS_TITLE = (
    "The steepest steps: how many times less there is here than there, beyond what the work itself explains. Kinds of call stand "
    "beside the plain one."
)

_TROUBLE = {"unsupported": "–", "timeout": "timeout", "wrong": "wrong", "failed": "failed"}


def figure(value: float) -> str:
    """Format to three digits that matter: 0.953, 12.3, 1,240, 1.25M."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def rows(results: Results, workloads: Sequence[Workload]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table."""
    names = [name for name in results.systems if not results.systems[name].get("error")]
    head = ["workload", "unit", *(results.systems[name]["title"] for name in names)]
    ours = OURS in names
    head += ["to reach", "", "against the best peer"] if ours else []
    table = []
    for workload in used(workloads, results):
        for metric in workload.metrics:
            row = [metric.title, metric.unit]
            row += [_cell(results, workload, metric, name) for name in names]
            row += _comparison(results, workload, metric) if ours else []
            if any(results.values(workload.name, name, metric.name) for name in names) or metric is workload.metrics[0]:
                table.append(row)
    return head, table


def step_rows(results: Results, workloads: Sequence[Workload]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of this engine's steepest steps; no rows if no curve was measured."""
    steps = steepest(results, used(workloads, results), OURS)[:STEPS_SHOWN]
    peers = [name for name in results.systems if name != OURS and any(step.size(name) for step in steps)]
    head = ["curve", "from", "to", "unit", "there", "here", "step", *(results.systems[name]["title"] for name in peers)]
    table = []
    for step in steps:
        there, here = step.medians[OURS]
        sizes = [step.size(name) for name in (OURS, *peers)]
        cells = [step.curve.title, step.before.label, step.after.label, step.curve.unit, figure(there), figure(here)]
        table.append([*cells, *("–" if size is None else figure(size) for size in sizes)])
    return head, table


def text(results: Results, workloads: Sequence[Workload]) -> str:
    """Return the tables for a terminal, with the machine above and what went wrong below."""
    lines = [_machine(results), "", *_aligned(*rows(results, workloads), left=2)]
    head, table = step_rows(results, workloads)
    if table:
        lines += ["", STEPS_TITLE, "", *_aligned(head, table, left=4)]
    return "\n".join([*lines, "", *_notes(results)])


def markdown(results: Results, workloads: Sequence[Workload]) -> str:
    """Return the tables for a document."""
    lines = [_machine(results), "", *_piped(*rows(results, workloads), left=2)]
    head, table = step_rows(results, workloads)
    if table:
        lines += ["", STEPS_TITLE, "", *_piped(head, table, left=4)]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(results))]) + "\n"


def _aligned(head: list[str], table: list[list[str]], *, left: int) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *table]) for column in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *table]:
        cells = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _piped(head: list[str], table: list[list[str]], *, left: int) -> list[str]:
    alignment = [*["---"] * left, *["---:"] * (len(head) - left)]
    return [f"| {' | '.join(head)} |", f"|{'|'.join(alignment)}|", *(f"| {' | '.join(row)} |" for row in table)]


def _cell(results: Results, workload: Workload, metric: Metric, name: str) -> str:
    median = results.median(workload.name, name, metric.name)
    if median is not None:
        return figure(median)
    return _TROUBLE.get(results.trouble(workload.name, name), "")


def _comparison(results: Results, workload: Workload, metric: Metric) -> list[str]:
    median = results.median(workload.name, OURS, metric.name)
    targets = results.targets(workload, metric)
    target = ", ".join(figure(target) for target in targets)
    if median is None:
        return [target, "", ""]
    verdict = "" if not targets else "yes" if all(reached(median, t, metric.better) for t in targets) else "no"
    best = results.best_peer(workload, metric)
    if best is None:
        return [target, verdict, ""]
    name, value = best
    ratio = times_better(median, value, metric.better)
    return [target, verdict, f"{figure(ratio)} × {results.systems[name]['title']}"]


def _machine(results: Results) -> str:
    machine, settings = results.machine, results.settings
    rounds = max((sample["round"] for sample in results.samples), default=0)
    return (
        f"{results.date}, revision {results.revision or 'unknown'}. {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']:g} GiB, {machine['system']}, Python {machine['python']}; {settings['workers']} workers; "
        f"medians of {rounds} round{'' if rounds == 1 else 's'}{' (quick)' if settings['quick'] else ''}; "
        f"load average before: {machine['load_average']:.1f}."
    )


def _notes(results: Results) -> list[str]:
    notes = []
    for system in results.systems.values():
        versions = ", ".join(f"{name} {version}" for name, version in system.get("versions", {}).items())
        notes.append(f"{system['title']}: " + "; ".join(part for part in (versions, system["remarks"]) if part))
        if system.get("error"):
            notes[-1] = f"{system['title']} could not be installed: {system['error']}"
    troubles: dict[str, None] = {}
    for sample in results.samples:
        title = results.systems[sample["system"]]["title"]
        if sample["status"] != "ok":
            troubles[f"{sample['workload']}, {title}: {sample['status']}: {sample['message']}"] = None
        if sample["left_behind"]:
            troubles[f"{sample['workload']}, {title}: left {sample['left_behind']} processes behind"] = None
    return notes + list(troubles)
