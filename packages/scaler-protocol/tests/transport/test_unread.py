"""Messages that wait for peers which do not read, over all connections of a listener."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import pytest

from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, new_key_pair, pinned_id
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener, SendOutcome
from scaler_protocol.transport.admission import Origin, RefusalKind
from scaler_protocol.transport.limits import ListenerLimits
from scaler_protocol.transport.unread import UnreadMessages
from scaler_protocol.wire.envelope import Frame

SERVER, HOG, HONEST = (new_key_pair() for _ in range(3))
MIB = 1024 * 1024


@dataclass(eq=False)
class Reader:
    """A connection as the limit sees it, its own stream."""

    host: str
    queue: deque[tuple[int, Sequence[Frame]]] = field(default_factory=deque)
    sealed_bytes: int = 0
    authority: Authority | None = None

    @property
    def stream(self) -> Reader:
        return self

    @property
    def origin(self) -> Origin:
        return Origin((self.host, 1))

    @property
    def queue_bytes(self) -> int:
        return sum(size for size, _ in self.queue)


class Table:
    """The limit of 10,000 bytes, and whom it has closed."""

    def __init__(self) -> None:
        self.readers: dict[Reader, None] = {}
        self.closed: list[Reader] = []
        self.unread = UnreadMessages(10_000, self.readers, self._refuse)

    def _refuse(self, reader: Reader, kind: RefusalKind, reason: str) -> None:
        assert kind is RefusalKind.UNREAD
        assert "the limit is 10000" in reason
        self.closed.append(reader)
        del self.readers[reader]

    def queue(self, reader: Reader, content: Frame) -> None:
        self.readers[reader] = None
        reader.queue.append((len(content), [memoryview(content)]))
        self.unread.note(len(content))


def test_what_waits_for_several_peers_counts_once() -> None:
    table = Table()
    content = bytes(9_000)
    for number in range(20):
        table.queue(Reader(f"10.0.0.{number}"), content)
    assert table.closed == []


def test_the_largest_connections_of_whoever_has_most_are_closed() -> None:
    table = Table()
    honest, small, large = Reader("10.0.0.1"), Reader("10.0.0.2"), Reader("10.0.0.2")
    table.queue(honest, bytes(4_000))
    table.queue(small, bytes(2_000))
    table.queue(large, bytes(3_000))
    assert table.closed == []
    table.queue(large, bytes(3_000))
    assert table.closed == [large]


def test_sealed_bytes_count_for_each_peer() -> None:
    table = Table()
    content = bytes(4_000)
    for number in range(2):
        table.queue(Reader("10.0.0.1", sealed_bytes=4_000), content)
        assert len(table.closed) == number


class Ends:
    """A listener that holds 4 MiB of unread messages, and links to it."""

    def __init__(self, stack: ExitStack, *, keyed: bool) -> None:
        self.stack, self.keyed = stack, keyed
        self.refused: list[RefusalKind] = []
        allowed = [Authority("me", KeyRole.CLIENT, pair.public) for pair in (HOG, HONEST)]
        self.listener = stack.enter_context(
            closing(
                RouterListener(
                    "tcp://127.0.0.1:0",
                    security=ServerSecurity(SERVER, allowed) if keyed else None,
                    on_refused=lambda _, kind, __: self.refused.append(kind),
                    limits=ListenerLimits(unread_bytes=16 * MIB),
                )
            )
        )

    def link(self, pair: KeyPair, number: int = 0) -> tuple[DealerLink, bytes]:
        identity = pinned_id(pair.public)[:-1] + bytes((number,))
        link = DealerLink(self.listener.address, identity, PeerSecurity(pair, SERVER.public) if self.keyed else None)
        self.stack.callback(link.close, 0)
        link.send([b"hello"])
        wait_until(lambda: link.receive(0) or self.listener.receive(10))
        return link, identity


@pytest.fixture(params=["keys", "no keys"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack, keyed=request.param == "keys")


def test_what_nobody_reads_is_bounded_and_who_reads_is_served(ends: Ends) -> None:
    silent = [ends.link(HOG, number)[1] for number in range(20)]
    honest, honest_id = ends.link(HONEST)
    outcomes = [ends.listener.send(identity, [bytes(3 * MIB)]) for identity in silent]
    assert set(outcomes) == {SendOutcome.QUEUED}
    assert ends.refused
    assert set(ends.refused) == {RefusalKind.UNREAD}
    assert ends.listener.flush()
    assert ends.listener.send(honest_id, [bytes(MIB)]) is not SendOutcome.GONE
    received: list[int] = []

    def heard() -> bool:
        ends.listener.flush()
        received.extend(len(frames[0]) for frames in honest.receive(10))
        return received == [MIB]

    wait_until(heard)
