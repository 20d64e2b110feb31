"""Batches of one row: the short way says what the general one says, and leaves to it whatever it does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, decode_with_library, encode, encode_with_library
from scaler_protocol.wire.columns import Packed

ids = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 2**64 - 1)
attempts = st.integers(0, 2**16 - 1)
payloads = st.binary(min_size=1, max_size=300)


@given(ids, numbers, ids, payloads, st.one_of(st.none(), attempts), st.integers(0, 255), st.integers(0, 7))
def test_a_task_is_written_as_the_library_writes_it(
    client: bytes, number: int, function: bytes, payload: bytes, attempt: int | None, depth: int, flags: int
) -> None:
    batch = m.TaskBatch(client, [number], (function,), Packed.of([payload]), depth=depth, flags=flags)
    if attempt is not None:
        batch.attempts = [attempt]
    frames = encode(batch)
    assert frames == encode_with_library(batch)
    same(decode(frames), decode_with_library(frames))


@given(ids, numbers, attempts, payloads, numbers, attempts, st.integers(0, 2**32 - 1))
def test_a_result_is_written_as_the_library_writes_it(
    client: bytes, number: int, attempt: int, payload: bytes, duration: int, slot: int, capacity: int
) -> None:
    batch = m.ResultBatch(
        client, [number], [attempt], Packed.of([payload]), durations=[duration], slots=[slot], capacity=capacity
    )
    frames = encode(batch)
    assert frames == encode_with_library(batch)
    same(decode(frames), decode_with_library(frames))


TASK = m.TaskBatch(b"c" * 16, [7], (b"f" * 16,), Packed.of([b"payload"]), attempts=[1])
RESULT = m.ResultBatch(b"c" * 16, [7], [1], Packed.of([b"payload"]), durations=[5], slots=[0], capacity=3)


@pytest.mark.parametrize(
    "message",
    [
        replace(TASK, payloads=Packed.of([b""])),
        replace(TASK, capabilities=(("gpu", -1),)),
        replace(TASK, serializer=b"s" * 16),
        replace(TASK, object_positions=[0], objects=(b"o" * 16,)),
        replace(TASK, input_positions=[0], inputs=Packed.of([b"input"])),
        replace(TASK, numbers=[7, 8], attempts=[1, 1], payloads=Packed.of([b"a", b"b"])),
        replace(TASK, functions=(b"f" * 16, b"g" * 16), function_indexes=[1]),
        replace(RESULT, payloads=Packed.of([b""])),
        replace(RESULT, statuses=[1]),
        replace(RESULT, cpu_times=[9], memory_peaks=[10]),
        replace(RESULT, durations=()),
        replace(RESULT, object_positions=[0], objects=(b"o" * 16,)),
        replace(
            RESULT, numbers=[7, 8], attempts=[1, 1], durations=[5, 6], slots=[0, 1], payloads=Packed.of([b"a", b"b"])
        ),
    ],
)
def test_every_other_form_takes_the_general_way(message: Any) -> None:
    frames = encode(message)
    assert frames[0] == encode_with_library(message)[0]
    same(decode(frames), message)


@pytest.mark.parametrize("message", [TASK, RESULT])
def test_a_payload_of_another_length_is_refused(message: Any) -> None:
    header, payload = encode(message)
    for wrong in ([header], [header, payload[:-1]], [header, payload, payload]):
        with pytest.raises(MalformedMessageError):
            decode(wrong)


@pytest.mark.parametrize("message", [TASK, RESULT])
def test_a_header_that_is_changed_anywhere_is_read_as_the_library_reads_it(message: Any) -> None:
    header, payload = encode(message)
    header = bytes(header)
    for position in range(len(header)):
        changed = [header[:position] + bytes([header[position] ^ 1]) + header[position + 1 :], payload]
        try:
            expected = decode_with_library(changed)
        except MalformedMessageError:
            with pytest.raises(MalformedMessageError):
                decode(changed)
        else:
            same(decode(changed), expected)


def same(one: Any, other: Any) -> None:
    """Compare messages whose columns may be of different types."""
    assert type(one) is type(other)
    for name in type(one).__dataclass_fields__:
        if name == "frames":
            continue
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, Packed | bytes | int | str):
            assert left == right, name
        else:
            assert list(left) == list(right), name
