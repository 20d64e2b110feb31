"""Segments: written once, found by their place, held by whoever reads them, used again, and left by nobody."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from scaler_protocol.objects.comparison import same_buffers, same_bytes
from scaler_protocol.objects.segments import (
    PLACE_BYTES,
    Lease,
    Offer,
    Place,
    SegmentPool,
    SegmentReader,
    accept_offer,
    adopt,
    mark_taken,
    pack_place,
    supported,
    unpack_place,
)
from scaler_protocol.objects.segments.mapping_cache import MappingCache
from scaler_protocol.testing.waiting import wait_until

pytestmark = pytest.mark.skipif(not supported(), reason="segments exist on Linux only")

STORE = b"s" * 16
TOKEN = b"t" * 32
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "scaler-segments"])


def stamp(number: int = 0) -> bytes:
    return number.to_bytes(16, "little")


def write(pool: SegmentPool, number: int, buffers: Sequence[bytes]) -> Lease:
    lease = pool.write(stamp(number), buffers)
    assert lease is not None
    return lease


def open_descriptors() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(path))
        except OSError:
            continue
    return [target for target in found if "scaler-segment" in target]


@pytest.mark.parametrize("buffers", [[b"header"], [b"h", b"", os.urandom(300_000), b"x" * 63], [b"y"] * 1000, []])
def test_what_was_written_is_read(buffers: list[bytes]) -> None:
    pool = SegmentPool(TOKEN)
    # Further uses of a segment take other ways to write.
    for number in range(5):
        lease = write(pool, number, buffers)
        found = SegmentReader().read(lease.place)
        assert found is not None
        assert [bytes(buffer) for buffer in found] == buffers
        assert [bytes(buffer) for buffer in lease.buffers()] == buffers
        del lease, found
    assert pool.copied_bytes == 5 * sum(map(len, buffers))


def test_a_reader_may_write_and_nobody_else_sees_it() -> None:
    lease = write(SegmentPool(TOKEN), 1, [b"before" * 100_000])
    first, second = SegmentReader().read(lease.place), SegmentReader().read(lease.place)
    assert first is not None
    assert second is not None
    first[0][:6] = b"after!"  # type: ignore[index]
    assert bytes(first[0][:6]) == b"after!"
    assert bytes(second[0][:6]) == bytes(lease.buffers()[0][:6]) == b"before"


def test_a_segment_is_used_again_when_nobody_holds_it() -> None:
    pool = SegmentPool(TOKEN)
    lease = write(pool, 1, [bytes(500_000)])
    place = lease.place
    held = SegmentReader().read(place)
    assert held is not None
    del lease
    other = write(pool, 2, [b"\1" * 500_000])
    assert other.place.descriptor != place.descriptor
    # What is being read does not change, however often its writer writes.
    assert bytes(held[0]) == bytes(500_000)
    del held
    again = write(pool, 3, [b"\2" * 500_000])
    assert again.place.descriptor == place.descriptor
    # Who has heard of the old content does not get the new one.
    assert SegmentReader().read(place) is None


def test_segments_behind_those_that_are_held_are_used_again() -> None:
    """Results that others have not taken yet are the newest, and there may be dozens."""
    pool = SegmentPool(TOKEN)
    reader = SegmentReader()
    held: deque[object] = deque(maxlen=40)
    segments = set()
    for number in range(1000):
        place = write(pool, number, [bytes(300_000)]).place
        segments.add(place.descriptor)
        held.append(reader.read(place))
    assert len(segments) <= 45


def test_a_slice_of_a_buffer_holds_the_segment() -> None:
    pool = SegmentPool(TOKEN)
    lease = write(pool, 1, [bytes(500_000)])
    descriptor = lease.place.descriptor
    buffers = SegmentReader().read(lease.place)
    assert buffers is not None
    piece = memoryview(buffers[0])[1000:1001]
    del lease, buffers
    assert write(pool, 2, [bytes(500_000)]).place.descriptor != descriptor
    del piece


def test_the_server_holds_what_it_has_adopted() -> None:
    offer = Offer(STORE)
    token = accept_offer(offer.raw, STORE)
    assert token is not None
    pool = SegmentPool(token)
    lease = write(pool, 1, [b"header", os.urandom(400_000)])
    content = [bytes(buffer) for buffer in lease.buffers()]
    assert not lease.taken
    adopted = adopt(lease.place, offer.token, offer.device)
    assert adopted is not None
    assert not lease.taken, "the server may have no room for it"
    mark_taken(adopted.place)
    assert lease.taken
    descriptor = lease.place.descriptor
    del lease
    assert write(pool, 2, [bytes(400_000)]).place.descriptor != descriptor
    # Readers find it with the server, whatever becomes of its writer.
    pool.close()
    del pool
    found = SegmentReader().read(adopted.place)
    assert found is not None
    assert same_buffers(found, content)
    place = adopted.place
    with pytest.raises(TypeError):
        adopted.buffers[1][0] = 1
    del adopted, found
    assert SegmentReader().read(place) is None


def test_a_writer_sees_that_server_and_readers_have_left_a_content() -> None:
    offer = Offer(STORE)
    pool = SegmentPool(offer.token)
    lease = write(pool, 1, [os.urandom(400_000)])
    assert not lease.left, "the server has not come yet"
    adopted = adopt(lease.place, offer.token, offer.device)
    assert adopted is not None
    mark_taken(adopted.place)
    assert not lease.left
    found = SegmentReader().read(adopted.place)
    del adopted
    assert found is not None
    assert not lease.left
    del found
    assert lease.left
    pool.close()
    offer.close()


def test_only_segments_with_the_token_are_adopted(tmp_path: Path) -> None:
    offer = Offer(STORE)
    stranger = write(SegmentPool(b"?" * 32), 1, [bytes(1000)])
    assert adopt(stranger.place, offer.token, offer.device) is None
    assert not stranger.taken
    friend = write(SegmentPool(offer.token), 1, [bytes(1000)])
    assert adopt(friend.place._replace(stamp=stamp(9)), offer.token, offer.device) is None
    assert adopt(friend.place._replace(descriptor=999_999), offer.token, offer.device) is None
    # Not even a file with all the right bytes: it could be cut off while it is mapped.
    (tmp_path / "file").write_bytes(Path(friend.place.path).read_bytes())
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    place = Place(os.getpid(), descriptor, stamp(1))
    assert adopt(place, offer.token, offer.device) is None
    assert adopt(place, offer.token, os.fstat(descriptor).st_dev) is None
    os.close(descriptor)
    reading, writing = os.pipe()
    assert adopt(Place(os.getpid(), reading, stamp(1)), offer.token, offer.device) is None
    os.close(reading)
    os.close(writing)
    assert adopt(friend.place, offer.token, offer.device) is not None


def test_an_offer_is_accepted_only_from_the_server_that_made_it() -> None:
    offer = Offer(STORE)
    assert accept_offer(offer.raw, STORE) == offer.token
    assert accept_offer(offer.raw, b"x" * 16) is None
    assert accept_offer(b"", STORE) is None
    assert accept_offer(bytes(8), STORE) is None
    assert accept_offer(os.urandom(7), STORE) is None
    raw = offer.raw
    offer.close()
    assert accept_offer(raw, STORE) is None


def test_damaged_segments_are_not_read() -> None:
    generator = random.Random(7)
    lease = write(SegmentPool(TOKEN), 1, [b"header", bytes(5000)])
    whole = Path(lease.place.path).read_bytes()
    for _ in range(300):
        at = generator.randrange(192, 300)
        with Path(lease.place.path).open("r+b") as file:
            file.seek(at)
            file.write(generator.randbytes(8))
        found = SegmentReader().read(lease.place)
        assert found is None or sum(map(len, found)) <= len(whole)
        with Path(lease.place.path).open("r+b") as file:
            file.write(whole)


def test_beyond_so_many_mappings_readers_get_copies() -> None:
    pool = SegmentPool(TOKEN)
    reader = SegmentReader(mappings_max=2)
    leases = [write(pool, number, [bytes([number]) * 300_000]) for number in range(4)]
    found = [reader.read(lease.place) for lease in leases]
    assert [bytes(buffers[0]) for buffers in found if buffers] == [bytes([number]) * 300_000 for number in range(4)]
    assert [type(buffers[0]) for buffers in found if buffers] == [memoryview, memoryview, bytearray, bytearray]
    del found, leases
    assert isinstance((reader.read(write(pool, 9, [bytes(300_000)]).place) or [b""])[0], memoryview)


def test_idle_segments_are_given_back() -> None:
    before = len(open_descriptors())
    pool = SegmentPool(TOKEN, idle_seconds=0.05)
    leases = [write(pool, number, [bytes(300_000)]) for number in range(3)]
    assert len(open_descriptors()) == before + 3
    del leases
    wait_until(lambda: len(open_descriptors()) == before)
    # And the pool goes on.
    lease = write(pool, 9, [b"x" * 300_000])
    assert bytes(lease.buffers()[0]) == b"x" * 300_000


def test_what_is_kept_for_reuse_is_bounded() -> None:
    before = len(open_descriptors())
    pool = SegmentPool(TOKEN, idle_bytes_max=1_000_000)
    leases = [write(pool, number, [bytes(400_000)]) for number in range(6)]
    del leases
    pool.trim()
    assert len(open_descriptors()) == before + 2


def test_nothing_is_left_of_a_closed_pool() -> None:
    before = len(open_descriptors())
    pool = SegmentPool(TOKEN)
    lease = write(pool, 1, [bytes(300_000)])
    write(pool, 2, [bytes(300_000)])
    pool.close()
    assert len(open_descriptors()) == before + 1
    assert bytes(lease.buffers()[0]) == bytes(300_000)
    assert pool.write(stamp(3), [bytes(300_000)]) is None
    del lease, pool
    assert len(open_descriptors()) == before


def test_a_segment_outlives_its_killed_writer_only_where_somebody_holds_it() -> None:
    program = (
        "import sys, time\n"
        "from scaler_protocol.objects.segments import SegmentPool, pack_place\n"
        "pool = SegmentPool(b't' * 32)\n"
        "leases = [pool.write(bytes([n]) * 16, [bytes([n]) * 400_000]) for n in (1, 2)]\n"
        "print(*(pack_place(lease.place).hex() for lease in leases), flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        held, lost = (unpack_place(bytes.fromhex(word)) for word in child.stdout.readline().split())
        found = SegmentReader().read(held)
    finally:
        child.kill()
        child.communicate()
    assert found is not None
    assert bytes(found[0]) == b"\1" * 400_000
    assert SegmentReader().read(lost) is None


def test_a_killed_reader_holds_nothing() -> None:
    pool = SegmentPool(TOKEN)
    lease = write(pool, 1, [bytes(400_000)])
    program = (
        "import sys, time\n"
        "from scaler_protocol.objects.segments import SegmentReader, unpack_place\n"
        "found = SegmentReader().read(unpack_place(bytes.fromhex(sys.argv[1])))\n"
        "print(len(found[0]), flush=True)\n"
        "time.sleep(600)\n"
    )
    arguments = [sys.executable, "-c", program, pack_place(lease.place).hex()]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    descriptor = lease.place.descriptor
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "400000\n"
        del lease
        other = write(pool, 2, [bytes(400_000)])
        assert other.place.descriptor != descriptor
    finally:
        child.kill()
        child.communicate()
    assert write(pool, 3, [bytes(400_000)]).place.descriptor == descriptor


def test_places_are_packed() -> None:
    place = Place(17, 4, stamp(5))
    assert len(pack_place(place)) == PLACE_BYTES
    assert unpack_place(pack_place(place)) == place
    with pytest.raises(ValueError, match="24 bytes"):
        unpack_place(b"short")


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 1_000_003])
def test_buffers_are_compared_byte_by_byte_whatever_they_are(size: int) -> None:
    content = os.urandom(size)
    kinds: list[Callable[[bytes], bytes | bytearray | memoryview]] = [
        bytes,
        bytearray,
        memoryview,
        lambda raw: memoryview(bytearray(raw)),
    ]
    for one in kinds:
        for other in kinds:
            assert same_bytes(one(content), other(content))
            assert not same_bytes(one(content), other(content + b"x"))
            for at in {0, size // 2, size - 1} if size else ():
                changed = bytearray(content)
                changed[at] ^= 1
                assert not same_bytes(one(content), other(bytes(changed)))


# --- mappings used again


def first_of(buffers: Sequence[bytes | bytearray | memoryview] | None) -> memoryview:
    assert buffers is not None
    assert isinstance(buffers[0], memoryview)
    return buffers[0]


def test_what_was_only_read_is_mapped_for_the_second_reader_and_no_more() -> None:
    cache = MappingCache()
    lease = write(SegmentPool(TOKEN), 1, [os.urandom(5_000_000), b"second"])
    content = bytes(lease.buffers()[0])
    for _ in range(5):
        buffers = cache.read(lease.place)
        assert bytes(first_of(buffers)) == content
        del buffers
    assert cache.mapped_count == 2


def test_what_is_read_once_is_not_held() -> None:
    cache = MappingCache()
    pool = SegmentPool(TOKEN)
    lease = write(pool, 1, [bytes(5_000_000)])
    descriptor = lease.place.descriptor
    first_of(cache.read(lease.place))
    del lease
    assert write(pool, 2, [bytes(5_000_000)]).place.descriptor == descriptor


def test_what_somebody_still_has_is_not_given_to_the_next() -> None:
    cache = MappingCache()
    lease = write(SegmentPool(TOKEN), 1, [bytes(5_000_000)])
    first_of(cache.read(lease.place))
    piece = first_of(cache.read(lease.place))[4_000_000:]
    other = first_of(cache.read(lease.place))
    assert cache.mapped_count == 3
    piece[0] = 1
    assert other[4_000_000] == 0


@pytest.mark.parametrize("at", [0, 2_500_000, 4_999_999])
def test_what_was_written_to_is_not_given_to_the_next(at: int) -> None:
    cache = MappingCache()
    lease = write(SegmentPool(TOKEN), 1, [bytes(5_000_000)])
    first_of(cache.read(lease.place))
    first_of(cache.read(lease.place))[at] = 7
    assert bytes(first_of(cache.read(lease.place))) == bytes(5_000_000)
    assert cache.mapped_count == 3
    assert bytes(lease.buffers()[0]) == bytes(5_000_000)


def test_a_mapping_that_is_not_used_holds_its_segment_only_for_a_while() -> None:
    cache = MappingCache(kept_seconds=0.1)
    pool = SegmentPool(TOKEN)
    lease = write(pool, 1, [bytes(5_000_000)])
    descriptor = lease.place.descriptor
    for _ in range(2):
        first_of(cache.read(lease.place))
    del lease
    used_again = []

    def is_used_again() -> bool:
        used_again.append(write(pool, 2, [bytes(5_000_000)]))
        return used_again[-1].place.descriptor == descriptor

    wait_until(is_used_again)


def test_few_mappings_are_kept() -> None:
    cache = MappingCache()
    pool = SegmentPool(TOKEN)
    leases = [write(pool, number, [bytes([number]) * 4_500_000]) for number in range(10)]
    for _ in range(2):
        for number, lease in enumerate(leases):
            assert first_of(cache.read(lease.place))[77] == number
    assert cache.mapped_count == 20


def test_a_content_can_be_written_in_parts_that_whoever_has_mapped_it_sees() -> None:
    contents = [b"head", b"", bytes(range(256)) * 40, b"end"]
    whole = b"".join(contents)
    pool = SegmentPool(TOKEN)
    lease = pool.begin(STORE, [len(each) for each in contents])
    assert lease is not None
    adopted = adopt(lease.place, TOKEN, os.fstat(lease.place.descriptor).st_dev)
    assert adopted is not None
    for start in (7000, 0, 3500):
        lease.fill(start, [whole[start : start + 3000], whole[start + 3000 : start + 3500]])
    assert [bytes(each) for each in adopted.buffers] == contents
    with pytest.raises(ValueError, match="ends behind"):
        lease.fill(len(whole) - 1, [b"xy"])
    del adopted, lease
    pool.close()
