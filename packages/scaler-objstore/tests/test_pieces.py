"""Large objects in pieces: layouts, parts of objects, and objects that come while others read them."""

from __future__ import annotations

from array import array

import pytest

from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import Limits, MemoryStorage, StoreCore, effects, events
from scaler_protocol.wire import messages as m

OWNER, BESIDE, READER, X = b"a" * 16, b"1" * 16, b"2" * 16, b"x" * 16
ROLES = {OWNER: m.Role.CLIENT, BESIDE: m.Role.AGENT, READER: m.Role.AGENT}
HOME = "tcp://10.0.0.1:7"
CONTENT = [b"head", b"", b"0123456789"]
LAYOUT = m.ObjectLayout(7, X, OWNER, array("Q", [4, 0, 10]))

Sent = list[tuple[bytes, m.Message]]


class Store:
    """A core that sends objects of ten bytes and more in pieces."""

    def __init__(self) -> None:
        limits = Limits(pieces_object_bytes_min=10, growing_max=2)
        self.core = StoreCore(b"S" * 16, MemoryStorage(10_000), KeyedContentHash(b"12345678"), limits)
        self.now = 0.0
        for peer, role in ROLES.items():
            self.say(peer, m.Hello(role, "", incarnation=peer, to_object_storage=True))

    def say(self, peer: bytes, message: m.Message) -> Sent:
        return self.handle(events.Incoming(peer, message))

    def handle(self, event: events.Event) -> Sent:
        self.core.handle(event, self.now)
        self.core.check_invariants()
        return [(one.peer, one.message) for one in self.core.take_effects() if isinstance(one, effects.Send)]

    def piece(self, offset: int, size: int, wait_seconds: float = 0.0) -> list[bytes] | None:
        """Return the answer to a get of a piece; None: it is missing."""
        sent = self.say(READER, m.ObjectGet(7, X, wait_seconds, size=size, offset=offset))
        ((_, data),) = sent
        assert isinstance(data, m.ObjectData)
        return None if data.missing else [bytes(buffer) for buffer in data.buffers]


def test_a_large_object_is_described_to_who_takes_pieces_and_sent_to_all_others() -> None:
    store = Store()
    store.say(OWNER, m.ObjectPut(1, X, OWNER, CONTENT))
    assert store.say(READER, m.ObjectGet(7, X, pieces=True)) == [(READER, LAYOUT)]
    assert store.say(READER, m.ObjectGet(7, X)) == [(READER, m.ObjectData(7, X, CONTENT))]
    small = b"y" * 16
    store.say(OWNER, m.ObjectPut(1, small, OWNER, [b"small"]))
    assert store.say(READER, m.ObjectGet(7, small, pieces=True)) == [(READER, m.ObjectData(7, small, [b"small"]))]


def test_the_first_reader_of_a_result_gets_it_whole_and_others_its_layout() -> None:
    store = Store()
    store.say(BESIDE, m.ObjectPut(1, X, OWNER, CONTENT))
    for _ in range(2):
        # Also when it asks again.
        assert store.say(READER, m.ObjectGet(7, X, pieces=True)) == [(READER, m.ObjectData(7, X, CONTENT))]
    assert store.say(BESIDE, m.ObjectGet(7, X, pieces=True)) == [(BESIDE, LAYOUT)]


def test_who_waits_for_an_object_is_told_its_layout_when_it_comes() -> None:
    store = Store()
    assert store.say(READER, m.ObjectGet(7, X, 5.0, pieces=True)) == []
    assert store.say(OWNER, m.ObjectPut(1, X, OWNER, CONTENT)) == [
        (READER, LAYOUT),
        (OWNER, m.ObjectPutReply(1)),
    ]


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, 4, [b"head"]),
        (0, 14, [b"head", b"0123456789"]),
        (2, 5, [b"ad", b"012"]),
        (4, 3, [b"012"]),
        (13, 1, [b"9"]),
        (13, 2, None),
        (14, 1, None),
        (2**64 - 1, 2**64 - 1, None),
    ],
)
def test_pieces_are_cut_from_all_buffers_one_after_another(
    offset: int, size: int, expected: list[bytes] | None
) -> None:
    store = Store()
    store.say(OWNER, m.ObjectPut(1, X, OWNER, CONTENT))
    assert store.piece(offset, size) == expected


