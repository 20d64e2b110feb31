"""The lines above the tables of `scaler_top`: the connection, how busy the cluster is, and why tasks wait."""

from __future__ import annotations

from collections.abc import Collection

from rich.text import Text

from scaler_protocol.runtime.counted import counted
from scaler_protocol.runtime.log_lines import harmless_cell
from scaler_protocol.wire.messages import MonitorSnapshot, ProcessorState
from scaler_ui.model import ClusterModel, figures
from scaler_ui.model.blocks import SHORTCUTS
from scaler_ui.model.history import state_counts
from scaler_ui.top.speed import time_text
from scaler_ui.top.tables import SILENT_SECONDS

BAR_CHARACTERS = 8
NAMED_MAX = 5
"""Most workers that a line names."""


def status_line(model: ClusterModel, silent_s: float, timeout_s: float, address: str) -> tuple[str, bool]:
    """Return one line about the connection, and whether it reports a problem."""
    state = figures.connection_state(model, silent_s, timeout_s)
    if state == "waiting":
        return f"waiting for a scheduler at {address} for {silent_s:.0f} s", silent_s > timeout_s
    if state == "silent":
        return f"no message from the scheduler for {silent_s:.0f} s; the figures are from its last one", True
    snapshot = model.snapshot
    assert snapshot is not None
    notes = [address, counted(len(snapshot.workers), "worker"), counted(len(snapshot.clients), "client")]
    if snapshot.started_seconds:
        notes.append(f"up {time_text(snapshot.time_seconds - snapshot.started_seconds)}")
    notes.append(f"sort: {SHORTCUTS}")
    if snapshot.failed_items:
        notes.insert(3, f"{counted(snapshot.failed_items, 'failed item')} of maps")
    if model.restarts:
        notes.insert(1, f"restarted {model.restarts}x")
    if snapshot.standby:
        notes.insert(1, "a standby: another scheduler is first")
    if model.missed_messages:
        notes.insert(1, f"{counted(model.missed_messages, 'message')} from the scheduler lost")
    return "  ".join(notes), False


def summary_line(model: ClusterModel) -> Text:
    """Return how busy the workers are, the tasks in each state, and how fast they end."""
    snapshot = model.snapshot
    line = Text(no_wrap=True, overflow="ellipsis")
    if snapshot is None:
        return line
    busy, total = busy_workers(snapshot), len(snapshot.workers)
    share = busy / total if total else 0.0
    full = round(share * BAR_CHARACTERS)
    line.append("busy ")
    line.append("█" * full, "green")
    line.append("░" * (BAR_CHARACTERS - full), "bright_black")
    line.append(f" {share:.0%}")
    # A worker runs one task. What else was sent to it waits there, though its processor may have it already.
    line.append(f"  running {short(busy)}")
    line.append(f"  queued {short(max(0, sum(worker.sent for worker in snapshot.workers) - busy))}")
    waiting = state_counts(snapshot)["unassigned"]
    line.append(f"  waiting {short(waiting)}", "yellow" if waiting and share < 1 else "")
    line.append(f"  done {short(model.history.latest('success_rate'))}/s")
    failed = model.history.latest("failed_rate")
    line.append(f"  failed {short(failed)}/s", "bold red" if failed else "")
    return line


def listed_tasks(tasks: ClusterModel, words: str) -> str:
    """Return one line about the table of tasks: which ones it has, and how to find others."""
    left_out = f" (1 of {tasks.stride:,})" if tasks.stride > 1 else ""
    known = f"{counted(len(tasks.tasks), 'task')} since this view opened{left_out}"
    fit = f", shown: those with {words!r}" if words else ""
    return harmless_cell(f"{known}{fit}; / filters, Enter shows output, t by number")


def silent_workers(model: ClusterModel) -> str:
    """Return which workers nothing is heard of; empty if there are none."""
    workers = model.snapshot.workers if model.snapshot is not None else ()
    silent = [worker for worker in workers if worker.last_seen_seconds > SILENT_SECONDS]
    if not silent:
        return ""
    longest = max(worker.last_seen_seconds for worker in silent)
    names = ", ".join(worker.name for worker in silent[:NAMED_MAX]) + (", …" if len(silent) > NAMED_MAX else "")
    return harmless_cell(f"{counted(len(silent), 'worker')} not heard for {time_text(longest)}: {names}")


def busy_workers(snapshot: MonitorSnapshot) -> int:
    """Return how many workers run a task, or have one that waits for a task of its own."""
    return sum(worker.state in (ProcessorState.RUNNING, ProcessorState.BLOCKED) for worker in snapshot.workers)


def short(count: float) -> str:
    """Return a number of at most five characters: `12`, `0.3`, `4,321`, `12k`, `3.1M`."""
    if 0 < count < 10 and count != int(count):
        return f"{count:.1f}"
    if count < 10_000:
        return f"{count:,.0f}"
    return f"{count / 1_000:.0f}k" if count < 999_500 else f"{count / 1_000_000:.1f}M"


def _resources(snapshot: MonitorSnapshot, agents: Collection[str]) -> str:
    """Return what the hosts of these agents have for tasks that ask for counted resources, and what of it is taken."""
    hosts = [agent for agent in snapshot.agents if agent.name in agents and agent.resources]
    offered = sorted({agent.resources for agent in hosts})
    used = sorted({agent.resources_used for agent in hosts if agent.resources_used})
    if not offered:
        return ""
    return f"; resources {' or '.join(offered)} per host{', in use ' + ' or '.join(used) if used else ''}"


def waiting_reason(model: ClusterModel) -> str:
    """Return why tasks wait although somebody could do something about it; empty if none do, or most wait for busy workers."""
    snapshot = model.snapshot
    waiting = state_counts(snapshot)["unassigned"] if snapshot is not None else 0
    if snapshot is None or not waiting:
        return ""
    tasks = f"{counted(waiting, 'task')} {'waits' if waiting == 1 else 'wait'}"
    if not snapshot.workers:
        return f"{tasks}: no worker is connected. Start some with scaler_cluster and the scheduler's address"
    if snapshot.agents and all(agent.draining for agent in snapshot.agents):
        return f"{tasks}: all workers are about to leave"
    if snapshot.resource_waits and (one := snapshot.resource_waits[0]).count * 2 >= waiting:
        lack = "which other tasks use" if one.offered else "which no host offers"
        return harmless_cell(f"{tasks}, {short(one.count)} of them for {one.resources}, {lack}")
    idle = [worker for worker in snapshot.workers if worker.state == ProcessorState.IDLE and not worker.sent]
    if len(idle) * 2 < len(snapshot.workers):
        return ""
    limited = [one for one in snapshot.groups if one.waiting and one.max_running and one.running >= one.max_running]
    if limited and sum(one.waiting for one in limited) >= waiting:
        names = ", ".join(one.name for one in limited)
        return harmless_cell(f"{tasks}: as many of group {names} run as may (max_running)")
    offered = sorted({worker.capabilities for worker in idle if worker.capabilities})
    have, offer = ("has", "it offers") if len(idle) == 1 else ("have", "they offer")
    offers = f"{offer} {', '.join(offered) or 'no capabilities'}{_resources(snapshot, {one.agent for one in idle})}"
    return harmless_cell(f"{tasks}, and {counted(len(idle), 'worker')} {have} nothing to do: {offers}")
