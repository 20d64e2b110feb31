"""A snapshot as plain text, with the blocks and rows of `scaler_top`, and as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from itertools import zip_longest
from typing import Any

from scaler_protocol.runtime.counted import counted
from scaler_protocol.runtime.log_lines import harmless_cell
from scaler_protocol.wire.messages import Counter, MonitorSnapshot, WorkerStatus

_COUNTERS = frozenset({"task_states", "sent", "received", "functions", "failed_functions"})

_UNITS = ("b", "k", "m", "g", "t")

SORT_KEYS: dict[str, tuple[str, Callable[[WorkerStatus], Any]]] = {
    "n": ("worker", lambda worker: worker.name),
    "c": ("cpu", lambda worker: -worker.cpu_percent),
    "m": ("rss", lambda worker: -worker.rss_bytes),
    "f": ("free", lambda worker: -worker.free),
    "w": ("working", lambda worker: -(worker.sent - worker.queued)),
    "q": ("queued", lambda worker: -worker.queued),
}
"""For each key: the name of its column, and the value to sort workers by (numbers: largest first)."""

WORKER_COLUMNS: tuple[tuple[str, Callable[[WorkerStatus], str]], ...] = (
    ("agt_cpu", lambda worker: f"{worker.agent_cpu_percent:.1f}%"),
    ("agt_rss", lambda worker: format_bytes(worker.agent_rss_bytes)),
    ("cpu", lambda worker: f"{worker.cpu_percent:.1f}%"),
    ("rss", lambda worker: format_bytes(worker.rss_bytes)),
    ("free", lambda worker: str(worker.free)),
    ("sent", lambda worker: str(worker.sent)),
    ("working", lambda worker: str(worker.sent - worker.queued)),
    ("queued", lambda worker: str(worker.queued)),
)


def format_bytes(count: int) -> str:
    """Return a short text for a size: `812b`, `37.1m`."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f}b" if unit == "b" else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}{_UNITS[-1]}"


SHORTCUTS = " ".join(f"{name}[{key}]" for key, (name, _) in SORT_KEYS.items())


def sorted_workers(snapshot: MonitorSnapshot, sort_key: str = "n") -> list[WorkerStatus]:
    """Return the workers sorted by one of `SORT_KEYS`, equal ones by name."""
    _, value = SORT_KEYS[sort_key]
    return sorted(snapshot.workers, key=lambda worker: (value(worker), worker.name))


def render_text(snapshot: MonitorSnapshot, sort_key: str = "n") -> str:
    """Return the whole snapshot as text: the scheduler's blocks, then one row per worker."""
    workers = sorted_workers(snapshot, sort_key)
    return "\n".join(
        [
            *block_lines(snapshot),
            "",
            f"Total {counted(len(workers), 'worker')}",
            *_worker_lines(workers, functions_by_worker(snapshot), SORT_KEYS[sort_key][0]),
        ]
    )


def block_lines(snapshot: MonitorSnapshot, width: int | None = None) -> list[str]:
    """Return the blocks `scheduler`, `task_manager`, `scheduler_sent` and `scheduler_received`, side by side if they fit."""
    blocks = [
        ("scheduler", [("cpu", f"{snapshot.cpu_percent:.1f}%"), ("rss", format_bytes(snapshot.rss_bytes))]),
        ("task_manager", _counted(snapshot.task_states)),
        ("scheduler_sent", _counted(snapshot.sent)),
        ("scheduler_received", _counted(snapshot.received)),
    ]
    drawn = [_block_lines(title, rows) for title, rows in blocks]
    lines: list[str] = []
    while drawn:
        count = len(drawn)
        while count > 1 and width is not None and sum(len(block[0]) + 3 for block in drawn[:count]) - 3 > width:
            count -= 1
        lines += ([""] if lines else []) + _side_by_side(drawn[:count])
        del drawn[:count]
    return lines