def test_what_has_come_of_an_object_is_passed_on_and_the_rest_when_it_comes() -> None:
    store = Store()
    memory = [bytearray(4), bytearray(0), bytearray(10)]
    assert store.say(READER, m.ObjectGet(6, X, 5.0, size=3, offset=0)) == []
    begin = m.ObjectPut(1, X, OWNER, list(memory), incomplete=True)
    assert store.say(BESIDE, begin) == [(BESIDE, m.ObjectPutReply(1))]
    assert store.say(READER, m.ObjectGet(7, X, pieces=True)) == [(READER, LAYOUT)]
    # Whole it is not there yet.
    assert store.say(READER, m.ObjectGet(7, X)) == [(READER, m.ObjectData(7, X, missing=True))]
    memory[0][:] = b"head"
    grown = m.ObjectPut(0, X, OWNER, [], incomplete=True, filled=4)
    ((_, data),) = store.say(BESIDE, grown)
    assert isinstance(data, m.ObjectData)
    assert (data.request, [bytes(buffer) for buffer in data.buffers]) == (6, [b"hea"])
    # The beginning may be repeated.
    store.say(BESIDE, begin)
    assert store.piece(1, 3) == [b"ead"]
    assert store.say(READER, m.ObjectGet(8, X, 5.0, size=4, offset=2)) == []
    ((_, data), _) = store.say(BESIDE, m.ObjectPut(2, X, OWNER, CONTENT))
    assert isinstance(data, m.ObjectData)
    assert (data.request, data.buffers) == (8, [b"ad", b"01"])
    assert store.core.snapshot().growing_count == 0


def test_a_piece_that_does_not_come_in_time_is_missing() -> None:
    store = Store()
    store.say(BESIDE, m.ObjectPut(1, X, OWNER, [bytearray(20)], incomplete=True))
    store.say(READER, m.ObjectGet(7, X, 5.0, size=4))
    store.now = 5.0
    assert store.handle(events.Tick()) == [(READER, m.ObjectData(7, X, missing=True))]


def test_what_is_not_whole_ends_with_its_agent_its_delete_and_its_owner() -> None:
    store = Store()
    begin = m.ObjectPut(1, X, OWNER, [bytearray(20)], incomplete=True)
    for end in (
        m.ObjectDelete(1, OWNER, (X,)),
        m.Goodbye(""),
        m.ObjectDelete(1, OWNER, ()),
    ):
        store.say(BESIDE, m.Hello(m.Role.AGENT, "", incarnation=BESIDE, to_object_storage=True))
        store.say(BESIDE, begin)
        assert store.core.snapshot().growing_count == 1
        peer = BESIDE
        if isinstance(end, m.ObjectDelete) and not end.ids:
            peer = b"s" * 16
            store.say(peer, m.Hello(m.Role.SCHEDULER, "", incarnation=peer, to_object_storage=True))
        store.say(peer, end)
        assert store.core.snapshot().growing_count == 0
    ((_, reply),) = store.say(BESIDE, m.ObjectPut(1, X, OWNER, [bytearray(20)], incomplete=True))
    assert isinstance(reply, m.ObjectPutReply)
    assert reply.status == m.ObjectStatus.NOT_YOURS


def test_what_is_not_whole_is_bounded_and_needs_a_segment_that_can_be_opened() -> None:
    store = Store()
    for number in range(3):
        put = m.ObjectPut(1, bytes([number]) * 16, OWNER, [bytearray(20)], incomplete=True)
        ((_, reply),) = store.say(BESIDE, put)
        assert isinstance(reply, m.ObjectPutReply)
        assert reply.status == (m.ObjectStatus.DONE if number < 2 else m.ObjectStatus.STORAGE_FULL)
    ((_, reply),) = store.say(BESIDE, m.ObjectPut(1, X, OWNER, [], place=bytes(24), incomplete=True))
    assert isinstance(reply, m.ObjectPutReply)
    assert reply.status == m.ObjectStatus.NO_SEGMENT
    ((_, reply),) = store.say(BESIDE, m.ObjectPut(1, X, OWNER, [bytearray(20_000)], incomplete=True))
    assert isinstance(reply, m.ObjectPutReply)
    assert reply.status == m.ObjectStatus.TOO_LARGE


def test_agents_are_told_where_to_fetch_and_copies_of_what_is_deleted_are_refused() -> None:
    store = Store()
    ask = m.ObjectGet(7, X, keeps_at=HOME)
    assert store.say(READER, ask) == [(READER, m.ObjectData(7, X, missing=True))]
    store.say(OWNER, m.ObjectPut(1, X, OWNER, CONTENT))
    assert store.say(OWNER, ask) == [(OWNER, m.ObjectData(7, X, missing=True))]
    assert store.say(READER, ask) == [(READER, m.ObjectHomes(7, X, ("",)))]
    assert store.say(BESIDE, m.ObjectGet(7, X, keeps_at="tcp://other")) == [(BESIDE, m.ObjectHomes(7, X, (HOME, "")))]
    held = m.ObjectsHeld(1, OWNER, (X,), HOME, are_copies=True)
    assert store.say(READER, held) == [(READER, m.ObjectPutReply(1))]
    assert store.say(OWNER, m.ObjectDelete(1, OWNER, (X,))) == [
        (READER, m.ObjectDelete(0, OWNER, (X,))),
        (OWNER, m.ObjectDeleteReply(1)),
    ]
    store.say(READER, m.ObjectsGone((X,)))
    ((_, reply),) = store.say(READER, held)
    assert isinstance(reply, m.ObjectPutReply)
    assert reply.status == m.ObjectStatus.NOT_YOURS
