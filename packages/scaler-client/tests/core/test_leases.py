"""The locks of a client core, through a session with one scheduler and the next."""

from __future__ import annotations

import pytest

from scaler.core import ClientCore, effects, events
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope

CLIENT = b"c" * 16


class Scheduler:
    """The other end of one core."""

    def __init__(self) -> None:
        self.core = ClientCore(CLIENT, m.Hello(m.Role.CLIENT, "c", CLIENT), address="tcp://there:1")
        self.peer = SessionPeer()
        self.changes: list[tuple[object, m.LockState]] = []
        self.core.start(0.0)
        self.sent()

    def sent(self) -> list[m.Message]:
        """What the core says of locks, since the last look."""
        found: list[m.Message] = []
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                self.peer.receive(effect.envelope, effect.message, 0.1)
                if isinstance(effect.message, m.LockRequest | m.LockRelease):
                    found.append(effect.message)
            elif isinstance(effect, effects.LeaseChanged):
                self.changes.append((effect.token, effect.state))
        return found

    def welcome(self) -> None:
        self.core.handle(events.Incoming(*self.peer.welcome()), 0.1)

    def restart(self) -> None:
        self.peer.incarnation = b"t" * 16
        self.core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.2)
        self.sent()
        self.welcome()

    def answer(self, lease: int, state: m.LockState) -> None:
        self.core.handle(events.Incoming(*self.peer.say(m.LockAnswer(lease, state))), 0.1)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


def test_what_was_asked_before_the_session_leaves_with_it(scheduler: Scheduler) -> None:
    scheduler.core.acquire_lock(1, "a", 1, "token")
    scheduler.core.acquire_lock(2, "b", 1, "given up")
    scheduler.core.withdraw_lock(2)
    assert scheduler.sent() == []
    scheduler.welcome()
    assert scheduler.sent() == [m.LockRequest(1, "a")]


def test_whoever_asked_is_told_until_the_end(scheduler: Scheduler) -> None:
    scheduler.welcome()
    scheduler.core.acquire_lock(1, "a", 2, "token")
    scheduler.answer(1, m.LockState.HELD)
    scheduler.core.release_lock(1)
    scheduler.answer(1, m.LockState.RELEASED)
    assert scheduler.sent() == [m.LockRequest(1, "a", 2), m.LockRelease(1)]
    assert scheduler.changes == [("token", m.LockState.HELD), ("token", m.LockState.RELEASED)]


def test_a_new_scheduler_hears_what_is_held_and_what_is_wanted(scheduler: Scheduler) -> None:
    scheduler.welcome()
    core = scheduler.core
    for number, name in enumerate(("held", "wanted", "ending", "ended", "lost"), 1):
        core.acquire_lock(number, name, 1, name)
    for number in (1, 3, 4, 5):
        scheduler.answer(number, m.LockState.HELD)
    core.release_lock(3)
    core.withdraw_lock(4)
    scheduler.answer(5, m.LockState.LOST)
    scheduler.sent()
    scheduler.restart()
    assert scheduler.sent() == [
        m.LockRequest(1, "held", held=True),
        m.LockRequest(2, "wanted"),
        m.LockRequest(3, "ending", held=True),
        m.LockRelease(3),
    ]
    core.release_lock(1)
    assert scheduler.sent() == [m.LockRelease(1)]


def test_an_answer_about_a_lease_that_was_given_up_is_passed_over(scheduler: Scheduler) -> None:
    scheduler.welcome()
    scheduler.core.acquire_lock(1, "a", 1, "token")
    scheduler.core.withdraw_lock(1)
    scheduler.answer(1, m.LockState.HELD)
    assert scheduler.sent() == [m.LockRequest(1, "a"), m.LockRelease(1)]
    assert scheduler.changes == []
