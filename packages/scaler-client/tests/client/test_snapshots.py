"""Equal values are found by comparing bytes, whatever their samples say."""

from __future__ import annotations

import numpy as np

from scaler.client.snapshots import CANDIDATES_MAX, Snapshots, flat, key_of, same, snapshot


def test_equal_buffers_are_found() -> None:
    snapshots = Snapshots()
    array = np.arange(100_000)
    buffers = [b"header", flat(array.data)]
    snapshots.add(b"a", key_of(buffers), snapshot(buffers))
    again = [b"header", flat(np.arange(100_000).data)]
    ((object_id, kept),) = snapshots.candidates(key_of(again))
    assert object_id == b"a"
    assert same(kept, again)


def test_one_byte_between_the_samples_decides() -> None:
    first = bytearray(1_000_000)
    second = bytearray(1_000_000)
    second[777] = 1
    assert key_of([first]) == key_of([second])
    assert not same(snapshot([first]), [second])


def test_a_snapshot_does_not_change_with_its_source() -> None:
    source = bytearray(b"before")
    kept = snapshot([source])
    source[:] = b"after!"
    assert kept == [b"before"]


def test_bytes_are_not_copied() -> None:
    source = bytes(1000)
    assert snapshot([source])[0] is source


def test_what_is_kept_is_bounded() -> None:
    snapshots = Snapshots(kept_bytes_max=1000)
    for i in range(10):
        snapshots.add(bytes([i]), (i,), [bytes(300)])
    assert [object_id for object_id, _ in snapshots.all()] == [bytes([i]) for i in (7, 8, 9)]
    snapshots.add(b"large", ("large",), [bytes(2000)])
    assert not snapshots.candidates(("large",))


def test_candidates_are_few_and_recent() -> None:
    snapshots = Snapshots()
    for i in range(10):
        snapshots.add(bytes([i]), ("key",), [b"x"])
    assert [object_id for object_id, _ in snapshots.candidates(("key",))] == [
        bytes([9 - i]) for i in range(CANDIDATES_MAX)
    ]
    for i in range(10):
        snapshots.drop(bytes([i]))
    assert not snapshots.candidates(("key",))
