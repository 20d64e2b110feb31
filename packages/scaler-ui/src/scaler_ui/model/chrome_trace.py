"""The task stream as a Chrome trace: JSON that Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

Format: "Trace Event Format", complete events (`"ph": "X"`), times in microseconds. Events on one track must nest, so bars
that overlap only in part are shortened at their beginning: that part is the scheduler's view of when a batch came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from scaler_ui.model.bars import FAILED, SUCCESS, Bar, Lane
from scaler_ui.model.cluster import ClusterModel

_STATES = {SUCCESS: "success", FAILED: "failed"}


def chrome_trace(model: ClusterModel) -> Iterator[str]:
    """Return the trace in pieces of text that make one JSON document together."""
    bars = model.bars.bars()
    names = model.worker_names()
    agents: dict[str, int] = {}
    tracks: dict[Lane, list[Bar]] = {}
    for bar in bars:
        agents.setdefault(bar.lane.agent, len(agents) + 1)
        tracks.setdefault(bar.lane, []).append(bar)
    origin = min((bar.start for bar in bars), default=0.0)
    yield json.dumps({"displayTimeUnit": "ms", "otherData": {"origin_unix_seconds": origin}})[:-1]
    yield ', "traceEvents": [\n'
    separator = ""
    for agent, process in agents.items():
        yield separator + json.dumps({"ph": "M", "name": "process_name", "pid": process, "args": {"name": agent}})
        separator = ",\n"
    for lane, track in tracks.items():
        process, thread = agents[lane.agent], lane.slot + 1
        name = names.get(lane) or model.worker_name(lane)
        thread_name = {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}
        yield separator + json.dumps(thread_name)
        for bar, begin, end in nested(track, origin):
            event = {
                "ph": "X",
                "name": bar.function,
                "cat": _STATES.get(bar.state, "canceled"),
                "pid": process,
                "tid": thread,
                "ts": begin,
                "dur": end - begin,
                "args": {
                    "task": bar.number,
                    "client": model.client_name(bar.client),
                    "capabilities": bar.capabilities,
                    "duration_us": round(bar.duration_s * 1e6),
                },
            }
            yield separator + json.dumps(event)
    yield "\n]}\n"


def nested(track: list[Bar], origin: float) -> Iterator[tuple[Bar, int, int]]:
    """Return bars of one track with whole microseconds of begin and end, so that any two are apart or one within the other."""
    spans = [
        (round((bar.start - origin) * 1e6), round((bar.start + bar.duration_s - origin) * 1e6), bar) for bar in track
    ]
    spans.sort(key=lambda span: (span[0], -span[1]))
    open_ends: list[int] = []
    waiting = spans[::-1]
    while waiting:
        begin, end, bar = waiting.pop()
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        if open_ends and end > open_ends[-1]:
            begin = open_ends[-1]
            at = len(waiting)
            # It begins later now: back to its place in the order.
            while at and (waiting[at - 1][0], -waiting[at - 1][1]) < (begin, -end):
                at -= 1
            waiting.insert(at, (begin, end, bar))
            continue
        open_ends.append(end)
        yield bar, begin, end
