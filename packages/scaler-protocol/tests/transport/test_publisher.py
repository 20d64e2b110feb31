"""One to many, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.publisher import (
    RECEIVED_BYTES_MAX,
    SUBSCRIPTIONS_MAX,
    TOPICS_MAX,
    Publisher,
    Subscriber,
)

PATIENCE_S = 10.0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with closing(Publisher("tcp://127.0.0.1:0")) as publisher:
        yield publisher


def test_everybody_gets_everything(publisher: Publisher) -> None:
    with closing(Subscriber(publisher.address)) as first, closing(Subscriber(publisher.address)) as second:
        wait_until(lambda: publisher.update_subscribers() == 2)
        publisher.send([b"topic", b"body"])
        assert first.receive(PATIENCE_S) == second.receive(PATIENCE_S) == [b"topic", b"body"]


def test_a_topic_is_the_beginning_of_the_first_frame(publisher: Publisher) -> None:
    with closing(Subscriber(publisher.address, [b"ev"])) as subscriber:
        wait_until(publisher.update_subscribers)
        assert publisher.topics() == [b"ev"]
        assert publisher.wanted(b"events")
        assert not publisher.wanted(b"figures")
        publisher.send([b"figures", b"1"])
        publisher.send([b"events", b"2"])
        assert subscriber.receive(PATIENCE_S) == [b"events", b"2"]


def test_nobody_listens_after_the_last_one_left(publisher: Publisher) -> None:
    for _ in range(2):
        with closing(Subscriber(publisher.address)):
            wait_until(lambda: publisher.update_subscribers() == 1)
            assert publisher.wanted(b"anything")
        wait_until(lambda: publisher.update_subscribers() == 0)
        assert not publisher.wanted(b"anything")


def test_one_who_does_not_keep_up_loses_messages_and_delays_nobody(publisher: Publisher) -> None:
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


def test_what_waits_for_one_that_does_not_read_is_little(publisher: Publisher) -> None:
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


def test_silence_is_none(publisher: Publisher) -> None:
    with closing(Subscriber(publisher.address)) as subscriber:
        assert subscriber.receive(0.01) is None


def test_addresses_that_cannot_be_used_are_clear_errors(publisher: Publisher) -> None:
    with pytest.raises(TransportError, match="Address already in use"):
        Publisher(publisher.address)
    with pytest.raises(TransportError, match="cannot connect to nonsense"):
        Subscriber("nonsense")


def test_too_many_subscriptions_end_all_connections_and_honest_ones_come_back(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    def are_ended() -> bool:
        publisher.update_subscribers()
        return "subscribes more than" in caplog.text

    def is_back() -> bool:
        # libzmq subscribes again while somebody receives.
        assert honest.receive(0.01) is None
        return publisher.update_subscribers() == 1 and publisher.topics() == [b"news"]

    context: zmq.Context[Any] = zmq.Context()
    greedy = context.socket(zmq.XSUB)
    greedy.setsockopt(zmq.SNDHWM, 0)
    greedy.connect(publisher.address)
    with closing(Subscriber(publisher.address, [b"news"])) as honest:
        try:
            for number in range(SUBSCRIPTIONS_MAX + 10):
                greedy.send(b"\1" + number.to_bytes(4, "big"))
            wait_until(are_ended)
            assert len(publisher.topics()) <= TOPICS_MAX
        finally:
            greedy.close(linger=0)
            context.term()
        wait_until(is_back)
        publisher.send([b"news", b"today"])
        assert honest.receive(5.0) == [b"news", b"today"]


def test_a_topic_longer_than_any_ends_its_connection(publisher: Publisher) -> None:
    context: zmq.Context[Any] = zmq.Context()
    greedy = context.socket(zmq.XSUB)
    try:
        greedy.setsockopt(zmq.LINGER, 0)
        events = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        greedy.connect(publisher.address)
        greedy.send(b"\1" + bytes(RECEIVED_BYTES_MAX))
        assert events.poll(5000)
        assert publisher.update_subscribers() == 0
    finally:
        greedy.disable_monitor()
        events.close(linger=0)
        greedy.close(linger=0)
        context.term()
