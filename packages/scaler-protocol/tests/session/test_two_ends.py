"""Two ends over a link that breaks, delays and forgets; either end may be restarted. From a seed, in virtual time.

The link keeps ZeroMQ's promises and no others: on one connection nothing is lost or overtaken; when it breaks, all that
was under way in either direction is gone, the connecting end's messages wait for the next connection, and the
listening end's are dropped.

What must hold: within one session every sequenced message arrives exactly once and in order; once the link is whole,
everything arrives within bounded time, and no memory is held for what was acknowledged.
"""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from scaler_protocol.session import Connection, Established, HeartbeatDue, Outgoing, Received, RefusedByPeer, Session
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope

HEARTBEAT_S = 2.0
HEALED_S = 15.0
"""Two silent heartbeats until a hello, its answer, a resend that is asked for, and one more heartbeat: with room."""


class Mark:
    """What a sender writes into its n-th message of a session: the receiver can tell lost, doubled and misplaced ones."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.count = 0

    def next(self) -> m.Notice:
        self.count += 1
        return m.Notice(f"{self.session.epoch}:{self.count}")


class Receiver:
    """Checks the marks of one session."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.count = 0

    def take(self, message: m.Message) -> None:
        assert isinstance(message, m.Notice)
        self.count += 1
        assert message.text == f"{self.epoch}:{self.count}", "exactly once, in order, of this session"


class Caller:
    """The initiating end."""

    def __init__(self, incarnation: bytes, now: float) -> None:
        hello = m.Hello(m.Role.CLIENT, "caller", incarnation)
        self.connection = Connection(hello, heartbeat_seconds=HEARTBEAT_S)
        self.mark = Mark(self.connection.session)
        self.receiver = Receiver(-1)
        self.connection.start(now)

    def say(self) -> None:
        if self.connection.established:
            self.connection.send(self.mark.next())

    def deliver(self, envelope: Envelope, message: m.Message, now: float) -> None:
        for event in self.connection.receive(envelope, message, now):
            assert not isinstance(event, RefusedByPeer)
            if isinstance(event, Established) and not event.resumed:
                self.mark = Mark(self.connection.session)
                self.receiver = Receiver(self.connection.session.epoch)
            elif isinstance(event, Received):
                self.receiver.take(event.message)

    def tick(self, now: float) -> None:
        for event in self.connection.tick(now):
            if isinstance(event, HeartbeatDue):
                self.connection.heartbeat(m.Heartbeat(), now)
        assert self.connection.next_deadline() > now

    def take_outgoing(self) -> list[Outgoing]:
        outgoing = list(self.connection.outgoing)
        self.connection.outgoing.clear()
        return outgoing


class Answerer:
    """The listening end: a `SessionPeer` that answers every hello and says marks."""

    def __init__(self, incarnation: bytes) -> None:
        self.end = SessionPeer(incarnation)
        self.mark: Mark | None = None
        self.receiver = Receiver(-1)

    @property
    def session(self) -> Session | None:
        return self.end.session

    @property
    def outgoing(self) -> list[Outgoing]:
        return self.end.outgoing

    def forget_peer(self) -> None:
        self.end.session = None

    def say(self) -> None:
        if self.session is not None and self.mark is not None:
            self.outgoing.append(self.end.say(self.mark.next()))

    def deliver(self, envelope: Envelope, message: m.Message, now: float) -> None:
        accepted = self.end.receive(envelope, message, now)
        if isinstance(accepted, m.Hello):
            before, position = self.session, len(self.outgoing)
            # In front of what a resumed session sends again.
            self.outgoing.insert(position, self.end.welcome())
            if self.session is not None and self.session is not before:
                self.mark, self.receiver = Mark(self.session), Receiver(self.session.epoch)
        elif accepted is not None and not isinstance(accepted, m.Heartbeat):
            self.receiver.take(accepted)


