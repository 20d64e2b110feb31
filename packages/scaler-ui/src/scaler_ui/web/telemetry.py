"""Finished tasks as OpenTelemetry spans, sent to an OTLP/HTTP receiver. Imported only with an endpoint.

A task is a trace of its own: a span from submission to result, and in it a span for the time it ran. Only tasks that the
scheduler publishes are sent; under load these are one in so many (see `MonitorEvents.stride`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.version import SOFTWARE_VERSION
from scaler_ui.feed import MonitorFeed
from scaler_ui.model.bars import CANCELED, FAILED, SUCCESS
from scaler_ui.model.cluster import ClusterModel

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
except ImportError as error:
    raise ServiceError(
        f"--otel-endpoint needs OpenTelemetry, which is not installed: pip install 'scaler-ui[otel]' ({error})"
    ) from None

INTERVAL_SECONDS = 1.0
TASKS_AT_ONCE = 20_000
QUEUE_SPANS_MAX = 50_000
"""Most spans that wait for a slow receiver. The SDK drops further ones and logs that."""

TIMEOUT_SECONDS = 5.0

_STATES = {SUCCESS: "success", FAILED: "failed", CANCELED: "canceled"}


class _Task(NamedTuple):
    function: str
    number: int
    client: str
    worker: str
    agent: str
    capabilities: str
    state: int
    submitted_at: float
    """0: not seen."""
    start: float
    duration_s: float
    error: tuple[str, str, str] | None
    """(type, text, traceback)"""
    label: str
    tags: str


class TaskSpans:
    """Sends the finished tasks of the model in a thread, until closed. Use it as a context manager."""

    def __init__(self, feed: MonitorFeed, endpoint: str) -> None:
        """`endpoint`: base URL of the receiver, such as `http://127.0.0.1:4318`. `/v1/traces` is added if it is missing."""
        self._feed = feed
        self._seen = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="task spans", daemon=True)
        url = endpoint if endpoint.rstrip("/").endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
        resource = Resource.create({"service.name": "scaler", "service.version": SOFTWARE_VERSION})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=TIMEOUT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS_MAX, max_export_batch_size=2_000)
        )
        self._tracer = self._provider.get_tracer("scaler_ui", SOFTWARE_VERSION)

    def __enter__(self) -> TaskSpans:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        self._thread.join()
        self._provider.shutdown()

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_SECONDS):
            self._send_new()
        self._send_new()

    def _send_new(self) -> None:
        while True:
            with self._feed.model() as model:
                before = self._seen
                self._seen, tasks = _finished_after(model, before)
            for task in tasks:
                self._send(task)
            if self._seen == before:
                return

    def _send(self, task: _Task) -> None:
        end = task.start + task.duration_s
        attributes: dict[str, str | int] = {
            "scaler.task": task.number,
            "scaler.client": task.client,
            "scaler.worker": task.worker,
            "scaler.agent": task.agent,
            "scaler.state": _STATES.get(task.state, "canceled"),
        }
        if task.capabilities:
            attributes["scaler.capabilities"] = task.capabilities
        for name in ("label", "tags"):
            if text := getattr(task, name):
                attributes[f"scaler.{name}"] = text
        begin = min(task.submitted_at or task.start, task.start)
        whole = self._tracer.start_span(
            task.function, kind=SpanKind.CONSUMER, attributes=attributes, start_time=_nanoseconds(begin)
        )
        run = self._tracer.start_span(
            "run",
            set_span_in_context(whole),
            attributes={"scaler.worker": task.worker},
            start_time=_nanoseconds(task.start),
        )
        if task.error is not None:
            kind, text, traceback = task.error
            run.add_event(
                "exception",
                {"exception.type": kind, "exception.message": text, "exception.stacktrace": traceback},
                timestamp=_nanoseconds(end),
            )
        if task.state == FAILED:
            for span in (run, whole):
                span.set_status(
                    Status(StatusCode.ERROR, "" if task.error is None else f"{task.error[0]}: {task.error[1]}")
                )
        run.end(_nanoseconds(end))
        whole.end(_nanoseconds(end))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _finished_after(model: ClusterModel, seen: int) -> tuple[int, list[_Task]]:
    """Return the tasks that finished after the first `seen` ones, and the new `seen`."""
    bars = model.bars
    if bars.count == seen:
        return seen, []
    count, columns = bars.after(seen, TASKS_AT_ONCE)
    return count, list(_tasks(model, columns))


def _tasks(model: ClusterModel, columns: dict[str, list[float]]) -> Iterator[_Task]:
    bars = model.bars
    lanes, functions, clients = bars.lanes.names(), bars.functions.names(), bars.clients.names()
    capabilities, names = bars.capabilities.names(), model.worker_names()
    errors = {(failure.client, failure.task): failure.error for failure in model.failures}
    for index, start in enumerate(columns["start"]):
        lane, client = lanes[int(columns["lane"][index])], clients[int(columns["client"][index])]
        number, state = int(columns["number"][index]), int(columns["state"][index])
        row = model.tasks.find(client, number)
        error = errors.get((client, number)) if state == FAILED else None
        yield _Task(
            functions[int(columns["function"][index])],
            number,
            model.client_name(client),
            names.get(lane) or model.worker_name(lane),
            lane.agent,
            capabilities[int(columns["capability"][index])],
            state,
            row.submitted_at if row is not None else 0.0,
            start,
            columns["duration"][index],
            None if error is None else (error.kind, error.text, error.traceback),
            row.label if row is not None else "",
            row.tags if row is not None else "",
        )
