"""Equal values are found by comparing bytes, whatever their samples say."""

from __future__ import annotations

import os

import numpy as np
import pytest

from scaler.client.snapshots import CANDIDATES_MAX, LEASED_BYTES_MIN, LOOKS, Snapshot, Snapshots, flat, key_of, snapshot
from scaler_protocol.objects.segments import SegmentPool, supported


def test_equal_buffers_are_found() -> None:
    snapshots = Snapshots()
    array = np.arange(100_000)
    buffers = [b"header", flat(array.data)]
    snapshots.add(b"a", key_of(buffers), snapshot(buffers))
    again = [b"header", flat(np.arange(100_000).data)]
    ((object_id, kept),) = snapshots.candidates(key_of(again))
    assert object_id == b"a"
    assert kept.equals(again)


def test_one_byte_between_the_samples_decides() -> None:
    first = bytearray(1_000_000)
    second = bytearray(1_000_000)
    second[777] = 1
    assert key_of([first]) == key_of([second])
    assert not snapshot([first]).equals([second])


def test_a_snapshot_does_not_change_with_its_source() -> None:
    source = bytearray(b"before")
    kept = snapshot([source])
    source[:] = b"after!"
    assert kept.buffers() == [b"before"]


def test_bytes_are_not_copied() -> None:
    source = bytes(1000)
    assert snapshot([source]).buffers()[0] is source


def test_what_is_kept_is_bounded() -> None:
    snapshots = Snapshots(kept_bytes_max=1000)
    for i in range(10):
        snapshots.add(bytes([i]), (i,), snapshot([bytes(300)]))
    assert [object_id for object_id, _ in snapshots.all()] == [bytes([i]) for i in (7, 8, 9)]
    snapshots.add(b"large", ("large",), snapshot([bytes(2000)]))
    assert not snapshots.candidates(("large",))


def test_bytes_that_the_application_has_too_are_kept_beyond_the_bound() -> None:
    snapshots = Snapshots(kept_bytes_max=100_000)
    alive = {bytes([i]): bytes(bytearray(70_000)) for i in range(5)}
    for object_id, value in alive.items():
        snapshots.add(object_id, (object_id,), snapshot([b"header", value]))
    # Copies of what may change are not.
    changing = [bytearray(70_000) for _ in range(5)]
    for i, array in enumerate(changing):
        snapshots.add(b"array%d" % i, (i,), snapshot([array]))
    assert [object_id for object_id, _ in snapshots.all()] == [*alive, b"array4"]
    snapshots.drop_unshared()
    assert [object_id for object_id, _ in snapshots.all()] == [*alive, b"array4"]
    del value
    alive.popitem()
    alive.popitem()
    snapshots.drop_unshared()
    assert [object_id for object_id, _ in snapshots.all()] == [*alive, b"array4"]
    for object_id in list(alive):
        snapshots.drop(object_id)
    assert not snapshots.has_shared
    larger = bytes(bytearray(200_000))
    snapshots.add(b"larger", ("larger",), snapshot([larger]))
    assert snapshots.candidates(("larger",))
    del larger
    snapshots.drop_unshared()
    assert [object_id for object_id, _ in snapshots.all()] == [b"array4"]


class FakeLease:
    """A lease of which a test says whether the server has left it."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.left = False


def test_copies_that_the_server_has_left_are_found_in_turn_once_there_are_many() -> None:
    snapshots = Snapshots()
    leases = [FakeLease(LEASED_BYTES_MIN // 10) for _ in range(20)]
    for i, lease in enumerate(leases):
        lease.left = i < 9
        snapshots.add(bytes([i]), (i,), Snapshot(lease))  # type: ignore[arg-type]
        if i < 9:
            assert snapshots.left() == []
    found: set[bytes] = set()
    for _ in range(5):
        now = snapshots.left()
        assert len(now) <= LOOKS
        found.update(now)
    assert found == {bytes([i]) for i in range(9)}
    for object_id in found:
        snapshots.drop(object_id)
    assert [snapshots.left() for _ in range(5)] == [[]] * 5


def test_candidates_are_few_and_recent() -> None:
    snapshots = Snapshots()
    for i in range(10):
        snapshots.add(bytes([i]), ("key",), snapshot([b"x"]))
    assert [object_id for object_id, _ in snapshots.candidates(("key",))] == [
        bytes([9 - i]) for i in range(CANDIDATES_MAX)
    ]
    for i in range(10):
        snapshots.drop(bytes([i]))
    assert not snapshots.candidates(("key",))


@pytest.mark.skipif(not supported(), reason="segments exist on Linux only")
def test_a_snapshot_in_a_segment_is_compared_with_its_own_bytes() -> None:
    pool = SegmentPool(b"t" * 32)
    source = bytearray(os.urandom(600_000))
    lease = pool.write(b"i" * 16, [b"header", source])
    kept = Snapshot(lease)
    assert kept.equals([b"header", source])
    assert kept.size_bytes == 600_006
    assert kept.own_bytes == 0
    source[300_000] ^= 1
    assert not kept.equals([b"header", source])
