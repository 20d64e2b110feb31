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
from scaler_protocol.transport.publisher import Publisher, Subscriber

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