class Link:
    """One connection after another between a caller's address and an answerer."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.up = True
        self.queued: deque[list[bytes]] = deque()
        self.to_answerer: deque[tuple[float, list[bytes]]] = deque()
        self.to_caller: deque[tuple[float, list[bytes]]] = deque()

    def call(self, outgoing: list[Outgoing], now: float) -> None:
        self.queued.extend(_frames(each) for each in outgoing)
        while self.up and self.queued:
            self._post(self.to_answerer, self.queued.popleft(), now)

    def answer(self, outgoing: list[Outgoing], now: float) -> None:
        if self.up:
            for each in outgoing:
                self._post(self.to_caller, _frames(each), now)

    def cut(self) -> None:
        """What was under way is lost; a prefix may already have been taken in."""
        self.up = False
        self.to_answerer.clear()
        self.to_caller.clear()

    def _post(self, way: deque[tuple[float, list[bytes]]], frames: list[bytes], now: float) -> None:
        arrival = now + self.chance.random() * 0.3
        if way:
            arrival = max(arrival, way[-1][0])
        way.append((arrival, frames))


def _frames(outgoing: Outgoing) -> list[bytes]:
    return [encode_envelope(outgoing.envelope), *(bytes(frame) for frame in encode(outgoing.message))]


class World:
    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.now = 0.0
        self.link = Link(self.chance)
        self.incarnations = 0
        self.caller = Caller(self.new_id(), self.now)
        self.answerer = Answerer(self.new_id())

    def new_id(self) -> bytes:
        self.incarnations += 1
        return self.incarnations.to_bytes(16, "little")

    def step(self, seconds: float) -> None:
        self.now += seconds
        for way, end in ((self.link.to_answerer, self.answerer), (self.link.to_caller, self.caller)):
            while way and way[0][0] <= self.now:
                frames = way.popleft()[1]
                end.deliver(decode_envelope(frames[0]), decode(frames[1:]), self.now)
        self.caller.tick(self.now)
        self.link.call(self.caller.take_outgoing(), self.now)
        self.link.answer(self.answerer.outgoing, self.now)
        self.answerer.outgoing.clear()

    def disturb(self) -> None:
        chance, roll = self.chance, self.chance.random()
        if roll < 0.03:
            self.link.cut()
        elif roll < 0.10:
            self.link.up = True
        elif roll < 0.105:
            self.answerer = Answerer(self.new_id())
            self.link.cut()
        elif roll < 0.11:
            # A new process: a new incarnation under a new address, so nothing of the old one is under way to it.
            self.caller = Caller(self.new_id(), self.now)
            self.link.cut()
            self.link.queued.clear()
        elif roll < 0.115:
            self.answerer.forget_peer()
        for _ in range(chance.randint(0, 3)):
            self.caller.say()
            if chance.random() < 0.5:
                self.answerer.say()


@pytest.mark.parametrize("seed", range(60))
def test_exactly_once_in_order_and_nothing_stays_behind(seed: int) -> None:
    world = World(seed)
    for _ in range(400):
        world.disturb()
        world.step(world.chance.random() * 0.4)
    world.link.up = True
    for _ in range(int(HEALED_S / 0.1)):
        world.step(0.1)
    caller, answerer = world.caller, world.answerer
    assert caller.connection.established
    assert answerer.session is not None
    assert answerer.mark is not None
    assert caller.connection.session.epoch == answerer.session.epoch
    assert answerer.receiver.count == caller.mark.count
    assert caller.receiver.count == answerer.mark.count
    for session in (caller.connection.session, answerer.session):
        assert (session.unacknowledged_count, session.outbox_bytes) == (0, 0)


def test_a_link_that_never_breaks_needs_one_hello_and_no_resends() -> None:
    world = World(1)
    sent: list[Outgoing] = []
    original = world.link.call
    world.link.call = lambda outgoing, now: (sent.extend(outgoing), original(outgoing, now))[1]  # type: ignore[method-assign,func-returns-value]
    for _ in range(400):
        world.caller.say()
        world.answerer.say()
        world.step(0.05)
    for _ in range(100):
        world.step(0.05)
    assert world.answerer.receiver.count == world.caller.mark.count > 380
    assert world.answerer.mark is not None
    assert world.caller.receiver.count == world.answerer.mark.count > 380
    assert sum(isinstance(each.message, m.Hello) for each in sent) == 1
    assert sum(isinstance(each.message, m.Notice) for each in sent) == world.caller.mark.count
