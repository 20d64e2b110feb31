"""A connection inside one thread behaves as one between two processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from scaler_protocol.transport import DealerLink, RouterListener, SendOutcome
from scaler_protocol.transport.inside import InsideLink
from scaler_protocol.wire.envelope import Frame

FREE_PORT = "tcp://127.0.0.1:0"


class Inside:
    """A listener, how often it was told that something has come, and what links inside its thread were sent."""

    def __init__(self) -> None:
        self.told = 0
        self.listener = RouterListener(FREE_PORT, self._tell)
        self.taken: list[Sequence[Frame]] = []

    def link(self, identity: bytes = b"peer") -> InsideLink:
        return InsideLink(self.listener, identity, self.taken.append)

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture
def inside() -> Iterator[Inside]:
    made = Inside()
    yield made
    made.listener.close()


def test_messages_go_both_ways_in_order(inside: Inside) -> None:
    link = inside.link()
    for number in range(5):
        assert link.send([b"up", b"%d" % number]) is False
    assert inside.told == 1
    assert inside.listener.has_received
    assert inside.listener.receive(3) == [(b"peer", [b"up", b"%d" % number]) for number in range(3)]
    assert inside.listener.receive(3) == [(b"peer", [b"up", b"%d" % number]) for number in range(3, 5)]
    for number in range(5):
        assert inside.listener.send(b"peer", [b"down", b"%d" % number]) is SendOutcome.SENT
    assert inside.taken == [[b"down", b"%d" % number] for number in range(5)]


def test_the_listener_is_told_again_once_it_has_taken_what_was_there(inside: Inside) -> None:
    link = inside.link()
    link.send([b"1"])
    inside.listener.receive(10)
    link.send([b"2"])
    assert inside.told == 2


def test_peers_inside_and_outside_are_served_together(inside: Inside) -> None:
    link = inside.link()
    with closing(DealerLink(inside.listener.address, b"outside")) as outside:
        outside.send([b"from outside"])
        received: dict[bytes, list[Frame]] = {}
        while len(received) < 2:
            # There is always something from inside.
            link.send([b"from inside"])
            outside.receive(0)
            received.update(inside.listener.receive(100))
        assert received == {b"outside": [b"from outside"], b"peer": [b"from inside"]}


def test_a_peer_that_was_disconnected_connects_again(inside: Inside) -> None:
    link = inside.link()
    inside.listener.disconnect(b"peer")
    assert inside.listener.send(b"peer", [b"x"]) is SendOutcome.GONE
    link.send([b"lost"])
    assert inside.listener.receive(10) == []
    link.flush()
    link.send([b"heard"])
    assert inside.listener.receive(10) == [(b"peer", [b"heard"])]
    assert inside.listener.send(b"peer", [b"x"]) is SendOutcome.SENT


def test_a_closed_link_is_gone(inside: Inside) -> None:
    link = inside.link()
    link.close()
    link.close()
    link.send([b"x"])
    link.flush()
    assert inside.listener.receive(10) == []
    assert inside.listener.send(b"peer", [b"x"]) is SendOutcome.GONE


def test_who_takes_an_identity_has_it(inside: Inside) -> None:
    first = inside.link()
    taken: list[Sequence[Frame]] = []
    second = InsideLink(inside.listener, b"peer", taken.append)
    first.send([b"from the first"])
    second.send([b"from the second"])
    assert inside.listener.receive(10) == [(b"peer", [b"from the second"])]
    # The first one's end is not the second one's.
    first.close()
    assert inside.listener.send(b"peer", [b"x"]) is SendOutcome.SENT
    assert (taken, inside.taken) == ([[b"x"]], [])


def test_who_connects_from_outside_with_an_identity_has_it(inside: Inside) -> None:
    link = inside.link()
    with closing(DealerLink(inside.listener.address, b"peer")) as outside:
        outside.send([b"from outside"])
        received: list[tuple[bytes, list[Frame]]] = []
        while not received:
            outside.wait(0.05)
            outside.receive(0)
            received = inside.listener.receive(10)
        assert received == [(b"peer", [b"from outside"])]
        link.send([b"lost"])
        assert inside.listener.receive(10) == []


def test_what_a_closed_listener_is_sent_is_lost(inside: Inside) -> None:
    link = inside.link()
    inside.listener.close()
    link.send([b"x"])
    link.flush()
    link.send([b"y"])
    assert inside.told == 0
    link.close()
