"""The reactor reads all that is ready, then each service has one turn, and none is kept from it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from scaler_protocol.service.event_loop import EventLoopName, run
from scaler_protocol.service.reactor import TURNS_MAX, Reactor, Registration
from scaler_protocol.testing.waiting import wait_until_async

PATIENCE_S = 10.0

OnLoop = Callable[[Callable[[Reactor], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["builtin", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> OnLoop:
    """Runs a coroutine function with a reactor, on either event loop."""
    event_loop: EventLoopName = request.param

    def on_loop(main: Callable[[Reactor], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            reactor = Reactor()
            try:
                await asyncio.wait_for(main(reactor), PATIENCE_S)
            finally:
                reactor.close()

        run(whole, event_loop)

    return on_loop


class Service:
    """Notes what it is called for, in a list that several may share."""

    def __init__(self, reactor: Reactor, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.is_idle = asyncio.Event()
        self.in_turn: Callable[[], None] = lambda: None
        self.registration: Registration = reactor.register(self.turn, self.on_idle)

    def turn(self) -> None:
        self.log.append(f"{self.name} turn")
        self.in_turn()

    def on_idle(self) -> None:
        self.log.append(f"{self.name} idle")
        self.is_idle.set()


def test_a_turn_comes_once_however_often_it_is_scheduled(on_loop: OnLoop) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        service = Service(reactor, "one", log)
        service.registration.schedule()
        service.registration.schedule()
        assert log == []
        await service.is_idle.wait()
        assert log == ["one turn", "one idle"]

    on_loop(main)


def test_what_is_ready_together_is_read_before_the_turn(on_loop: OnLoop) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        service = Service(reactor, "one", log)
        pipes = [os.pipe() for _ in range(3)]

        def read(end: int) -> None:
            log.append(f"read {os.read(end, 10).decode()}")
            service.registration.schedule()

        for number, (reading, writing) in enumerate(pipes):
            reactor.add_reader(reading, partial(read, reading))
            os.write(writing, str(number).encode())
        await service.is_idle.wait()
        assert sorted(log[:3]) == ["read 0", "read 1", "read 2"]
        assert log[3:] == ["one turn", "one idle"]
        for reading, writing in pipes:
            reactor.remove_reader(reading)
            reactor.remove_reader(reading)
            os.close(reading)
            os.close(writing)

    on_loop(main)


def test_one_reader_may_remove_another(on_loop: OnLoop) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        service = Service(reactor, "one", log)
        pipes = [os.pipe() for _ in range(2)]

        def read() -> None:
            log.append("read")
            for reading, _ in pipes:
                reactor.remove_reader(reading)
            service.registration.schedule()

        for reading, writing in pipes:
            reactor.add_reader(reading, read)
            os.write(writing, b"x")
        await service.is_idle.wait()
        assert log == ["read", "one turn", "one idle"]
        for descriptor in [end for pipe in pipes for end in pipe]:
            os.close(descriptor)

    on_loop(main)


def test_what_one_service_asks_of_another_is_done_before_either_is_idle(on_loop: OnLoop) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        one, other = Service(reactor, "one", log), Service(reactor, "other", log)
        asked: list[str] = []

        def pass_on() -> None:
            if not asked:
                asked.append("once")
                other.registration.schedule()

        one.in_turn = pass_on
        other.in_turn = one.registration.schedule
        one.registration.schedule()
        await other.is_idle.wait()
        assert log == ["one turn", "other turn", "one turn", "one idle", "other idle"]

    on_loop(main)


def test_whoever_always_wants_more_leaves_timers_and_readers_their_time(on_loop: OnLoop) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        service = Service(reactor, "one", log)
        service.in_turn = service.registration.schedule
        service.registration.schedule()
        reading, writing = os.pipe()
        read_after: list[int] = []

        def read() -> None:
            reactor.remove_reader(reading)
            read_after.append(len(log))

        reactor.add_reader(reading, read)
        await wait_until_async(lambda: log.count("one turn") >= TURNS_MAX)
        turns_before = log.count("one turn")
        os.write(writing, b"x")
        await wait_until_async(lambda: read_after and log.count("one turn") > turns_before)
        assert read_after
        assert log.count("one turn") > turns_before >= TURNS_MAX
        service.in_turn = lambda: None
        os.close(reading)
        os.close(writing)

    on_loop(main)


def test_a_turn_that_fails_is_told_and_keeps_nobody_from_theirs(
    on_loop: OnLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        one, other = Service(reactor, "one", log), Service(reactor, "other", log)

        def fail() -> None:
            raise RuntimeError("out of order")

        one.in_turn = fail
        one.registration.schedule()
        other.registration.schedule()
        await other.is_idle.wait()
        assert log == ["one turn", "other turn", "one idle", "other idle"]
        one.registration.schedule()
        one.is_idle.clear()
        await one.is_idle.wait()
        assert log.count("one turn") == 2

    with caplog.at_level(logging.ERROR):
        on_loop(main)
    assert "out of order" in caplog.text


def test_an_idle_callback_that_fails_is_told_and_keeps_nobody_from_theirs(
    on_loop: OnLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(reactor: Reactor) -> None:
        def fail() -> None:
            raise RuntimeError("no idle")

        reactor.register(lambda: None, fail)
        log: list[str] = []
        service = Service(reactor, "one", log)
        service.registration.schedule()
        await service.is_idle.wait()
        assert log == ["one turn", "one idle"]

    with caplog.at_level(logging.ERROR):
        on_loop(main)
    assert "no idle" in caplog.text


def test_a_service_that_is_unregistered_has_no_turn_any_more(on_loop: OnLoop) -> None:
    async def main(reactor: Reactor) -> None:
        log: list[str] = []
        one, other = Service(reactor, "one", log), Service(reactor, "other", log)
        one.registration.schedule()
        reactor.unregister(one.registration)
        reactor.unregister(one.registration)
        one.registration.schedule()
        other.registration.schedule()
        await other.is_idle.wait()
        assert log == ["other turn", "other idle"]

    on_loop(main)
