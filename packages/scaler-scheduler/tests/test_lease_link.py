"""The threads of a lease, with a store that hangs or fails in other ways than its library says."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import redis

from scaler_protocol.service.storage_url import RedisUrl
from scaler_scheduler import lease_link
from scaler_scheduler.core.lease import HOLD_SHARE, Exchange, Lease, LeaseRecord
from scaler_scheduler.core.succession import Change
from scaler_scheduler.lease_store import LeaseStore, LeaseStoreError

LEASE = 4.0
URL = RedisUrl("redis", "127.0.0.1", 1, 0, "scaler", None, {})


class SlowStore:
    """A store in this process. A request hangs while `answers` is not set."""

    def __init__(self) -> None:
        self.value: bytes | None = LeaseRecord(1, "former", "nobody", is_returned=True).encode()
        self.answers = threading.Event()
        self.answers.set()
        self.is_hanging = threading.Event()

    def exchange(self, request: Exchange) -> bytes | None:
        if not self.answers.is_set():
            self.is_hanging.set()
            self.answers.wait()
        if request.after is not None and self.value == request.before:
            self.value = request.after
        return self.value

    def close(self) -> None:
        pass


async def change_of(link: lease_link.LeaseLink, changed: asyncio.Event) -> Change | None:
    async with asyncio.timeout(30):
        await changed.wait()
    changed.clear()
    return link.take_change()


def test_a_holder_stops_in_time_while_a_request_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SlowStore()
    monkeypatch.setattr(lease_link, "LeaseStore", lambda *_: store)

    async def story() -> None:
        changed = asyncio.Event()
        link = lease_link.LeaseLink(URL, LEASE, changed.set)
        assert await change_of(link, changed) is Change.TAKE_OVER
        store.answers.clear()
        assert await asyncio.to_thread(store.is_hanging.wait, 10)
        began = time.monotonic()
        # As long as a name server that does not answer takes.
        assert await change_of(link, changed) is Change.STEP_DOWN
        assert time.monotonic() - began <= HOLD_SHARE * LEASE + 0.8, "another one may be first by now"
        store.answers.set()
        assert await change_of(link, changed) is Change.TAKE_OVER
        link.close()
        assert store.value is not None
        assert b'"returned": true' in store.value

    asyncio.run(story())


def test_an_end_while_a_request_hangs_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SlowStore()
    monkeypatch.setattr(lease_link, "LeaseStore", lambda *_: store)
    monkeypatch.setattr(lease_link, "CLOSE_SECONDS", 0.2)

    async def story() -> None:
        changed = asyncio.Event()
        link = lease_link.LeaseLink(URL, LEASE, changed.set)
        assert await change_of(link, changed) is Change.TAKE_OVER
        store.answers.clear()
        assert await asyncio.to_thread(store.is_hanging.wait, 10)
        began = time.monotonic()
        link.close()
        assert time.monotonic() - began < 5

    asyncio.run(story())
    store.answers.set()


def test_a_holder_whose_rules_fail_is_first_no_more_says_so_and_asks_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SlowStore()
    monkeypatch.setattr(lease_link, "LeaseStore", lambda *_: store)
    monkeypatch.setattr(lease_link, "AGAIN_SECONDS", 0.05)
    is_broken = threading.Event()
    tick = Lease.tick

    def fail_once(rules: Lease, now: float) -> Change | None:
        if is_broken.is_set():
            is_broken.clear()
            raise ZeroDivisionError("a mistake")
        return tick(rules, now)

    monkeypatch.setattr(Lease, "tick", fail_once)

    async def story() -> None:
        changed = asyncio.Event()
        link = lease_link.LeaseLink(URL, LEASE, changed.set)
        assert await change_of(link, changed) is Change.TAKE_OVER
        first_term, first_value = link.term, store.value
        is_broken.set()
        assert await change_of(link, changed) is Change.STEP_DOWN
        assert "following it has failed. This scheduler counts as one that has lost it" in caplog.text
        assert "ZeroDivisionError: a mistake" in caplog.text
        # It waits for the lease as any other would: it was not given back.
        assert await change_of(link, changed) is Change.TAKE_OVER
        assert link.term > first_term
        assert store.value != first_value
        link.close()

    asyncio.run(story())


def test_a_request_that_fails_unforeseen_is_said_and_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SlowStore()
    failures = [RuntimeError("a mistake"), RuntimeError("another")]
    exchange = store.exchange

    def fail_first(request: Exchange) -> bytes | None:
        if failures:
            raise failures.pop()
        return exchange(request)

    monkeypatch.setattr(store, "exchange", fail_first)
    monkeypatch.setattr(lease_link, "LeaseStore", lambda *_: store)

    async def story() -> None:
        changed = asyncio.Event()
        link = lease_link.LeaseLink(URL, LEASE, changed.set)
        assert await change_of(link, changed) is Change.TAKE_OVER
        link.close()

    asyncio.run(story())
    assert "asking for it has failed" in caplog.text


@pytest.mark.parametrize("error", [OSError("no CA file"), IndexError("pop from empty list"), redis.RedisError()])
def test_whatever_goes_wrong_is_no_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    store = LeaseStore(URL, LEASE)
    monkeypatch.setattr(store, "_command", fail)
    with pytest.raises(LeaseStoreError, match=str(error) or "RedisError"):
        store.exchange(Exchange())
