"""Turns: what is ready is read together, handled in one turn each, and nobody is kept from theirs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from scaler_protocol.service.event_loop import EventLoopName, run
from scaler_protocol.service.turns import TURNS_MAX, Seat, Turns

PATIENCE_S = 10.0

OnLoop = Callable[[Callable[[Turns], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["builtin", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> OnLoop:
    """Runs a coroutine function with turns, on either event loop."""
    event_loop: EventLoopName = request.param

    def on_loop(main: Callable[[Turns], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            turns = Turns()
            try:
                await asyncio.wait_for(main(turns), PATIENCE_S)
            finally:
                turns.close()

        run(whole, event_loop)

    return on_loop


class Service:
    """Notes what it is called for, in a list that several may share."""

    def __init__(self, turns: Turns, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.rested = asyncio.Event()
        self.in_turn: Callable[[], None] = lambda: None
        self.seat: Seat = turns.join(self.turn, self.rest)

    def turn(self) -> None:
        self.log.append(f"{self.name} turn")
        self.in_turn()

    def rest(self) -> None:
        self.log.append(f"{self.name} rest")
        self.rested.set()


def test_a_turn_comes_once_however_often_it_is_asked_for(on_loop: OnLoop) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        service = Service(turns, "one", log)
        service.seat.schedule()
        service.seat.schedule()
        assert log == []
        await service.rested.wait()
        assert log == ["one turn", "one rest"]

    on_loop(main)


def test_what_is_ready_together_is_read_before_the_turn(on_loop: OnLoop) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        service = Service(turns, "one", log)
        pipes = [os.pipe() for _ in range(3)]

        def read(end: int) -> None:
            log.append(f"read {os.read(end, 10).decode()}")
            service.seat.schedule()

        for number, (reading, writing) in enumerate(pipes):
            turns.add(reading, partial(read, reading))
            os.write(writing, str(number).encode())
        await service.rested.wait()
        assert sorted(log[:3]) == ["read 0", "read 1", "read 2"]
        assert log[3:] == ["one turn", "one rest"]
        for reading, writing in pipes:
            turns.remove(reading)
            turns.remove(reading)
            os.close(reading)
            os.close(writing)

    on_loop(main)


def test_one_reader_may_remove_another(on_loop: OnLoop) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        service = Service(turns, "one", log)
        pipes = [os.pipe() for _ in range(2)]

        def read() -> None:
            log.append("read")
            for reading, _ in pipes:
                turns.remove(reading)
            service.seat.schedule()

        for reading, writing in pipes:
            turns.add(reading, read)
            os.write(writing, b"x")
        await service.rested.wait()
        assert log == ["read", "one turn", "one rest"]
        for descriptor in [end for pipe in pipes for end in pipe]:
            os.close(descriptor)

    on_loop(main)


def test_what_one_service_asks_of_another_is_done_before_either_rests(on_loop: OnLoop) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        one, other = Service(turns, "one", log), Service(turns, "other", log)
        asked: list[str] = []

        def pass_on() -> None:
            if not asked:
                asked.append("once")
                other.seat.schedule()

        one.in_turn = pass_on
        other.in_turn = one.seat.schedule
        one.seat.schedule()
        await other.rested.wait()
        assert log == ["one turn", "other turn", "one turn", "one rest", "other rest"]

    on_loop(main)


def test_whoever_always_wants_more_leaves_timers_and_readers_their_time(on_loop: OnLoop) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        service = Service(turns, "one", log)
        service.in_turn = service.seat.schedule
        service.seat.schedule()
        reading, writing = os.pipe()
        read_after: list[int] = []

        def read() -> None:
            turns.remove(reading)
            read_after.append(len(log))

        turns.add(reading, read)
        await asyncio.sleep(0.01)
        turns_before = log.count("one turn")
        os.write(writing, b"x")
        await asyncio.sleep(0.05)
        assert read_after
        assert log.count("one turn") > turns_before >= TURNS_MAX
        service.in_turn = lambda: None
        os.close(reading)
        os.close(writing)

    on_loop(main)


def test_a_turn_that_fails_is_told_and_keeps_nobody_from_theirs(
    on_loop: OnLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        one, other = Service(turns, "one", log), Service(turns, "other", log)

        def fail() -> None:
            raise RuntimeError("out of order")

        one.in_turn = fail
        one.seat.schedule()
        other.seat.schedule()
        await other.rested.wait()
        assert log == ["one turn", "other turn", "one rest", "other rest"]
        one.seat.schedule()
        one.rested.clear()
        await one.rested.wait()
        assert log.count("one turn") == 2

    with caplog.at_level(logging.ERROR):
        on_loop(main)
    assert "out of order" in caplog.text


def test_a_rest_that_fails_is_told_and_keeps_nobody_from_theirs(
    on_loop: OnLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(turns: Turns) -> None:
        def fail() -> None:
            raise RuntimeError("no rest")

        turns.join(lambda: None, fail)
        log: list[str] = []
        service = Service(turns, "one", log)
        service.seat.schedule()
        await service.rested.wait()
        assert log == ["one turn", "one rest"]

    with caplog.at_level(logging.ERROR):
        on_loop(main)
    assert "no rest" in caplog.text


def test_who_has_left_has_no_turn_any_more(on_loop: OnLoop) -> None:
    async def main(turns: Turns) -> None:
        log: list[str] = []
        one, other = Service(turns, "one", log), Service(turns, "other", log)
        one.seat.schedule()
        turns.leave(one.seat)
        turns.leave(one.seat)
        one.seat.schedule()
        other.seat.schedule()
        await other.rested.wait()
        assert log == ["other turn", "other rest"]

    on_loop(main)
