"""What is logged about a scheduler that does not answer."""

from __future__ import annotations

import pytest

from scaler_protocol.session import Connection, SilenceWatch
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m

ADDRESS = "tcp://10.0.0.5:2345"


class End:
    """A connection whose time passes in half seconds, with everything it has to log."""

    def __init__(self, heartbeat_seconds: float = 2.0) -> None:
        self.connection = Connection(
            m.Hello(m.Role.AGENT, "agent", b"a" * 16), heartbeat_seconds=heartbeat_seconds, give_up_seconds=300.0
        )
        self.watch = SilenceWatch(self.connection, ADDRESS, heartbeat_seconds, 300.0)
        self.scheduler = SessionPeer()
        self.scheduler.incarnation = b"s" * 16
        self.now = 100.0
        self.lines: list[tuple[float, int, str]] = []
        self.connection.start(self.now)
        self.look()

    def look(self) -> None:
        line = self.watch.look(self.now)
        if line is not None:
            self.lines.append((self.now - 100.0, *line))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            self.connection.tick(self.now)
            self.look()

    def welcome(self, *, resumed: bool = False) -> None:
        for sent in self.connection.outgoing:
            self.scheduler.receive(sent.envelope, sent.message, self.now)
        self.connection.outgoing.clear()
        self.connection.receive(*self.scheduler.welcome(resumed=resumed), self.now)
        assert self.connection.established
        self.look()


def test_a_waiting_service_says_so_after_a_while_and_every_ten_seconds() -> None:
    end = End()
    end.wait(30.0)
    assert end.lines == [
        (5.0, 30, f"no scheduler answers at {ADDRESS} yet (waited for 5 s); trying for another 295 s"),
        (15.0, 30, f"no scheduler answers at {ADDRESS} yet (waited for 15 s); trying for another 285 s"),
        (25.0, 30, f"no scheduler answers at {ADDRESS} yet (waited for 25 s); trying for another 275 s"),
    ]
    end.welcome()
    assert end.lines[3:] == [(30.0, 20, f"the scheduler at {ADDRESS} answers")]


def test_nothing_is_said_of_a_scheduler_that_answers_soon() -> None:
    end = End()
    end.wait(4.0)
    end.welcome()
    end.wait(4.0)
    assert end.lines == []


@pytest.mark.parametrize(("heartbeat_seconds", "told_at"), [(2.0, 5.0), (10.0, 25.0)])
def test_a_loss_is_told_every_ten_seconds_and_its_end_once(heartbeat_seconds: float, told_at: float) -> None:
    def lost(after: float) -> str:
        return f"the scheduler at {ADDRESS} has not answered for {after:.0f} s; trying for another {300 - after:.0f} s"

    end = End(heartbeat_seconds)
    end.welcome()
    end.wait(told_at + 24.0)
    assert end.lines == [(after, 30, lost(after)) for after in (told_at, told_at + 10.0, told_at + 20.0)]
    end.welcome(resumed=True)
    end.wait(told_at - 0.5)
    assert end.lines[3:] == [(told_at + 24.0, 20, f"the scheduler at {ADDRESS} answers again")]
    end.wait(0.5)
    assert [text for _, _, text in end.lines[4:]] == [lost(told_at)]
