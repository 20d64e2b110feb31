"""One to many, over real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.publisher import CONNECTIONS_MAX, STALL_SECONDS_MAX, TOPICS_MAX, Publisher
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.transport.subscriptions import COMMANDS_PER_SECOND_MAX, TOPIC_BYTES_MAX
from scaler_protocol.transport.zmtp import command_frame, greeting
from scaler_protocol.wire.envelope import Frame

PATIENCE_S = 10.0


class Attended(Publisher):
    """Does what its connections need while it waits for something."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        super().__init__("tcp://127.0.0.1:0", on_refused=lambda _, __, reason: self.refused.append(reason))

    def until(self, condition: Callable[[], object]) -> None:
        def is_so() -> object:
            self.update_subscribers()
            return condition()

        wait_until(is_so)

    def receive(self, subscriber: Subscriber) -> list[Frame]:
        """What a subscriber hears next."""
        heard: list[list[Frame]] = []

        def has_heard() -> bool:
            frames = subscriber.receive(0.01)
            if frames is not None:
                heard.append(frames)
            return frames is not None

        self.until(has_heard)
        return heard[0]


@pytest.fixture
def publisher() -> Iterator[Attended]:
    with closing(Attended()) as publisher:
        yield publisher


@contextmanager
def raw_subscriber(publisher: Attended, *sent: bytes) -> Iterator[socket.socket]:
    """A connection that is over its handshake, or about to be, and has sent these bytes."""
    place = ("127.0.0.1", int(publisher.address.rpartition(":")[2]))
    with socket.create_connection(place) as connected:
        connected.settimeout(PATIENCE_S)
        ready = command_frame(b"\5READY" + b"\x0bSocket-Type" + (3).to_bytes(4, "big") + b"SUB")
        connected.sendall(b"".join((greeting(b"NULL"), ready, *sent)))
        yield connected


def subscription(topic: bytes) -> bytes:
    return command_frame(b"\x09SUBSCRIBE" + topic)


def is_closed(publisher: Attended, connected: socket.socket) -> bool:
    """Whether the publisher has ended a connection, of which nothing is read before."""
    publisher.update_subscribers()
    connected.setblocking(False)
    try:
        while connected.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def test_everybody_gets_everything(publisher: Attended) -> None:
    with closing(Subscriber(publisher.address)) as first, closing(Subscriber(publisher.address)) as second:
        wait_until(lambda: publisher.update_subscribers() == 2)
        publisher.send([b"topic", b"body"])
        assert publisher.receive(first) == publisher.receive(second) == [b"topic", b"body"]


def test_a_topic_is_the_beginning_of_the_first_frame(publisher: Attended) -> None:
    with closing(Subscriber(publisher.address, [b"ev"])) as subscriber:
        wait_until(publisher.update_subscribers)
        assert publisher.topics() == [b"ev"]
        assert publisher.wanted(b"events")
        assert not publisher.wanted(b"figures")
        publisher.send([b"figures", b"1"])
        publisher.send([b"events", b"2"])
        assert publisher.receive(subscriber) == [b"events", b"2"]


def test_nobody_listens_after_the_last_one_left(publisher: Attended) -> None:
    for _ in range(2):
        with closing(Subscriber(publisher.address)):
            wait_until(lambda: publisher.update_subscribers() == 1)
            assert publisher.wanted(b"anything")
        wait_until(lambda: publisher.update_subscribers() == 0)
        assert not publisher.wanted(b"anything")


def test_one_who_does_not_keep_up_loses_messages_and_delays_nobody(publisher: Attended) -> None:
    with closing(Subscriber(publisher.address)) as slow:
        wait_until(publisher.update_subscribers)
        started = time.monotonic()
        for number in range(20_000):
            publisher.send([number.to_bytes(4, "big"), bytes(1000)])
        assert time.monotonic() - started < PATIENCE_S
        received = []
        while (frames := slow.receive(0.3)) is not None:
            received.append(int.from_bytes(frames[0], "big"))
    assert 0 < len(received) < 20_000
    assert received == sorted(received)


def test_what_waits_for_one_that_does_not_read_is_little(publisher: Attended) -> None:
    size = 60_000
    context: zmq.Context[Any] = zmq.Context()
    with closing(context.socket(zmq.SUB)) as slow:
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.setsockopt(zmq.RCVBUF, 64 * 1024)
        slow.setsockopt(zmq.SUBSCRIBE, b"")
        slow.connect(publisher.address)
        wait_until(publisher.update_subscribers)
        for number in range(2_000):
            publisher.send([number.to_bytes(4, "big"), bytes(size)])
        received = []
        while slow.poll(300):
            received.append(int.from_bytes(slow.recv_multipart()[0], "big"))
    context.term()
    assert received == sorted(received)
    # The others lay in the buffers of the two sockets, some megabytes of the system's.
    assert len(received) * size < 12 * 1024**2


