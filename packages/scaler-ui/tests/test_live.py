"""Both monitors against a real publisher that plays the scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from textual.widgets import Static

from scaler_protocol.address import Address
from scaler_protocol.codec import encode
from scaler_protocol.messages import Counter, MonitorSnapshot, WorkerStatus
from scaler_protocol.service.child import ChildService
from scaler_protocol.transport import Publisher
from scaler_ui.feed import SnapshotFeed
from scaler_ui.top.app import TopApplication


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0")
    yield publisher
    publisher.close()


def publish(publisher: Publisher, sequence: int, incarnation: bytes = b"i" * 16) -> None:
    snapshot = MonitorSnapshot(
        sequence,
        0.0,
        incarnation,
        task_states=(Counter("running", sequence),),
        workers=(WorkerStatus("first", "agent", queued=1), WorkerStatus("second", "agent", queued=sequence)),
    )
    publisher.send(encode(snapshot))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_feed_keeps_the_last_snapshot_and_counts_what_it_missed(publisher: Publisher) -> None:
    with SnapshotFeed(Address.parse(publisher.address)) as feed:
        assert feed.state().snapshot is None
        wait_until(lambda: publisher.update_subscribers() == 1)
        publish(publisher, 1)
        publisher.send([b"nonsense"])
        publish(publisher, 4)
        wait_until(lambda: (shown := feed.state().snapshot) is not None and shown.sequence == 4)
        assert feed.state().missed_messages == 2
        publish(publisher, 1, incarnation=b"j" * 16)
        wait_until(lambda: (shown := feed.state().snapshot) is not None and shown.sequence == 1)
        assert feed.state().missed_messages == 2


def test_top_draws_and_sorts(publisher: Publisher) -> None:
    async def use_top(feed: SnapshotFeed) -> None:
        application = TopApplication(feed, timeout_s=60)
        async with application.run_test(size=(120, 40)) as pilot:
            shown = application.query_one("#snapshot", Static)
            assert "first" in str(shown.content).splitlines()[-2]
            await pilot.press("q")
            assert "second" in str(shown.content).splitlines()[-2]
            assert "[queued]" in str(shown.content)

    with SnapshotFeed(Address.parse(publisher.address)) as feed:
        wait_until(lambda: publisher.update_subscribers() == 1)
        publish(publisher, 7)
        wait_until(lambda: feed.state().snapshot is not None)
        asyncio.run(use_top(feed))


def test_the_web_ui_serves_its_page_and_the_snapshot(publisher: Publisher) -> None:
    child = ChildService.start("scaler_ui.web", [publisher.address, "--port=0"])
    try:
        base = str(child.wait_ready(30)["webui"]).replace("tcp", "http")
        with httpx.Client(base_url=base, timeout=10) as http:
            assert "<title>Scaler</title>" in http.get("/").text
            assert http.get("/healthz").json() == {"status": "ok"}
            assert http.get("/api/snapshot").json()["snapshot"] is None
            wait_until(lambda: publisher.update_subscribers() == 1)
            publish(publisher, 3)
            wait_until(lambda: http.get("/api/snapshot").json()["snapshot"] is not None)
            assert http.get("/api/snapshot").json()["snapshot"]["task_states"] == {"running": 3}
    finally:
        assert child.terminate(10) == 0