def functions_by_worker(snapshot: MonitorSnapshot) -> dict[tuple[str, str], str]:
    """Return, for each (agent, worker), its assigned tasks by function, as text. The running function comes first."""
    workers: dict[str, list[WorkerStatus]] = {}
    for worker in snapshot.workers:
        workers.setdefault(worker.agent, []).append(worker)
    texts = {(worker.agent, worker.name): "" for worker in snapshot.workers}
    for agent in snapshot.agents:
        counts = {counter.name: counter.count for counter in agent.functions}
        for worker, share in zip(workers.get(agent.name, []), _dealt(counts, workers.get(agent.name, [])), strict=True):
            parts = [f"{function.rpartition('.')[2]} {share[function]}" for function in counts if function in share]
            texts[agent.name, worker.name] = ", ".join(parts)
    return texts


def _dealt(counts: dict[str, int], workers: Sequence[WorkerStatus]) -> list[dict[str, int]]:
    """Divide an agent's tasks among its workers: at most as many each as it was sent, with its running one."""
    shares: list[dict[str, int]] = [{} for _ in workers]
    room = [worker.sent for worker in workers]
    left = dict(counts)

    def give(index: int, function: str, count: int) -> None:
        shares[index][function] = shares[index].get(function, 0) + count
        room[index] -= count
        left[function] -= count

    for index, worker in enumerate(workers):
        if room[index] and left.get(worker.function):
            give(index, worker.function, 1)
    for function in counts:
        while left[function] and (takers := [index for index in range(len(workers)) if room[index]]):
            # First the same number for all; what is left over goes to the workers with most room.
            each = min(left[function] // len(takers), *(room[index] for index in takers))
            if not each:
                takers = sorted(takers, key=lambda index: -room[index])[: left[function]]
            for index in takers:
                give(index, function, max(1, each))
    return shares


def heading(name: str, sorted_by: str) -> str:
    """Return a column's name, in brackets if the table is sorted by it."""
    return f"[{name}]" if name == sorted_by else name


def snapshot_data(snapshot: MonitorSnapshot) -> dict[str, Any]:
    """Return the snapshot as data for JSON: ids as hexadecimal text, counters as objects of name and count."""
    data: dict[str, Any] = _as_data(snapshot)
    return data


def _as_data(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_as_data(item) for item in value]
    if not is_dataclass(value):
        return value
    data = {}
    for field in fields(value):
        one = getattr(value, field.name)
        is_counted = field.name in _COUNTERS and isinstance(one, tuple)
        data[field.name] = {counter.name: counter.count for counter in one} if is_counted else _as_data(one)
    return data


def _counted(counters: Sequence[Counter]) -> list[tuple[str, str]]:
    return [(harmless_cell(counter.name), f"{counter.count:,}") for counter in counters]


def _block_lines(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    name_width = max((len(name) for name, _ in rows), default=0)
    value_width = max((len(value) for _, value in rows), default=0)
    width = max(len(title), name_width + 1 + value_width)
    return [title.ljust(width), *(f"{name:>{name_width}} {value:>{width - name_width - 1}}" for name, value in rows)]


def _side_by_side(blocks: Sequence[Sequence[str]]) -> list[str]:
    widths = [len(block[0]) for block in blocks]
    return [
        " | ".join(line.ljust(width) for line, width in zip(lines, widths, strict=True)).rstrip()
        for lines in zip_longest(*blocks, fillvalue="")
    ]


def _worker_lines(workers: Sequence[WorkerStatus], functions: dict[tuple[str, str], str], sorted_by: str) -> list[str]:
    table = [[heading("worker", sorted_by), *(heading(name, sorted_by) for name, _ in WORKER_COLUMNS)]]
    table += [[worker.name, *(show(worker) for _, show in WORKER_COLUMNS)] for worker in workers]
    table = [list(map(harmless_cell, row)) for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    texts = ["functions", *(harmless_cell(functions.get((worker.agent, worker.name), "")) for worker in workers)]
    return [f"{line} {text}".rstrip() for line, text in zip(lines, texts, strict=True)]