def test_silence_is_none(publisher: Attended) -> None:
    with closing(Subscriber(publisher.address)) as subscriber:
        assert subscriber.receive(0.01) is None


def test_addresses_that_cannot_be_used_are_clear_errors(publisher: Attended) -> None:
    with pytest.raises(TransportError, match="Address already in use"):
        Publisher(publisher.address)
    with pytest.raises(TransportError, match="cannot connect to nonsense"):
        Subscriber("nonsense")


@pytest.mark.parametrize(
    ("subscribed", "cancelled"), [(subscription(b"ab"), command_frame(b"\6CANCELab")), (b"\0\3\1ab", b"\0\3\0ab")]
)
def test_a_subscription_is_a_command_or_a_message(publisher: Attended, subscribed: bytes, cancelled: bytes) -> None:
    with raw_subscriber(publisher, subscribed) as connected:
        publisher.until(lambda: publisher.topics() == [b"ab"])
        connected.sendall(subscribed + cancelled)
        publisher.until(lambda: publisher.topics() == [])
        connected.sendall(cancelled + subscribed)
        publisher.until(lambda: publisher.topics() == [b"ab"])
    publisher.until(lambda: publisher.topics() == [])
    assert publisher.refused == []


def test_subscribers_of_other_libraries_may_send_what_an_application_would_read(publisher: Attended) -> None:
    with raw_subscriber(publisher, b"\0\5hello", subscription(b"a")):
        publisher.until(lambda: publisher.topics() == [b"a"])
    assert publisher.refused == []


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (subscription(bytes(TOPIC_BYTES_MAX + 1)), "a topic of 257 bytes"),
        (b"\2" + (2**40).to_bytes(8, "big"), "a message of 1099511627776 bytes"),
        (b"\2" + (2**20).to_bytes(8, "big"), "a message of 1048576 bytes from a subscriber"),
        (b"\6" + (2**20).to_bytes(8, "big"), "a ZMTP command of 1048576 bytes"),
        (b"\1\1a", "several frames"),
        (b"\1\1a\0\1b", "several frames"),
        (b"".join(subscription(b"%d" % n) for n in range(TOPICS_MAX + 1)), "more than 100 topics"),
        (subscription(b"a") * (COMMANDS_PER_SECOND_MAX + 1), "more than 500 subscriptions and other commands at once"),
        (command_frame(b"\4PING\0\0") * (COMMANDS_PER_SECOND_MAX + 1), "subscriptions and other commands at once"),
        (b"\0\1a" * (COMMANDS_PER_SECOND_MAX + 1), "subscriptions and other commands at once"),
    ],
)
def test_who_asks_for_too_much_loses_the_connection_and_others_keep_theirs(
    publisher: Attended, sent: bytes, reason: str
) -> None:
    with closing(Subscriber(publisher.address, [b"news"])) as honest:
        publisher.until(lambda: publisher.topics() == [b"news"])
        with raw_subscriber(publisher, sent) as greedy:
            publisher.until(lambda: is_closed(publisher, greedy))
        (told,) = publisher.refused
        assert reason in told
        assert publisher.topics() == [b"news"]
        publisher.send([b"news", b"today"])
        assert publisher.receive(honest) == [b"news", b"today"]
        assert honest.watch.lost_count == 0


def test_who_goes_on_asking_is_disconnected_within_a_second(publisher: Attended) -> None:
    with raw_subscriber(publisher) as greedy:

        def asks_and_is_ended() -> bool:
            try:
                greedy.sendall(subscription(b"a") * 20)
            except OSError:
                return True
            return is_closed(publisher, greedy)

        publisher.until(asks_and_is_ended)
    (reason,) = publisher.refused
    assert "in a second" in reason


def test_there_are_only_so_many_subscribers(publisher: Attended) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_MAX):
            stack.enter_context(raw_subscriber(publisher, subscription(b"a")))
            publisher.update_subscribers()
        publisher.until(lambda: publisher.update_subscribers() == CONNECTIONS_MAX)
        further = stack.enter_context(raw_subscriber(publisher, subscription(b"b")))
        publisher.until(lambda: is_closed(publisher, further))
    publisher.until(lambda: publisher.topics() == [])
    assert publisher.refused == [f"{CONNECTIONS_MAX} connections already; more are not permitted"]


def test_who_reads_nothing_for_long_is_disconnected(publisher: Attended, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_subscriber(publisher, subscription(b"")), closing(Subscriber(publisher.address)) as honest:
        publisher.until(lambda: publisher.update_subscribers() == 2)
        body = bytes(200_000)
        clock = time.monotonic()
        for number in range(200):
            # Half a second of the publisher's clock for each message.
            monkeypatch.setattr(time, "monotonic", lambda now=clock + number / 2: now)
            publisher.send([b"%d" % number, body])
            publisher.receive(honest)
        assert publisher.refused == [f"it has read nothing for {STALL_SECONDS_MAX:g} seconds"]
        assert publisher.update_subscribers() == 1
