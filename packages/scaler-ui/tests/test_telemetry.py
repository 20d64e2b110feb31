"""Tasks as OpenTelemetry spans, received by a real OTLP/HTTP receiver."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from synthetic_cluster import ALICE, UNIX, SyntheticScheduler, events, failure_payload, failures, snapshot

from scaler_protocol.service.child import ChildService
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed


class Receiver:
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                receiver.paths.add(self.path)
                for of_resource in request.resource_spans:
                    receiver.resources.append(values(of_resource.resource.attributes))
                    receiver.spans += [span for scope in of_resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def values(attributes: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_tasks_become_spans(scheduler: SyntheticScheduler, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenTelemetry's own setting: it sends after so many milliseconds instead of five seconds.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", "--otel-endpoint", receiver.url])
    child.wait_ready(30)
    scheduler.wait_for_monitor()
    submitted, success, failed = m.TaskEvent.SUBMITTED, m.TaskEvent.SUCCESS, m.TaskEvent.FAILED
    scheduler.publish(
        snapshot(1, agents=1),
        failures(1, 1, numbers=[8], payloads=Packed.of([failure_payload()])),
        events(
            1,
            [
                (UNIX + 1, ALICE, 7, submitted, "", "model.fit", 0, -1),
                (UNIX + 4, ALICE, 7, success, "node00", "model.fit", 2_000_000, 1),
                (UNIX + 5, ALICE, 8, failed, "node00", "model.score", 500_000, 0),
            ],
        ),
    )
    wait_until(lambda: len(receiver.spans) == 4)
    assert receiver.paths == {"/v1/traces"}
    assert receiver.resources[0]["service.name"] == "scaler"
    by_name = {span.name: span for span in receiver.spans if span.name != "run"}
    runs = {span.parent_span_id: span for span in receiver.spans if span.name == "run"}
    fit, score = by_name["model.fit"], by_name["model.score"]
    assert fit.trace_id != score.trace_id
    assert (fit.start_time_unix_nano, fit.end_time_unix_nano) == (int(UNIX + 1) * 10**9, int(UNIX + 4) * 10**9)
    ran = runs[fit.span_id]
    assert (ran.trace_id, ran.start_time_unix_nano, ran.end_time_unix_nano) == (
        fit.trace_id,
        int(UNIX + 2) * 10**9,
        int(UNIX + 4) * 10**9,
    )
    told = values(fit.attributes)
    assert (told["scaler.task"], told["scaler.agent"], told["scaler.worker"]) == (7, "node00", "node00-1")
    assert (told["scaler.client"], told["scaler.state"]) == ("alice", "success")
    assert score.status.code == 2
    (exception,) = runs[score.span_id].events
    assert exception.name == "exception"
    assert values(exception.attributes)["exception.stacktrace"].startswith("Traceback")
    # What finished last is sent before the end.
    scheduler.publish(events(2, [(UNIX + 9, ALICE, 9, success, "node00", "model.fit", 1_000_000, 1)]), snapshot(2))
    wait_until(lambda: len(receiver.spans) == 6)
    assert child.terminate(15) == 0


def test_a_receiver_that_is_not_there_holds_nothing_up(scheduler: SyntheticScheduler) -> None:
    child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", "--otel-endpoint=http://127.0.0.1:9"])
    child.wait_ready(30)
    scheduler.wait_for_monitor()
    scheduler.publish(events(1, [(UNIX + 4, ALICE, 7, m.TaskEvent.SUCCESS, "node00", "f", 2_000_000, 1)]))
    assert child.terminate(30) == 0


@pytest.mark.parametrize(("arguments", "text"), [(("--otel-endpoint=ftp://x",), "not a URL")])
def test_mistakes_are_named(arguments: tuple[str, ...], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scaler_ui.web", "tcp://127.0.0.1:1", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert text in done.stderr


def test_without_opentelemetry_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from scaler_ui.web.main import main
sys.exit(main(["tcp://127.0.0.1:1", "--port=0", "--otel-endpoint=http://127.0.0.1:9"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode != 0
    assert "scaler-ui[otel]" in done.stderr
