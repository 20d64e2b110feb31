"""Messages of object storage that leave together: the same messages, in the same order, in fewer frames."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import BATCH_ROWS_MAX, decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.object_batches import PUTS_MAX, SMALL_BYTES_MAX, joined, rows_of

NUMBERS = st.integers(1, 5)
IDS = st.sampled_from([b"a" * 16, b"b" * 16])
PLACES = st.sampled_from([b"p" * 24, b"q" * 24])
NO_BUFFERS: st.SearchStrategy[list[Any]] = st.builds(list)
MESSAGES = st.lists(
    st.one_of(
        st.builds(m.ObjectPut, NUMBERS, IDS, IDS, NO_BUFFERS, st.sampled_from(["", "name"]), PLACES),
        st.builds(m.ObjectPut, NUMBERS, IDS, IDS, st.just([b"bytes"])),
        st.builds(m.ObjectGet, NUMBERS, IDS, st.sampled_from([0.0, 2.5]), st.booleans(), st.booleans()),
        st.builds(m.ObjectData, NUMBERS, IDS, NO_BUFFERS, st.just(False), PLACES),
        st.builds(m.ObjectData, NUMBERS, IDS, st.lists(st.sampled_from([b"", b"bytes", bytes(SMALL_BYTES_MAX)]))),
        st.builds(m.ObjectData, NUMBERS, IDS, NO_BUFFERS, st.just(True)),
        st.builds(m.ObjectPutReply, NUMBERS, st.sampled_from([0, 2])),
        st.builds(m.ObjectDeleteReply, NUMBERS),
        st.builds(m.ObjectDelete, NUMBERS, IDS, st.tuples(IDS)),
        st.just(m.Goodbye("")),
    ),
    max_size=40,
)


@given(MESSAGES)
def test_the_same_messages_arrive_in_the_same_order(messages: list[m.Message]) -> None:
    arrived: list[m.Message] = []
    for sent in joined(messages):
        message = decode(encode(sent))
        arrived += rows_of(message) if isinstance(message, m.ObjectBatch) else [message]
    assert arrived == messages


def test_neighbours_of_one_kind_share_messages() -> None:
    gets: list[m.Message] = [m.ObjectGet(number, b"a" * 16) for number in range(1, 2 * BATCH_ROWS_MAX + 2)]
    assert [type(each) for each in joined(gets)] == [m.ObjectBatch, m.ObjectBatch, m.ObjectGet]
    puts: list[m.Message] = [m.ObjectPut(1, b"a" * 16, b"o" * 16, [], "", b"p" * 24) for _ in range(2 * PUTS_MAX)]
    assert [type(each) for each in joined(puts)] == [m.ObjectBatch, m.ObjectBatch]
    small: list[m.Message] = [m.ObjectData(number, b"a" * 16, [b"header", b"bytes"]) for number in range(3)]
    large = m.ObjectData(9, b"a" * 16, [bytes(SMALL_BYTES_MAX + 1)])
    placed = m.ObjectData(10, b"a" * 16, place=b"p" * 24)
    assert [type(each) for each in joined([*small, large, large])] == [m.ObjectBatch, m.ObjectData, m.ObjectData]
    assert [type(each) for each in joined([*small, placed, placed])] == [m.ObjectBatch, m.ObjectBatch]


def test_what_carries_bytes_a_name_or_a_refusal_travels_alone() -> None:
    refused = m.ObjectPutReply(1, m.ObjectStatus.STORAGE_FULL, "full")
    with_bytes = m.ObjectPut(1, b"a" * 16, b"o" * 16, [b"bytes"])
    named = m.ObjectPut(1, b"a" * 16, b"o" * 16, [], "name", b"p" * 24)
    for message in (refused, with_bytes, named, m.ObjectData(1, b"a" * 16, missing=True)):
        assert joined([message, message]) == [message, message]


@pytest.mark.parametrize(
    "batch",
    [
        m.ObjectBatch(m.BatchKind.GETS, [1, 2], (b"a" * 16,)),
        m.ObjectBatch(m.BatchKind.GETS, [1], (b"a" * 16,), places=(b"p" * 24,)),
        m.ObjectBatch(m.BatchKind.DATA, [1], (b"a" * 16,)),
        m.ObjectBatch(m.BatchKind.DATA, [1], (b"a" * 16,), buffer_counts=[2], contents=Packed.of([b"one"])),
        m.ObjectBatch(m.BatchKind.DATA, [1], (b"a" * 16,), places=(b"p" * 24,), contents=Packed.of([b"one"])),
        m.ObjectBatch(m.BatchKind.GETS, [1], (b"a" * 16,), buffer_counts=[1], contents=Packed.of([b"one"])),
        m.ObjectBatch(m.BatchKind.PUTS, [1], (b"a" * 16,), b"", (b"p" * 24,)),
        m.ObjectBatch(m.BatchKind.PUT_REPLIES, [1], (b"a" * 16,)),
        m.ObjectBatch(m.BatchKind.PUT_REPLIES, []),
        m.ObjectBatch(m.BatchKind.PUT_REPLIES, range(BATCH_ROWS_MAX + 1)),
        m.ObjectBatch(len(m.BatchKind), [1]),
    ],
    ids=[
        "too few ids",
        "a place too many",
        "no places",
        "too few buffers",
        "places and buffers",
        "buffers of gets",
        "no owner",
        "ids of replies",
        "no rows",
        "too many",
        "kind",
    ],
)
def test_what_is_no_batch_is_refused(batch: m.ObjectBatch) -> None:
    with pytest.raises(MalformedMessageError):
        decode(encode(batch))
