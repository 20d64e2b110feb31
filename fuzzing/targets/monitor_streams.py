"""What monitors read: any messages in any order, shown as `scaler_top`, `scaler_ui` and `scaler_trace` show them."""

from __future__ import annotations

import json

from fuzzing.frames import frames_of, golden, joined, messages_of
from scaler_protocol.errors import WireError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode
from scaler_ui.model import ClusterModel, figures, stream
from scaler_ui.model.blocks import SORT_KEYS, render_text, snapshot_data
from scaler_ui.model.chrome_trace import chrome_trace
from scaler_ui.model.hosts import hosts
from scaler_ui.model.jobs import jobs
from scaler_ui.model.metrics import render_metrics
from scaler_ui.model.task_pages import find_tasks
from scaler_ui.top.details import describe_row
from scaler_ui.top.speed import Speeds
from scaler_ui.top.summary import silent_workers, status_line, summary_line, waiting_reason
from scaler_ui.top.tables import TABLES, Looking

STREAMS = (m.MonitorSnapshot, m.MonitorEvents, m.MonitorFailures, m.MonitorLog)


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    found = [one for one in golden() if isinstance(decode(frames_of(one)[1:]), STREAMS)]
    return [joined([one]) for one in found] + [joined(found), joined(found[::-1])]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    model = ClusterModel()
    for number, piece in enumerate(messages_of(data, 8)):
        try:
            message = decode(frames_of(piece)[1:])
            if isinstance(message, STREAMS):
                model.accept(message, float(number))
        except WireError:
            continue
    _show(model)


def _json(value: object) -> None:
    # As for browsers, which know no NaN.
    json.dumps(value, allow_nan=False)


def _show(model: ClusterModel) -> None:
    _json(figures.whole(model, 1.0, 5.0))
    _json(stream.bars_after(model, 0, 0, 100))
    _json(find_tasks(model))
    _json(hosts(model))
    _json(jobs(model))
    "".join(chrome_trace(model))
    render_metrics(model, 1.0)
    status_line(model, 1.0, 5.0, "tcp://127.0.0.1:1")
    summary_line(model)
    silent_workers(model)
    waiting_reason(model)
    speeds = Speeds()
    if model.snapshot is not None:
        speeds.note(model.snapshot)
    for width in (80, 200):
        looking = Looking("n", width, speeds)
        for view, table in TABLES.items():
            table(model, looking)
            describe_row(model, view, 0, looking)
    if model.snapshot is not None:
        _json(snapshot_data(model.snapshot))
        for key in SORT_KEYS:
            render_text(model.snapshot, key)
