"""Messages that have arrived in part, over all connections of a listener."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from scaler_protocol.errors import UnfinishedMessagesError
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, new_key_pair, pinned_id
from scaler_protocol.service.memory import rss_bytes
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener
from scaler_protocol.transport.admission import Origin, RefusalKind
from scaler_protocol.transport.limits import ListenerLimits
from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.unfinished import UnfinishedMessages
from scaler_protocol.transport.zmtp import Decoder, SocketType, greeting

SERVER, HOG, HONEST = (new_key_pair() for _ in range(3))
KIB, MIB = 1024, 1024 * 1024


@dataclass(eq=False)
class Sender:
    """A connection as the limit sees it, its own stream."""

    origin: Origin
    authority: Authority | None = None
    unfinished_bytes: int = 0

    @property
    def stream(self) -> Sender:
        return self


class Table:
    """The limit, and whom it has closed."""

    def __init__(self, limit: int) -> None:
        self.closed: list[Sender] = []
        self.reasons: list[str] = []
        self.unfinished = UnfinishedMessages[Sender](limit, self._refuse)

    def _refuse(self, sender: Sender, error: UnfinishedMessagesError) -> None:
        self.closed.append(sender)
        self.reasons.append(str(error))
        self.unfinished.forget(sender)

    def note(self, *senders: Sender) -> None:
        for sender in senders:
            self.unfinished.note(sender)


def test_who_has_most_over_all_its_connections_is_closed() -> None:
    keys = [Authority(name, KeyRole.CLIENT, pair.public) for name, pair in (("hog", HOG), ("honest", HONEST))]
    place = Origin(("10.0.0.1", 1))
    many = [Sender(place, keys[0], size) for size in (10, 30, 20)]
    one = Sender(place, keys[1], 40)
    table = Table(100)
    table.note(*many, one)
    assert table.closed == []
    many[0].unfinished_bytes = 11
    table.note(many[0])
    assert table.closed == [many[1]]
    assert "of the key 'hog' hold most of them, 61, and this one 30" in table.reasons[0]


def test_whose_bytes_are_read_hears_it_as_an_error() -> None:
    table = Table(100)
    hog = Sender(Origin(("10.0.0.1", 1)), None, 101)
    with pytest.raises(UnfinishedMessagesError):
        table.note(hog)
    assert table.closed == []
    table.note(Sender(Origin(("10.0.0.2", 1)), None, 99))


def test_room_is_made_so_that_not_every_read_goes_over_all_connections() -> None:
    table = Table(1000)
    senders = [Sender(Origin(("10.0.0.1", number)), None, 1) for number in range(1000)]
    honest = Sender(Origin(("10.0.0.2", 1)), None, 1)
    table.note(*senders, honest)
    assert len(table.closed) == 126
    assert honest not in table.closed


def test_messages_that_are_complete_by_now_do_not_count() -> None:
    table = Table(100)
    first, second = (Sender(Origin((host, 1)), None, 80) for host in ("10.0.0.1", "10.0.0.2"))
    table.note(first)
    first.unfinished_bytes = 0
    table.note(second)
    assert table.closed == []


def ready_decoder() -> Decoder:
    decoder = Decoder(SocketType.ROUTER, b"")
    decoder.feed(greeting(b"NULL"))
    sender = Decoder(SocketType.DEALER, b"peer")
    sender.feed(greeting(b"NULL"))
    decoder.feed(sender.replies[-1])
    return decoder


def test_of_a_large_frame_the_memory_counts_that_its_bytes_need() -> None:
    decoder = ready_decoder()
    decoder.feed(b"\x02" + (1 << 30).to_bytes(8, "big") + b"x" * 100)
    assert 100 <= decoder.unfinished_bytes <= 2 * MIB + 100


def test_a_buffer_that_is_allocated_at_once_counts_at_once() -> None:
    decoder = ready_decoder()
    decoder.feed(b"\x02" + (900 * KIB).to_bytes(8, "big") + b"x" * 100)
    assert decoder.unfinished_bytes == 900 * KIB


@pytest.mark.parametrize("rest", [b"", b"\x01", b"\x01\x05ab"])
def test_every_read_that_ends_within_a_message_is_noted(rest: bytes) -> None:
    decoder = ready_decoder()
    noted: list[int] = []
    decoder.on_unfinished = lambda: noted.append(decoder.unfinished_bytes)
    decoder.feed(b"\x00\x01a")
    assert noted == []
    decoder.feed(b"\x01\x03abc" + rest)
    assert len(noted) == 1
    assert noted[0] >= 3 + len(rest)


class Ends:
    """A listener that holds 5 MiB of unfinished messages, and links to it."""

    def __init__(self, stack: ExitStack, *, keyed: bool) -> None:
        self.stack = stack
        self.keyed = keyed
        self.refused: list[tuple[RefusalKind, str]] = []
        self.received: list[int] = []
        self.links: list[DealerLink] = []
        names = (("hog", HOG), ("honest", HONEST))
        allowed = [Authority(name, KeyRole.CLIENT, pair.public) for name, pair in names]
        self.listener = stack.enter_context(
            closing(
                RouterListener(
                    "tcp://127.0.0.1:0",
                    security=ServerSecurity(SERVER, allowed) if keyed else None,
                    on_refused=lambda _, kind, reason: self.refused.append((kind, reason)),
                    limits=ListenerLimits(unfinished_bytes=5 * MIB),
                )
            )
        )

    def link(self, pair: KeyPair, number: int = 0) -> DealerLink:
        security = PeerSecurity(pair, SERVER.public) if self.keyed else None
        link = DealerLink(self.listener.address, pinned_id(pair.public)[:-1] + bytes((number,)), security)
        self.stack.callback(link.close, 0)
        self.links.append(link)
        return link

    def attend(self) -> None:
        for link in self.links:
            link.receive(100)
        self.received.extend(len(frames[0]) for _, frames in self.listener.receive(100))


@pytest.fixture(params=["keys", "no keys"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack, keyed=request.param == "keys")


def test_a_listener_closes_only_the_connection_that_fills_its_memory(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    hog, honest = ends.link(HOG), ends.link(HONEST)
    honest.send([bytes(3 * MIB)])
    wait_until(lambda: ends.received == [3 * MIB], step=ends.attend)
    hog.send([bytes(64 * MIB)])
    wait_until(lambda: ends.refused, step=ends.attend)
    assert ends.refused[0][0] is RefusalKind.UNFINISHED
    assert "the limit is 5242880" in ends.refused[0][1]
    assert "the limit is 5242880" in caplog.text
    honest.send([b"small"])
    wait_until(lambda: ends.received == [3 * MIB, 5], step=ends.attend)


def test_a_closed_connection_is_freed_without_the_garbage_collector(ends: Ends) -> None:
    def streams() -> int:
        return sum(issubclass(type(each), Stream) for each in gc.get_objects())

    gc.collect()
    before = streams()
    link = ends.link(HOG)
    link.send([b"hello"])
    wait_until(lambda: ends.received, step=ends.attend)
    assert streams() == before + 2
    gc.disable()
    try:
        link.close()
        ends.links.clear()
        wait_until(lambda: streams() == before, step=ends.attend)
    finally:
        gc.enable()


def test_many_halves_under_load_fill_no_memory_and_harm_nobody(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    honest = ends.link(HONEST)
    honest.send([b"before"])
    wait_until(lambda: ends.received, step=ends.attend)
    # What waits at the senders is in this process too: they share it.
    honest_content = memoryview(bytes(600 * KIB))
    content = bytes(6 * MIB)
    halves = [bytes(10 * KIB), bytes(900 * KIB), content]
    before = highest = rss_bytes()
    hogs = [ends.link(HOG, number) for number in range(20)]
    for hog in hogs:
        hog.send(halves)
    for number in range(200):
        honest.send([honest_content[: number % 7 * 100 * KIB]])

    def all_heard() -> bool:
        nonlocal highest
        highest = max(highest, rss_bytes())
        return len(ends.received) >= 201

    wait_until(all_heard, 60, step=ends.attend)
    assert ends.received == [6] + [number % 7 * 100 * KIB for number in range(200)]
    assert len(ends.refused) >= len(hogs)
    assert {kind for kind, _ in ends.refused} == {RefusalKind.UNFINISHED}
    assert len(caplog.records) == 1
    # What the hogs themselves hold is in this process too: with keys, the sealed frame of each.
    assert highest - before < 60 * MIB + (len(hogs) * len(content) if ends.keyed else 0)
