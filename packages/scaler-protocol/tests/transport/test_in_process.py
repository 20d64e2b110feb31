"""A connection within one thread behaves as one between two processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from scaler_protocol.transport import DealerLink, RouterListener, SendOutcome
from scaler_protocol.transport.in_process import InProcessLink
from scaler_protocol.wire.envelope import Frame

FREE_PORT = "tcp://127.0.0.1:0"


class InProcess:
    """A listener, how often it was told that something has come, and what links in its thread were sent."""

    def __init__(self) -> None:
        self.told = 0
        self.listener = RouterListener(FREE_PORT, self._tell)
        self.taken: list[Sequence[Frame]] = []

    def link(self, identity: bytes = b"peer") -> InProcessLink:
        return InProcessLink(self.listener, identity, self.taken.append)

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture
def in_process() -> Iterator[InProcess]:
    made = InProcess()
    yield made
    made.listener.close()


def test_messages_go_both_ways_in_order(in_process: InProcess) -> None:
    link = in_process.link()
    for number in range(5):
        assert link.send([b"up", b"%d" % number]) is False
    assert in_process.told == 1
    assert in_process.listener.has_received
    assert in_process.listener.receive(3) == [(b"peer", [b"up", b"%d" % number]) for number in range(3)]
    assert in_process.listener.receive(3) == [(b"peer", [b"up", b"%d" % number]) for number in range(3, 5)]
    for number in range(5):
        assert in_process.listener.send(b"peer", [b"down", b"%d" % number]) is SendOutcome.SENT
    assert in_process.taken == [[b"down", b"%d" % number] for number in range(5)]


def test_the_listener_is_told_again_once_it_has_taken_what_was_there(in_process: InProcess) -> None:
    link = in_process.link()
    link.send([b"1"])
    in_process.listener.receive(10)
    link.send([b"2"])
    assert in_process.told == 2


def test_peers_in_and_outside_the_process_are_served_together(in_process: InProcess) -> None:
    link = in_process.link()
    with closing(DealerLink(in_process.listener.address, b"outside")) as outside:
        outside.send([b"from outside"])
        received: dict[bytes, list[Frame]] = {}
        while len(received) < 2:
            # There is always something from in_process.
            link.send([b"from inside"])
            outside.receive(0)
            received.update(in_process.listener.receive(100))
        assert received == {b"outside": [b"from outside"], b"peer": [b"from inside"]}


def test_a_peer_that_was_disconnected_connects_again(in_process: InProcess) -> None:
    link = in_process.link()
    in_process.listener.disconnect(b"peer")
    assert in_process.listener.send(b"peer", [b"x"]) is SendOutcome.GONE
    link.send([b"lost"])
    assert in_process.listener.receive(10) == []
    link.flush()
    link.send([b"heard"])
    assert in_process.listener.receive(10) == [(b"peer", [b"heard"])]
    assert in_process.listener.send(b"peer", [b"x"]) is SendOutcome.SENT


def test_a_closed_link_is_gone(in_process: InProcess) -> None:
    link = in_process.link()
    link.close()
    link.close()
    link.send([b"x"])
    link.flush()
    assert in_process.listener.receive(10) == []
    assert in_process.listener.send(b"peer", [b"x"]) is SendOutcome.GONE


def test_who_takes_an_identity_has_it(in_process: InProcess) -> None:
    first = in_process.link()
    taken: list[Sequence[Frame]] = []
    second = InProcessLink(in_process.listener, b"peer", taken.append)
    first.send([b"from the first"])
    second.send([b"from the second"])
    assert in_process.listener.receive(10) == [(b"peer", [b"from the second"])]
    # The first one's end is not the second one's.
    first.close()
    assert in_process.listener.send(b"peer", [b"x"]) is SendOutcome.SENT
    assert (taken, in_process.taken) == ([[b"x"]], [])


def test_who_connects_from_outside_with_an_identity_has_it(in_process: InProcess) -> None:
    link = in_process.link()
    with closing(DealerLink(in_process.listener.address, b"peer")) as outside:
        outside.send([b"from outside"])
        received: list[tuple[bytes, list[Frame]]] = []
        while not received:
            outside.wait(0.05)
            outside.receive(0)
            received = in_process.listener.receive(10)
        assert received == [(b"peer", [b"from outside"])]
        link.send([b"lost"])
        assert in_process.listener.receive(10) == []


def test_what_a_closed_listener_is_sent_is_lost(in_process: InProcess) -> None:
    link = in_process.link()
    in_process.listener.close()
    link.send([b"x"])
    link.flush()
    link.send([b"y"])
    assert in_process.told == 0
    link.close()
