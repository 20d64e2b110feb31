"""When and where tasks ran, found from the messages to monitors, and as a Chrome trace. Pure. Clients and monitors use it.

A Chrome trace is JSON that Perfetto (https://ui.perfetto.dev) and chrome://tracing open. Format: "Trace Event Format", complete
events (`"ph": "X"`), times in microseconds. Events on one track must nest. Spans that overlap only in part are shortened at
their beginning, which is the uncertain end: it is computed from the time at which a batch reached the scheduler.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class TaskSpan(NamedTuple):
    """One task that ran. `start` is a Unix time, `slot` is the agent's worker that ran it, -1 if unknown."""

    start: float
    duration_s: float
    agent: str
    slot: int
    function: str
    state: str
    """success, failed or canceled."""
    args: Mapping[str, Any]
    """Shown when the span is selected."""


def start_times(ended: Sequence[tuple[Hashable, float, float]]) -> list[float]:
    """Return when tasks began. Each task is (worker, time of its answer, seconds it ran), in the order of the answers.

    Tasks answered in one batch ran one after another, and the last one ended when the batch came. If the worker is None,
    it is unknown, and the task's beginning is computed from its own answer alone.
    """
    ends: dict[tuple[Hashable, float], float] = {}
    starts = []
    for worker, at, duration_s in reversed(ended):
        start = ends.get((worker, at), at) - duration_s
        if worker is not None:
            ends[worker, at] = start
        starts.append(start)
    return starts[::-1]


def chrome_trace(
    spans: Sequence[TaskSpan], worker_names: Mapping[tuple[str, int], str], remarks: Mapping[str, Any]
) -> Iterator[str]:
    """Return the trace as pieces of text, which joined are one JSON document.

    An agent is shown as a process, each of its workers as a thread of it, by its name in `worker_names` where that is known.
    `remarks` become the document's `otherData`.
    """
    processes: dict[str, int] = {}
    tracks: dict[tuple[str, int], list[TaskSpan]] = {}
    for span in spans:
        processes.setdefault(span.agent, len(processes) + 1)
        tracks.setdefault((span.agent, span.slot), []).append(span)
    origin = min((span.start for span in spans), default=0.0)
    yield json.dumps({"displayTimeUnit": "ms", "otherData": {"origin_unix_seconds": origin, **remarks}})[:-1]
    yield ', "traceEvents": [\n'
    separator = ""
    for agent, process in processes.items():
        yield separator + json.dumps({"ph": "M", "name": "process_name", "pid": process, "args": {"name": agent}})
        separator = ",\n"
    for (agent, slot), track in tracks.items():
        process, thread = processes[agent], slot + 1
        name = worker_names.get((agent, slot), agent if slot < 0 else f"{agent} #{slot}")
        yield separator + json.dumps(
            {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
        )
        for span, begin, end in nested(track, origin):
            event = {
                "ph": "X",
                "name": span.function,
                "cat": span.state,
                "pid": process,
                "tid": thread,
                "ts": begin,
                "dur": end - begin,
                "args": {**span.args, "duration_us": round(span.duration_s * 1e6)},
            }
            yield separator + json.dumps(event)
    yield "\n]}\n"


def nested(track: Sequence[TaskSpan], origin: float) -> Iterator[tuple[TaskSpan, int, int]]:
    """Return the spans of one track with begin and end in whole microseconds; two are separate, or one is within the other."""
    waiting = [
        (round((span.start - origin) * 1e6), round((span.start + span.duration_s - origin) * 1e6), span)
        for span in track
    ]
    waiting.sort(key=lambda entry: (entry[0], -entry[1]), reverse=True)
    open_ends: list[int] = []
    while waiting:
        begin, end, span = waiting.pop()
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        if open_ends and end > open_ends[-1]:
            begin = open_ends[-1]
            at = len(waiting)
            # It begins later now, so put it back in order.
            while at and (waiting[at - 1][0], -waiting[at - 1][1]) < (begin, -end):
                at -= 1
            waiting.insert(at, (begin, end, span))
            continue
        open_ends.append(end)
        yield span, begin, end
