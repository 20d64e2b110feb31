"""`scaler_ui` over HTTP: the real service as a process, and its application where nothing but answers matter."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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
from scaler_ui.web.sessions import Sessions
from scaler_ui.web.static_files import PageFiles


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
    assert service.child.terminate(40) == 0


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
    for path in ("workers", "clients", "graphs", "objects", "scaling", "history", "failures", "everything"):
        assert service.get(f"/api/{path}").status_code == 200


def test_the_stream_tells_of_news_and_ends_with_the_service(scheduler: SyntheticScheduler) -> None:
    service = Service(scheduler)
    scheduler.publish(snapshot(1, success=5))
    with httpx.stream("GET", service.base + "/api/stream", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        # The service may not have heard of it when the first of them is written.
        seen = (json.loads(line[6:]) for line in itertools.islice(lines, 200) if line.startswith("data: "))
        assert any(data.get("tasks", {}).get("success") == 5 for data in seen)
        begun = time.monotonic()
        service.child.process.terminate()
        for _ in lines:
            pass
    assert service.child.join(10) == 0
    # A stream that does not end with the service is cut off after a while, which would have raised above.
    assert time.monotonic() - begun < 10


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


def test_a_graph_that_is_not_known(feed: MonitorFeed) -> None:
    path = f"/api/graphs/{ALICE.hex()}/77777"
    assert ask(feed, path).status_code == 404
    assert ask(feed, f"{path}?absent=null").json() == {"graph": None, "picture": None}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/nothing.js",
        "/static/0123456789abcdef",
        "/static/0123456789abcdef/../../server.py",
        "/static/0123456789abcdef/%2e%2e/server.py",
    ],
)
def test_nothing_but_static_files_is_served(feed: MonitorFeed, path: str) -> None:
    assert ask(feed, path).status_code == 404


def test_a_browser_that_has_all_files_of_a_page_asks_for_none(feed: MonitorFeed) -> None:
    page = ask(feed, "/")
    assert page.headers["cache-control"] == "no-cache"
    paths = set(re.findall('"(/static/[^"]+)"', page.text))
    (version,) = {path.split("/")[2] for path in paths}
    assert f"/static/{version}/app.js" in paths
    for path in paths:
        answer = ask(feed, path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, max-age=31536000, immutable")
    assert ask(feed, f"/static/{version}/app.js").content == ask(feed, "/static/app.js").content


@pytest.mark.parametrize("version", ["", "0123456789abcdef/"])
def test_files_of_no_version_or_another_are_asked_for_again(feed: MonitorFeed, version: str) -> None:
    answer = ask(feed, f"/static/{version}app.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    again = ask(feed, f"/static/{version}app.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<script src="/static/app.js"></script>')
    (tmp_path / "app.js").write_text("1")
    pages = [PageFiles(tmp_path).page("index.html") for _ in range(2)]
    (tmp_path / "app.js").write_text("2")
    pages.append(PageFiles(tmp_path).page("index.html"))
    (tmp_path / "app.js").rename(tmp_path / "other.js")
    pages.append(PageFiles(tmp_path).page("index.html"))
    assert [len({*pages[:count]}) for count in (2, 3, 4)] == [1, 2, 3]


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


class Visitor:
    """Requests to one application, with cookies that are kept or not as the test says."""

    def __init__(self, feed: MonitorFeed, **options: Any) -> None:
        self.application = create_application(feed, **options)

    def ask(
        self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET", token: str | None = None
    ) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.application)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:50001") as client:
                data = None if token is None else {"token": token}
                return await client.request(method, path, headers=headers, data=data)

        return asyncio.run(go())


BROWSER = {"accept": "text/html,*/*"}


def cookie_of(answer: httpx.Response) -> dict[str, str]:
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_a_token_is_asked_for_and_never_kept_in_a_cookie(feed: MonitorFeed) -> None:
    visitor = Visitor(feed, token="s3cret")
    refused = visitor.ask("/api/overview")
    assert (refused.status_code, list(refused.json())) == (401, ["error"])
    assert visitor.ask("/?token=wrong").status_code == 401
    assert visitor.ask("/healthz").status_code == 200
    assert visitor.ask("/metrics", {"authorization": "Bearer s3cret"}).status_code == 200
    assert visitor.ask("/metrics", {"authorization": "Bearer x=\x7f"}).status_code == 401
    shown = visitor.ask("/?token=s3cret&x=1")
    assert (shown.status_code, shown.headers["location"]) == (303, "/?x=1")
    cookie = shown.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "s3cret" not in cookie
    assert (shown.headers["referrer-policy"], shown.headers["cache-control"]) == ("no-referrer", "no-store")
    kept = cookie_of(shown)
    assert visitor.ask("/api/overview", kept).status_code == 200
    assert visitor.ask("/api/overview", {"cookie": kept["cookie"] + "x"}).status_code == 401
    assert visitor.ask("/api/overview", {"cookie": "scaler_ui_session=s3cret"}).status_code == 401


@pytest.mark.parametrize("path", ["/api/stream", "/api/docs", "/api/openapi.json", "/static/app.js", "/metrics"])
def test_every_page_but_the_form_needs_the_token(feed: MonitorFeed, path: str) -> None:
    assert Visitor(feed, token="s3cret").ask(path).status_code == 401


def test_browsers_get_a_form_and_a_session_until_they_sign_out(feed: MonitorFeed) -> None:
    visitor = Visitor(feed, token="s3cret")
    form = visitor.ask("/", BROWSER)
    assert (form.status_code, 'action="/sign-in"' in form.text) == (401, True)
    wrong = visitor.ask("/sign-in", BROWSER, method="POST", token="\u00e9")
    assert (wrong.status_code, "not right" in wrong.text) == (401, True)
    right = visitor.ask("/sign-in", BROWSER, method="POST", token="s3cret")
    assert (right.status_code, right.headers["location"]) == (303, "/")
    session = cookie_of(right)
    assert "Sign out" in visitor.ask("/", {**BROWSER, **session}).text
    assert visitor.ask("/sign-out", session, method="POST").status_code == 303
    assert visitor.ask("/api/overview", session).status_code == 401


def test_attempts_to_guess_the_token_are_slowed_down(feed: MonitorFeed) -> None:
    visitor = Visitor(feed, token="s3cret")
    answers = [visitor.ask("/sign-in", method="POST", token=f"guess {number}") for number in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert visitor.ask("/api/overview", {"authorization": "Bearer guess"}).status_code == 429
    # Otherwise who guesses would find it all the same.
    assert visitor.ask("/api/overview", {"authorization": "Bearer s3cret"}).status_code == 429
    assert visitor.ask("/?token=s3cret").status_code == 429


def test_guesses_do_not_lock_out_who_had_the_right_token(feed: MonitorFeed) -> None:
    visitor = Visitor(feed, token="s3cret")
    right = visitor.ask("/sign-in", method="POST", token="s3cret")
    assert right.status_code == 303
    for number in range(12):
        visitor.ask("/sign-in", method="POST", token=f"guess {number}")
    assert visitor.ask("/api/overview", {"authorization": "Bearer guess"}).status_code == 429
    assert visitor.ask("/api/overview", {"authorization": "Bearer s3cret"}).status_code == 200
    assert visitor.ask("/api/overview", cookie_of(right)).status_code == 200


def test_a_stream_ends_when_its_session_is_over(feed: MonitorFeed) -> None:
    visitor = Visitor(feed, token="s3cret", session_s=2.0)
    session = cookie_of(visitor.ask("/sign-in", method="POST", token="s3cret"))
    begun = time.monotonic()
    streamed = visitor.ask("/api/stream", session)
    assert (streamed.status_code, "event: overview" in streamed.text) == (200, True)
    assert time.monotonic() - begun < 10
    # The page asks this then, and shows the form.
    assert visitor.ask("/api/overview", session).status_code == 401


def test_signing_out_ends_the_streams_of_that_session_only(scheduler: SyntheticScheduler, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "token").chmod(0o600)
    service = Service(scheduler, f"--token-file={tmp_path / 'token'}")

    def sign_in() -> httpx.Client:
        signed_in = httpx.post(service.base + "/sign-in", data={"token": "s3cret"}, timeout=10)
        assert signed_in.status_code == 303
        return httpx.Client(base_url=service.base, headers=cookie_of(signed_in), timeout=10)

    with sign_in() as leaving, sign_in() as staying, leaving.stream("GET", "/api/stream") as ended:
        lines = ended.iter_lines()
        next(lines)
        with staying.stream("GET", "/api/stream") as going_on:
            further = going_on.iter_lines()
            next(further)
            begun = time.monotonic()
            assert leaving.post("/sign-out").status_code == 303
            # Ends in order, not by a broken connection.
            for _ in lines:
                pass
            assert time.monotonic() - begun < 5
            assert sum(next(further).startswith("data:") for _ in range(12)) >= 2
        assert leaving.get("/api/overview").status_code == 401
        assert staying.get("/api/overview").status_code == 200
    assert service.child.terminate(40) == 0


CROSS_SITE = [
    {"origin": "http://evil.example.org"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "iframe"},
]


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD"]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_pages_of_other_sites_reach_nothing(feed: MonitorFeed, headers: dict[str, str]) -> None:
    visitor = Visitor(feed, token="s3cret")
    for path in ("/", "/sign-in", "/sign-out", "/api/overview", "/api/stream", "/healthz", "/metrics", "/x"):
        for method in METHODS:
            assert visitor.ask(path, headers, method=method).status_code == 403, (method, path)


def test_a_link_on_another_site_leads_to_a_request_of_this_one(feed: MonitorFeed) -> None:
    visitor = Visitor(feed, token="s3cret")
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", **BROWSER}
    answer = visitor.ask("/", followed)
    assert (answer.status_code, 'http-equiv="refresh"' in answer.text) == (200, True)
    answer = visitor.ask("/?token=s3cret", followed)
    assert (answer.status_code, 'content="0;url=/"' in answer.text) == (200, True)
    assert visitor.ask("/api/overview", cookie_of(answer)).status_code == 200
    assert visitor.ask("/api/everything", followed).status_code == 403


def test_sessions_end_and_are_bounded() -> None:
    sessions = Sessions(session_s=10, sessions_max=3)
    first = sessions.start(0.0)
    assert sessions.is_open(first, 9.9)
    assert not sessions.is_open(first, 10.0)
    assert len(sessions) == 0
    opened = [sessions.start(20.0) for _ in range(4)]
    assert [sessions.is_open(session, 20.0) for session in opened] == [False, True, True, True]
    sessions.end(opened[3])
    assert not sessions.is_open(opened[3], 20.0)
    assert not sessions.is_open("\ud800", 20.0)


def test_pages_that_are_allowed_may_frame_it_and_still_read_nothing(feed: MonitorFeed) -> None:
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert ask(feed, "/", headers=framed).status_code == 403
    frames = ("http://localhost:8888",)
    answer = ask(feed, "/", headers=framed, frames=frames)
    assert answer.status_code == 200
    assert "frame-ancestors http://localhost:8888;" in answer.headers["content-security-policy"]
    assert "x-frame-options" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    for path, more in (
        ("/api/overview", {}),
        ("/", {"sec-fetch-dest": "script"}),
        ("/", {"origin": "http://localhost:8888"}),
    ):
        assert ask(feed, path, headers={**framed, **more}, frames=frames).status_code == 403


def test_pages_of_others_can_neither_frame_nor_read_it(feed: MonitorFeed) -> None:
    answer = ask(feed, "/", headers={"origin": "http://evil.example.org"})
    assert answer.status_code == 403
    headers = answer.headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert headers["x-content-type-options"] == "nosniff"
