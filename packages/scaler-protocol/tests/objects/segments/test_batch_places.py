"""Payloads that leave together, in one segment: what is read is what was written, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from scaler_protocol.objects.segments import batch_segment
from scaler_protocol.objects.segments.batch_place import (
    ITEMS_MAX,
    PLACE_BYTES,
    STAMP_BYTES,
    BatchPlace,
    Form,
    Piece,
    locked,
)
from scaler_protocol.objects.segments.batch_reading import BatchSegments
from scaler_protocol.objects.segments.batch_segment import IDLE_SECONDS, ROOM_BYTES, BatchSegment
from scaler_protocol.objects.segments.layout import supported
from scaler_protocol.payloads.unpickled import BufferedPickle, UnpickledBytes

pytestmark = pytest.mark.skipif(not supported(), reason="needs memory without a name")

SIZE = 30_000


@pytest.fixture
def segment() -> Iterator[BatchSegment]:
    segment = BatchSegment()
    yield segment
    segment.close()


@pytest.fixture
def reader() -> Iterator[BatchSegments]:
    reader = BatchSegments()
    yield reader
    reader.close()


def _put(segment: BatchSegment, *numbers: int, size: int = SIZE) -> tuple[list[bytes], list[BatchPlace]]:
    payloads = [bytes([number]) * (size + number) for number in numbers]
    places = segment.put(numbers, payloads, 0.0)
    assert places is not None
    assert all(len(place) == PLACE_BYTES for place in places)
    parsed = [BatchPlace.parse(place) for place in places]
    return payloads, [place for place in parsed if place is not None]


def _read(segment: BatchSegment | BatchSegments, place: BatchPlace) -> bytes | None:
    """Return the payload at a place."""
    content = segment.read(place)
    if content is None:
        return None
    (payload,) = content
    assert isinstance(payload, bytes)
    return payload


def _answer(reader: BatchSegments, place: BatchPlace, result: bytes) -> bytes | None:
    return reader.answer(place, Form.PAYLOAD, [result])


def _parsed(place: bytes | None) -> BatchPlace:
    assert place is not None
    parsed = BatchPlace.parse(place)
    assert parsed is not None
    return parsed


def test_payloads_are_read_where_they_lie_and_results_take_their_places(
    segment: BatchSegment, reader: BatchSegments
) -> None:
    payloads, places = _put(segment, 1, 2, 3)
    assert [_read(reader, place) for place in places] == payloads
    result = b"r" * (SIZE + ROOM_BYTES)
    answer = _answer(reader, places[1], result)
    assert answer is not None
    place = BatchPlace.parse(answer)
    assert place is not None
    assert _read(segment, place) == result
    assert [_read(reader, one) for one in places] == [payloads[0], None, payloads[2]]


def test_of_two_attempts_the_first_leaves_its_result(segment: BatchSegment, reader: BatchSegments) -> None:
    _, (place,) = _put(segment, 1)
    first = _answer(reader, place, b"first" * 1000)
    assert first is not None
    assert _answer(BatchSegments(), place, b"second" * 1000) is None
    found = BatchPlace.parse(first)
    assert found is not None
    assert _read(segment, found) == b"first" * 1000


def test_a_result_that_is_too_long_has_no_room(segment: BatchSegment, reader: BatchSegments) -> None:
    payloads, (place, following) = _put(segment, 1, 2)
    assert _answer(reader, place, bytes(place.room + 1)) is None
    assert _answer(reader, place, bytes(place.room)) is not None
    assert _read(reader, following) == payloads[1]


def test_what_was_written_over_is_not_read(segment: BatchSegment, reader: BatchSegments) -> None:
    _, (old,) = _put(segment, 1)
    segment.free(lambda _: False)
    payloads, (new,) = _put(segment, 2)
    assert new.at == old.at
    assert _read(reader, old) is None
    assert _answer(reader, old, b"late" * 1000) is None
    assert _read(reader, new) == payloads[0]


def test_room_is_used_again_once_no_task_of_a_batch_needs_it(segment: BatchSegment) -> None:
    needed = {1, 2, 3, 4}
    _, first = _put(segment, 1, 2)
    _, second = _put(segment, 3)
    needed.discard(2)
    segment.free(needed.__contains__)
    assert segment.has(1)
    assert _put(segment, 4)[1][0].at > second[0].at
    needed.discard(1)
    segment.free(needed.__contains__)
    assert not segment.has(1)
    assert _put(segment, 5)[1][0].at == first[0].at


def test_without_room_nothing_is_placed(segment: BatchSegment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_segment, "SEGMENT_BYTES_MAX", 3 * SIZE)
    _put(segment, 1, 2)
    assert segment.put([3], [bytes(SIZE)], 0.0) is None
    monkeypatch.setattr(batch_segment, "SEGMENT_BYTES_MAX", 30 * SIZE)
    monkeypatch.setattr(batch_segment, "EXTENTS_MAX", 1)
    assert segment.put([3], [bytes(SIZE)], 0.0) is None


def test_while_a_late_result_is_written_its_room_is_not_used(segment: BatchSegment) -> None:
    _, (place,) = _put(segment, 1)
    segment.free(lambda _: False)
    # Another descriptor, as another process has: the lock is that of an open file.
    other = os.open(place.path, os.O_RDWR)
    with locked(other, place.at, STAMP_BYTES) as is_ours:
        assert is_ours
        assert segment.put([2], [bytes(SIZE)], 0.0) is None
    os.close(other)
    assert segment.put([2], [bytes(SIZE)], 0.0) is not None


def test_memory_is_given_back_when_idle(segment: BatchSegment, reader: BatchSegments) -> None:
    _, (place,) = _put(segment, 1)
    assert not segment.give_back_idle(2 * IDLE_SECONDS)
    assert segment.has_memory
    segment.free(lambda _: False)
    assert not segment.give_back_idle(IDLE_SECONDS / 2)
    assert segment.has_memory
    assert segment.give_back_idle(2 * IDLE_SECONDS)
    assert not segment.has_memory
    assert not segment.give_back_idle(3 * IDLE_SECONDS)
    assert _read(reader, place) is None
    assert _put(segment, 2)[1]


def test_what_is_no_segment_is_not_read(segment: BatchSegment, reader: BatchSegments) -> None:
    _, (place,) = _put(segment, 1)
    for wrong in (
        place._replace(pid=2**22 + 1),
        place._replace(descriptor=10**6),
        place._replace(descriptor=0),
        place._replace(stamp=bytes(STAMP_BYTES)),
        place._replace(at=2**63 - 1),
        place._replace(at=2**62),
    ):
        assert _read(reader, wrong) is None
        assert _answer(reader, wrong, b"r" * 100) is None
        assert _read(segment, wrong._replace(stamp=bytes(STAMP_BYTES))) is None
    assert BatchPlace.parse(place._replace(length=place.room + 1).pack()) is None
    assert BatchPlace.parse(place._replace(at=-1).pack()) is None
    assert BatchPlace.parse(b"P" + place.pack()[1:]) is None
    assert BatchPlace.parse(place.pack() + b"x") is None
    for form, pieces in (
        (len(Form), 1),
        (Form.PAYLOAD, 0),
        (Form.VALUE, 2),
        (Form.ITEMS, 0),
        (Form.ITEMS, ITEMS_MAX + 1),
        (Form.BUFFERS, 0),
        (Form.BUFFERS, ITEMS_MAX + 1),
    ):
        assert BatchPlace.parse(place._replace(form=form, pieces=pieces).pack()) is None


def test_a_number_that_names_another_segment_now_is_opened_again(reader: BatchSegments) -> None:
    first = BatchSegment()
    _, (old,) = _put(first, 1)
    assert _read(reader, old) is not None
    first.close()
    second = BatchSegment()
    payloads, (new,) = _put(second, 2)
    assert new.descriptor == old.descriptor
    assert _read(reader, new) == payloads[0]
    second.close()


def test_a_file_that_a_task_opened_under_the_number_stays_open(segment: BatchSegment, reader: BatchSegments) -> None:
    payloads, (place,) = _put(segment, 1)
    number = os.open("/dev/null", os.O_RDONLY)
    os.close(number)
    assert _read(reader, place) == payloads[0]
    os.close(number)
    theirs = os.open("/dev/null", os.O_RDONLY)
    assert theirs == number
    reader.close()
    assert os.fstat(number)
    assert _read(reader, place) == payloads[0]
    os.close(number)


def test_bytes_lie_as_they_are_and_their_results_too(segment: BatchSegment, reader: BatchSegments) -> None:
    value, items = b"v" * SIZE, [b"a" * SIZE, b"", b"b" * 100]
    given: list[bytes | UnpickledBytes] = [
        UnpickledBytes((value,), is_chunk=False),
        UnpickledBytes(items, is_chunk=True),
        b"P" * SIZE,
    ]
    places = segment.put([1, 2, 3], given, 0.0)
    assert places is not None
    parsed = [_parsed(place) for place in places]
    assert [place.form for place in parsed] == [Form.VALUE, Form.ITEMS, Form.PAYLOAD]
    assert [reader.read(place) for place in parsed] == [[value], items, [b"P" * SIZE]]
    assert segment.read(_parsed(reader.answer(parsed[0], Form.VALUE, [value]))) == [value]
    assert segment.read(_parsed(reader.answer(parsed[1], Form.ITEMS, items[::-1]))) == items[::-1]
    # The result may be of another form than the payload was.
    assert segment.read(_parsed(reader.answer(parsed[2], Form.ITEMS, [b"c" * 100]))) == [b"c" * 100]
    assert [reader.read(place) for place in parsed] == [None, None, None]


def test_buffers_lie_beside_their_pickle_and_may_be_changed(segment: BatchSegment, reader: BatchSegments) -> None:
    buffers = [b"Ppickle", b"a" * SIZE, b"", b"b" * 100]
    places = segment.put([1, 2], [BufferedPickle(buffers), BufferedPickle([b"Palone"])], 0.0)
    assert places is not None
    place, alone = map(_parsed, places)
    assert (place.form, place.pieces, alone.form) == (Form.BUFFERS, 4, Form.BUFFERS)
    content = reader.read(place)
    assert content == buffers
    assert reader.read(alone) == [b"Palone"]
    assert content is not None
    assert all(type(one) is bytearray for one in content)
    result: list[Piece] = [b"Pother", memoryview(b"c" * SIZE), bytearray(b"d" * 90)]
    answer = _parsed(reader.answer(place, Form.BUFFERS, result))
    assert segment.read(answer) == [b"Pother", b"c" * SIZE, b"d" * 90]
    assert reader.read(place) is None


@pytest.mark.parametrize(
    "given",
    [
        UnpickledBytes([b"a" * SIZE, b"b" * SIZE], is_chunk=True),
        BufferedPickle([b"a" * SIZE, b"b" * SIZE]),
    ],
    ids=["items", "buffers"],
)
def test_items_of_which_the_lengths_are_others_by_now_are_not_read(
    segment: BatchSegment, reader: BatchSegments, given: UnpickledBytes | BufferedPickle
) -> None:
    places = segment.put([1], [given], 0.0)
    assert places is not None
    place = _parsed(places[0])
    writer = os.open(place.path, os.O_RDWR)
    for head in (bytes(8), b"\xff" * 8, (2 * SIZE).to_bytes(4, "little") + (1).to_bytes(4, "little")):
        os.pwrite(writer, head, place.at + STAMP_BYTES)
        assert reader.read(place) is None
    os.pwrite(writer, (SIZE + 1).to_bytes(4, "little") + (SIZE - 1).to_bytes(4, "little"), place.at + STAMP_BYTES)
    assert reader.read(place) == [b"a" * SIZE + b"b", b"b" * (SIZE - 1)]
    os.ftruncate(writer, place.at + SIZE)
    assert reader.read(place) is None
    os.close(writer)


def test_more_pieces_than_the_system_writes_at_once(segment: BatchSegment, reader: BatchSegments) -> None:
    chunks = [[bytes([row, column]) * 40 for column in range(ITEMS_MAX)] for row in range(batch_segment.PAYLOADS_MAX)]
    assert len(chunks) * (ITEMS_MAX + 1) > 2 * batch_segment.PIECES_MAX
    places = segment.put(range(len(chunks)), [UnpickledBytes(items, is_chunk=True) for items in chunks], 0.0)
    assert places is not None
    assert [reader.read(_parsed(place)) for place in places] == chunks
