"""Waking a thread that sleeps in a poll."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from scaler_protocol.transport import Wakeup


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    with closing(Wakeup()) as wakeup:
        yield wakeup


def is_set(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_set_wakes_and_clear_puts_back_to_sleep(wakeup: Wakeup) -> None:
    assert not is_set(wakeup)
    wakeup.set()
    wakeup.set()
    assert is_set(wakeup)
    wakeup.clear()
    assert not is_set(wakeup)
    wakeup.set()
    assert is_set(wakeup)


def test_any_number_of_calls_costs_one_byte(wakeup: Wakeup) -> None:
    for _ in range(1_000_000):
        wakeup.set()
    wakeup.clear()
    assert not is_set(wakeup)


def test_no_wake_up_is_lost_between_threads(wakeup: Wakeup) -> None:
    """What was written before `set` is seen by whoever looks after `clear`."""
    written, seen = 0, 0

    def write() -> None:
        nonlocal written
        for _ in range(20_000):
            written += 1
            wakeup.set()

    thread = threading.Thread(target=write)
    thread.start()
    deadline = time.monotonic() + 20
    while seen < 20_000:
        assert select.select([wakeup], [], [], 5)[0], f"slept through a wake-up at {seen} of {written}"
        wakeup.clear()
        seen = written
        assert time.monotonic() < deadline
    thread.join()


def test_clearing_or_setting_after_close_does_nothing() -> None:
    wakeup = Wakeup()
    wakeup.close()
    wakeup.set()
    wakeup.clear()
