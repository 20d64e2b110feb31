"""Payload framing: what clients and processors put into the bytes nobody else looks at."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.ids import ObjectId
from scaler_protocol.payloads.framing import (
    Argument,
    Source,
    frame_arguments,
    frame_buffers,
    frame_object,
    frame_payloads,
    unframe_arguments,
    unframe_buffers,
    unframe_object,
    unframe_payloads,
)

ARGUMENTS = st.builds(Argument, st.sampled_from(Source), st.binary(max_size=20))


@given(st.lists(ARGUMENTS, max_size=5), st.dictionaries(st.text(max_size=10), ARGUMENTS, max_size=5))
def test_arguments_come_back_in_their_order(positional: list[Argument], keyword: dict[str, Argument]) -> None:
    framed = frame_arguments(positional, keyword)
    again_positional, again_keyword = unframe_arguments(framed)
    assert again_positional == positional
    assert list(again_keyword.items()) == list(keyword.items())


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.integers(1, 100))
def test_buffers_come_back_in_their_order_and_may_be_changed(buffers: list[bytes], cut: int) -> None:
    framed = frame_buffers(buffers)
    again = unframe_buffers(framed)
    assert again == buffers
    assert not any(buffer.readonly for buffer in again)
    for wrong in (framed + b"x", framed[:-cut], b"B" + bytes(4)):
        with pytest.raises(MalformedMessageError):
            unframe_buffers(wrong)


@given(st.lists(ARGUMENTS, max_size=3), st.dictionaries(st.text(max_size=5), ARGUMENTS, max_size=3), st.data())
def test_damaged_arguments_are_malformed_or_other_arguments(
    positional: list[Argument], keyword: dict[str, Argument], data: st.DataObject
) -> None:
    framed = bytearray(frame_arguments(positional, keyword))
    framed[data.draw(st.integers(0, len(framed) - 1))] = data.draw(st.integers(0, 255))
    del framed[data.draw(st.integers(1, len(framed))) :]
    with contextlib.suppress(MalformedMessageError):
        unframe_arguments(bytes(framed))


def test_any_number_of_arguments_and_any_name_python_takes() -> None:
    positional = [Argument(Source.VALUE, b"")] * 70_000
    keyword = dict.fromkeys(
        ["n" * 70_000, "a\udcff", "", "a\0b", *map(str, range(70_000))], Argument(Source.OBJECT, b"o")
    )
    again_positional, again_keyword = unframe_arguments(frame_arguments(positional, keyword))
    assert again_positional == positional
    assert list(again_keyword.items()) == list(keyword.items())


@given(st.lists(st.binary(max_size=20)))
def test_payloads_of_a_map_chunk_come_back(items: list[bytes]) -> None:
    assert [bytes(item) for item in unframe_payloads(frame_payloads(items))] == items


@given(st.lists(st.binary(max_size=20), max_size=4), st.data())
def test_damaged_payload_lists_are_malformed_or_other_lists(items: list[bytes], data: st.DataObject) -> None:
    framed = bytearray(frame_payloads(items))
    framed[data.draw(st.integers(0, len(framed) - 1))] = data.draw(st.integers(0, 255))
    del framed[data.draw(st.integers(1, len(framed))) :]
    with contextlib.suppress(MalformedMessageError):
        unframe_payloads(bytes(framed))


@pytest.mark.parametrize("payload", [b"L", b"L\xff\xff\xff\xff", b"L\xff\xff\xff\x7fxxxx", b"A", b"A\xff\xff\xff\xff"])
def test_counts_that_lie_cost_nothing(payload: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        (unframe_payloads if payload[:1] == b"L" else unframe_arguments)(payload)


def test_an_object_reference_is_a_tag_and_an_id() -> None:
    object_id = ObjectId(bytes(range(16)))
    assert unframe_object(frame_object(object_id)) == object_id
    assert unframe_object(b"Pickled") is None
    assert unframe_object(b"") is None
    with pytest.raises(MalformedMessageError, match="17 bytes, not 16"):
        unframe_object(b"O" + bytes(15))
