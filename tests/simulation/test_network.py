"""The simulated network keeps ZeroMQ's promises and no others, and the session rules survive what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from scaler_protocol.session import Connection, Established, Outgoing, Received
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import SEQUENCED, UNSEQUENCED, Envelope
from simulation.clock import Clock
from simulation.network import Network

ADDRESS = "tcp://simulated:1"


@dataclass
class Recorder:
    """Keeps what it is given."""

    texts: list[str] = field(default_factory=list)

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        assert isinstance(message, m.Notice)
        self.texts.append(message.text)


class World:
    def __init__(self, seed: int, *, through_codec: bool = False) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.network = Network(self.clock, self.random, through_codec=through_codec)

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        marker = self.clock.at(end, lambda: None)
        while self.clock.now < end and self.clock.step():
            pass
        marker.cancel()


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def send_all(send: Callable[[Envelope, m.Message], object], texts: list[str]) -> None:
    for text in texts:
        send(UNSEQUENCED, m.Notice(text))


def test_order_is_kept_in_both_directions_whatever_the_delays() -> None:
    world = World(1, through_codec=True)
    server, client = Recorder(), Recorder()
    world.network.listen(ADDRESS, server)
    link = world.network.connect(b"c", ADDRESS, client)
    send_all(link.send, numbers(200))
    send_all(lambda e, message: world.network.send(ADDRESS, b"c", e, message), numbers(200))
    world.run(60)
    assert server.texts == numbers(200)
    assert client.texts == numbers(200)


def test_what_is_sent_before_anybody_listens_arrives_later() -> None:
    world = World(2)
    link = world.network.connect(b"c", ADDRESS, Recorder())
    send_all(link.send, numbers(3))
    world.run(5)
    server = Recorder()
    world.network.listen(ADDRESS, server)
    world.run(5)
    assert server.texts == numbers(3)


def test_a_break_loses_what_is_under_way_and_the_link_comes_back() -> None:
    world = World(3)
    server = Recorder()
    world.network.listen(ADDRESS, server)
    link = world.network.connect(b"c", ADDRESS, Recorder())
    send_all(link.send, ["lost"])
    link.break_connection(outage_s=10)
    assert link.lost == 1
    send_all(link.send, ["kept"])
    world.run(9)
    assert server.texts == []
    world.run(5)
    assert server.texts == ["kept"]


def test_a_freeze_that_thaws_loses_nothing_and_keeps_the_order() -> None:
    world = World(4)
    server = Recorder()
    world.network.listen(ADDRESS, server)
    link = world.network.connect(b"c", ADDRESS, Recorder())
    send_all(link.send, numbers(20))
    link.freeze()
    world.run(5)
    assert server.texts == []
    link.thaw()
    send_all(link.send, ["last"])
    world.run(5)
    assert server.texts == [*numbers(20), "last"]


def test_a_freeze_that_breaks_loses_all_of_it() -> None:
    world = World(5)
    server = Recorder()
    world.network.listen(ADDRESS, server)
    link = world.network.connect(b"c", ADDRESS, Recorder())
    send_all(link.send, numbers(20))
    link.freeze()
    world.run(5)
    link.break_connection()
    world.run(5)
    assert server.texts == []


def test_the_listening_end_learns_of_a_break_only_after_a_while() -> None:
    world = World(6)
    world.network.listen(ADDRESS, Recorder())
    client = Recorder()
    link = world.network.connect(b"c", ADDRESS, client)
    link.break_connection(outage_s=100)
    assert world.network.send(ADDRESS, b"c", UNSEQUENCED, m.Notice("vanishes"))
    world.run(10)
    assert not world.network.send(ADDRESS, b"c", UNSEQUENCED, m.Notice("refused"))
    assert not world.network.send(ADDRESS, b"stranger", UNSEQUENCED, m.Notice("refused"))
    world.run(200)
    assert client.texts == []


@pytest.mark.parametrize("deliver_rest", [True, False])
def test_last_words_of_a_killed_process_may_arrive(deliver_rest: bool) -> None:
    world = World(7)
    server = Recorder()
    world.network.listen(ADDRESS, server)
    link = world.network.connect(b"c", ADDRESS, Recorder())
    send_all(link.send, numbers(5))
    link.close(deliver_rest=deliver_rest)
    send_all(link.send, ["never"])
    world.run(5)
    assert server.texts == (numbers(5) if deliver_rest else [])
    assert world.network.links == []
    assert not world.network.send(ADDRESS, b"c", UNSEQUENCED, m.Notice("refused"))


def test_a_message_through_the_codec_is_equal_but_another_value() -> None:
    world = World(8, through_codec=True)
    sent = m.Notice("text", numbers=(1, 2))
    envelope, received = world.network.carry(Envelope(1, 2, SEQUENCED, 3), sent)
    assert isinstance(received, m.Notice)
    assert received is not sent
    assert (received.text, list(received.numbers), envelope) == ("text", [1, 2], Envelope(1, 2, SEQUENCED, 3))


# --- sessions over such a network


class Caller:
    """A connecting end that has a list of texts to bring across and announces the unconfirmed ones again."""

    def __init__(self, world: World, texts: list[str]) -> None:
        hello = m.Hello(role=m.Role.CLIENT, name="caller", incarnation=b"c" * 16)
        self.connection = Connection(hello, heartbeat_seconds=2.0, give_up_seconds=1e9)
        self.world = world
        self.texts = texts
        self.sessions = 0
        self.resumed = 0
        self.received: list[str] = []
        self.link = world.network.connect(b"c", ADDRESS, self)
        self.connection.start(world.clock.now)
        self.flush()

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        for event in self.connection.receive(envelope, message, self.world.clock.now):
            self.on_event(event)
        self.flush()

    def on_event(self, event: object) -> None:
        if isinstance(event, Established):
            self.sessions += not event.resumed
            self.resumed += event.resumed
            if not event.resumed:
                self.received.clear()
                for text in self.texts:
                    self.connection.send(m.Notice(text))
        elif isinstance(event, Received):
            assert isinstance(event.message, m.Notice)
            self.received.append(event.message.text)

    def tick(self) -> None:
        self.connection.tick(self.world.clock.now)
        self.connection.heartbeat(m.Heartbeat(), self.world.clock.now)
        self.flush()
        self.world.clock.after(0.5, self.tick)

    def flush(self) -> None:
        for outgoing in self.connection.outgoing:
            self.link.send(outgoing.envelope, outgoing.message)
        self.connection.outgoing.clear()


class Answerer:
    """A listening end that knows one peer, confirms every text, and may be restarted."""

    def __init__(self, world: World, incarnation: bytes) -> None:
        self.world = world
        self.end = SessionPeer(incarnation)
        self.hello_seen = 0
        self.texts: list[str] = []
        world.network.listen(ADDRESS, self)

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            if message.hello_number <= self.hello_seen:
                return
            self.hello_seen = message.hello_number
        accepted = self.end.receive(envelope, message, self.world.clock.now)
        if isinstance(accepted, m.Hello):
            if not self.end.may_resume:
                self.texts.clear()
            self.send(self.end.welcome())
        elif isinstance(accepted, m.Notice):
            self.texts.append(accepted.text)
            self.send(self.end.say(m.Notice(accepted.text)))
        elif isinstance(accepted, m.Heartbeat):
            self.send(self.end.say_plain(m.Heartbeat()))
        self.send(*self.end.take_outgoing())

    def send(self, *messages: Outgoing) -> None:
        for envelope, message in messages:
            self.world.network.send(ADDRESS, b"c", envelope, message)


@pytest.mark.parametrize("seed", range(20))
def test_a_session_brings_everything_across_once_and_in_order_over_a_link_that_breaks(seed: int) -> None:
    world = World(seed, through_codec=seed % 2 == 0)
    answerer = Answerer(world, b"s" * 16)
    caller = Caller(world, numbers(50))
    caller.tick()
    for _ in range(20):
        world.run(world.random.uniform(0.0, 1.0))
        caller.link.break_connection(world.random.uniform(0.0, 5.0))
    world.run(60)
    assert caller.sessions == 1, "the listening end lived on, so the session did"
    assert answerer.texts == numbers(50)
    assert caller.received == numbers(50)


@pytest.mark.parametrize("seed", range(10))
def test_a_restarted_listener_is_told_everything_again(seed: int) -> None:
    world = World(100 + seed)
    Answerer(world, b"1" * 16)
    caller = Caller(world, numbers(30))
    caller.tick()
    world.run(world.random.uniform(0.0, 0.5))
    world.network.stop_listening(ADDRESS)
    world.run(world.random.uniform(0.0, 3.0))
    second = Answerer(world, b"2" * 16)
    world.run(60)
    assert second.texts == numbers(30)
    assert caller.received == numbers(30)
