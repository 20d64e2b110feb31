"""The server's hold on segments: bounded by its descriptors, and no longer than its objects live."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from pathlib import Path

from scaler_objstore.segments import HeldSegments
from scaler_protocol.objects.segments import Lease, SegmentPool, accept_offer, pack_place, unpack_place
from scaler_protocol.wire import messages as m

STORE = b"S" * 16
PEER = b"p" * 16


def put_of(lease: Lease) -> m.ObjectPut:
    return m.ObjectPut(1, lease.place.stamp, b"c" * 16, [], "", pack_place(lease.place))


def descriptor_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_beyond_so_many_segments_bytes_are_copied() -> None:
    segments = HeldSegments(STORE, held_max=2)
    token = accept_offer(segments.offer, STORE)
    assert token is not None
    pool = SegmentPool(token)
    leases = [pool.write(os.urandom(16), [bytes([number]) * 300_000]) for number in range(4)]
    puts = [segments.resolve(PEER, put_of(lease)) for lease in leases if lease is not None]
    assert [bytes(put.buffers[0][:1]) for put in puts] == [b"\0", b"\1", b"\2", b"\3"]
    assert [bool(put.place) for put in puts] == [True, True, False, False]
    assert {unpack_place(put.place).pid for put in puts[:2]} == {os.getpid()}
    # Room comes free with the objects.
    segments.end_turn()
    del puts[0]
    lease = pool.write(os.urandom(16), [bytes(300_000)])
    assert lease is not None
    assert segments.resolve(PEER, put_of(lease)).place
    segments.close()


def test_descriptors_go_with_the_buffers() -> None:
    segments = HeldSegments(STORE)
    token = accept_offer(segments.offer, STORE)
    assert token is not None
    lease = SegmentPool(token).write(os.urandom(16), [b"head", bytes(300_000)])
    assert lease is not None
    # What tests before this one have left to be collected is not to go while this one counts.
    gc.collect()
    before = descriptor_count()
    for _ in range(10):
        put = segments.resolve(PEER, put_of(lease))
        segments.end_turn()
        assert descriptor_count() > before
        view = put.buffers[1][5:6]
        del put
        assert descriptor_count() > before
        del view
        assert descriptor_count() == before
    segments.close()


def test_a_put_whose_segment_is_not_there_stays_without_buffers() -> None:
    segments = HeldSegments(STORE)
    put = m.ObjectPut(1, b"i" * 16, b"c" * 16, [], "", os.urandom(24))
    assert segments.resolve(PEER, put) == put
    assert segments.resolve(PEER, replace(put, place=bytes(24))).buffers == []
    segments.close()


def test_only_what_was_stored_is_not_its_writers_any_more() -> None:
    segments = HeldSegments(STORE)
    token = accept_offer(segments.offer, STORE)
    assert token is not None
    lease = SegmentPool(token).write(os.urandom(16), [bytes(300_000)])
    assert lease is not None
    full, done = m.ObjectPutReply(1, m.ObjectStatus.STORAGE_FULL, "full"), m.ObjectPutReply(1)
    before = descriptor_count()
    # Refused, so that it will come again.
    put = segments.resolve(PEER, put_of(lease))
    segments.answered(PEER, full)
    segments.end_turn()
    del put
    assert descriptor_count() == before
    segments.answered(PEER, done)
    assert not lease.taken
    # It waits for room, comes once more, and then there is room.
    waiting = segments.resolve(PEER, put_of(lease))
    segments.end_turn()
    segments.resolve(PEER, put_of(lease))
    segments.end_turn()
    segments.answered(b"q" * 16, done)
    assert not lease.taken
    segments.answered(PEER, done)
    assert lease.taken
    assert not lease.left
    del waiting
    assert lease.left
    assert not segments._untaken
    segments.close()
