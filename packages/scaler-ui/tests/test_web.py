"""`scaler_ui` over HTTP: the real service as a process, and its application where nothing but answers matter."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from synthetic_cluster import (
    ALICE,
    SyntheticScheduler,
    failures,
    finished_tasks,
    log,
    snapshot,
)

from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService
from scaler_protocol.testing.waiting import wait_until
from scaler_ui.feed import MonitorFeed
from scaler_ui.model import ClusterModel
from scaler_ui.web.server import create_application


class Service:
    """A running `scaler_ui`."""

    def __init__(self, scheduler: SyntheticScheduler, *arguments: str) -> None:
        self.child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", *arguments])
        self.base = str(self.child.wait_ready(30)["webui"]).replace("tcp", "http")
        scheduler.wait_for_monitor()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.base + path, timeout=10)


@pytest.fixture
def service(scheduler: SyntheticScheduler) -> Iterator[Service]:
    service = Service(scheduler)
    yield service
    assert service.child.terminate(10) == 0


def test_the_service_tells_what_the_scheduler_said(scheduler: SyntheticScheduler, service: Service) -> None:
    assert "<title>Scaler</title>" in service.get("/").text
    assert service.get("/healthz").json() == {"status": "ok"}
    assert service.get("/api/snapshot").json()["snapshot"] is None
    assert service.get("/api/overview").json()["connection"] == "waiting"
    scheduler.publish_raw(b"nonsense")
    scheduler.publish(snapshot(1, success=5), finished_tasks(100), failures(1, 3), log(1, (20, "hello")))
    wait_until(lambda: service.get("/api/overview").json()["log_lines"] == 1)
    assert service.get("/api/snapshot").json()["snapshot"]["task_states"]["success"] == 5
    assert service.get("/api/tasks?search=pricing").json()["known"] == 100
    bars = service.get("/api/bars").json()
    assert bars["count"] == 100
    assert len(bars["columns"]["start"]) == 100
    trace = service.get("/api/trace")
    assert "attachment" in trace.headers["content-disposition"]
    assert sum(event["ph"] == "X" for event in trace.json()["traceEvents"]) == 100
    assert 'scaler_tasks_finished_total{result="success"} 5.0' in service.get("/metrics").text
    assert service.get("/api/logs").json()["lines"][0]["text"] == "hello"
    for path in ("workers", "clients", "graphs", "scaling", "history", "failures", "everything"):
        assert service.get(f"/api/{path}").status_code == 200


def test_the_stream_tells_of_news_and_ends_with_the_service(scheduler: SyntheticScheduler) -> None:
    service = Service(scheduler)
    scheduler.publish(snapshot(1, success=5))
    with httpx.stream("GET", service.base + "/api/stream", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        seen = [json.loads(line[6:]) for line in (next(lines) for _ in range(8)) if line.startswith("data: ")]
        assert any(data.get("tasks", {}).get("success") == 5 for data in seen)
        begun = time.monotonic()
        service.child.process.terminate()
        for _ in lines:
            pass
    assert service.child.join(10) == 0
    assert time.monotonic() - begun < 4


def test_a_port_that_is_taken_is_said(scheduler: SyntheticScheduler, service: Service) -> None:
    port = service.base.rpartition(":")[2]
    arguments = [sys.executable, "-m", "scaler_ui.web", scheduler.address, "--port", port, "--logging-level=ERROR"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


@pytest.fixture
def feed() -> Iterator[MonitorFeed]:
    """A feed that hears nobody, with a model that was fed before."""
    model = ClusterModel()
    model.accept(snapshot(1), 0.0)
    model.accept(finished_tasks(10), 0.0)
    model.accept(failures(1, 1), 0.0)
    with MonitorFeed(Address.parse("tcp://127.0.0.1:9"), model=model) as feed:
        yield feed


def ask(feed: MonitorFeed, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
    """One request to the application itself."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(create_application(feed, **options))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:50001") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(go())


def test_one_task_and_its_errors(feed: MonitorFeed) -> None:
    found = ask(feed, f"/api/tasks/{ALICE.hex()}/3").json()
    assert found["task"]["number"] == 3
    assert found["failures"] == []
    failed = ask(feed, f"/api/tasks/{ALICE.hex()}/901").json()
    assert failed["task"] is None
    assert failed["failures"][0]["kind"] == "ValueError"
    assert ask(feed, f"/api/tasks/{ALICE.hex()}/77777").status_code == 404
    assert "not a client id" in ask(feed, "/api/tasks/xyz/1").json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/api/tasks?limit=0", "/api/tasks?state=odd", "/api/bars?seen=-1", "/api/logs?seen=x", "/api/tasks?limit=1e9"],
)
def test_bad_questions_get_an_error(feed: MonitorFeed, path: str) -> None:
    assert ask(feed, path).status_code == 422


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/nothing.js"])
def test_nothing_but_static_files_is_served(feed: MonitorFeed, path: str) -> None:
    assert ask(feed, path).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:50001", 200),
        ("127.0.0.1", 200),
        ("[::1]:50001", 200),
        ("[::1]", 200),
        ("10.1.2.3:50001", 200),
        ("ui.example.org", 200),
        ("evil.example.org", 421),
        ("evil.example.org:50001", 421),
        ("", 421),
    ],
)
def test_only_allowed_hosts_are_answered(feed: MonitorFeed, host: str, status: int) -> None:
    answer = ask(feed, "/api/overview", headers={"host": host}, allowed_hosts=("ui.example.org",))
    assert answer.status_code == status


def test_a_token_is_asked_for_and_kept_in_a_cookie(feed: MonitorFeed) -> None:
    secret: dict[str, Any] = {"token": "s3cret"}
    assert ask(feed, "/api/overview", **secret).status_code == 401
    assert ask(feed, "/", **secret).status_code == 401
    assert ask(feed, "/?token=wrong", **secret).status_code == 401
    assert ask(feed, "/healthz", **secret).status_code == 200
    assert ask(feed, "/metrics", headers={"authorization": "Bearer s3cret"}, **secret).status_code == 200
    shown = ask(feed, "/?token=s3cret&x=1", **secret)
    assert (shown.status_code, shown.headers["location"]) == (303, "/?x=1")
    cookie = shown.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    kept = cookie.partition(";")[0]
    assert ask(feed, "/api/overview", headers={"cookie": kept}, **secret).status_code == 200
    assert ask(feed, "/api/overview", headers={"cookie": kept + "x"}, **secret).status_code == 401


def test_pages_of_others_can_neither_frame_nor_read_it(feed: MonitorFeed) -> None:
    headers = ask(feed, "/", headers={"origin": "http://evil.example.org"}).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert headers["x-content-type-options"] == "nosniff"
