"""Whatever bytes come in: a message, or one of two named errors. Never another exception, never without bound."""

from __future__ import annotations

import struct
import time
import tracemalloc
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import FRAMES_MAX, decode_envelope

SECONDS_MAX = 2.0
"""Of this thread: how long others keep the processor says nothing of what is decoded."""


def survives(frames: list[Any]) -> m.Message | None:
    """Decode; return the message, or None where it was refused in the proper way."""
    started = time.thread_time()
    try:
        return decode(frames)
    except (MalformedMessageError, MessageTooLargeError):
        return None
    finally:
        assert time.thread_time() - started < SECONDS_MAX


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_random_bytes(frames: list[bytes]) -> None:
    survives(frames)


@given(st.binary(max_size=200))
def test_random_words_behind_a_proper_segment_table(body: bytes) -> None:
    body += bytes(-len(body) % 8)
    survives([struct.pack("<II", 0, len(body) // 8) + body])


@given(st.binary(max_size=100))
def test_random_envelopes(frame: bytes) -> None:
    try:
        decode_envelope(frame)
    except MalformedMessageError:
        return
    assert len(frame) == 48


# The largest of them has so many bits that it takes half a minute on a busy machine.
@pytest.mark.timeout(300)
def test_flipped_bits(example_name: str, examples: Any) -> None:
    _, *frames = examples.read_frames(example_name)
    header = frames[0]
    for bit in range(8 * len(header)):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        survives([bytes(flipped), *frames[1:]])


def test_scrambled_bytes(example_name: str, examples: Any) -> None:
    chance = Random(example_name)
    _, *frames = examples.read_frames(example_name)
    for _ in range(300):
        scrambled = bytearray(frames[0])
        for _ in range(chance.randint(1, 8)):
            scrambled[chance.randrange(len(scrambled))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        survives([bytes(scrambled), *frames[1:]])


def test_truncated_headers(example_name: str, examples: Any) -> None:
    _, *frames = examples.read_frames(example_name)
    for length in range(len(frames[0])):
        assert survives([frames[0][:length], *frames[1:]]) is None


def test_headers_with_something_behind_them(example_name: str, examples: Any) -> None:
    _, *frames = examples.read_frames(example_name)
    survives([frames[0] + b"more", *frames[1:]])
    survives([frames[0] + bytes(8), *frames[1:]])


def test_payload_frames_that_lack_are_cut_or_are_too_many(example_name: str, examples: Any) -> None:
    _, *frames = examples.read_frames(example_name)
    kinds_with_lengths = m.TaskBatch | m.ResultBatch | m.FunctionDefine | m.GraphSubmit | m.ObjectPut | m.ObjectData
    for position in range(1, len(frames)):
        lacking = frames[:position] + frames[position + 1 :]
        cut = [*frames[:position], frames[position][:-1], *frames[position + 1 :]]
        for damaged in (lacking, cut, [*frames, b"surplus"]):
            survived = survives(damaged)
            # An empty frame cannot be cut.
            assert damaged == frames or not isinstance(survived, kinds_with_lengths)


def _with_lying_columns() -> list[m.Message]:
    client, function = bytes(16), bytes(16)
    payloads, nothing = Packed.of([b"x", b"y"]), Packed.of([b""])
    two, three = [1, 2], [1, 2, 3]
    return [
        m.TaskBatch(client, three, (function,), payloads),
        m.TaskBatch(client, two, (), payloads),
        m.TaskBatch(client[:-1], two, (function,), payloads),
        m.TaskBatch(client, two, (function,), payloads, attempts=three),
        m.TaskBatch(client, two, (function,), payloads, function_indexes=[0, 1]),
        m.TaskBatch(client, two, (function,), payloads, function_indexes=[0]),
        m.TaskBatch(client, two, (function,), payloads, object_positions=[2], objects=(client,)),
        m.TaskBatch(client, two, (function,), payloads, object_positions=[1, 0], objects=(client, client)),
        m.TaskBatch(client, two, (function,), payloads, object_positions=[0], objects=()),
        m.TaskBatch(client, two, (function,), payloads, input_positions=[0], inputs=payloads),
        m.TaskBatch(client, two, (function,), Packed([1, 2**32 - 1], b"xy")),
        m.TaskBatch(client, two, (function,), payloads, input_positions=[0], inputs=Packed([5], b"xy")),
        m.TaskBatch(client, two, (function,), payloads, chain_ends=[1]),
        m.TaskBatch(client, two, (function,), payloads, chain_ends=[3]),
        m.TaskBatch(client, two, (function,), payloads, chain_ends=[0, 2]),
        m.TaskBatch(client, two, (function,), payloads, chain_ends=[2, 1, 2]),
        m.TaskBatch(client, two, (function,), payloads, input_positions=[1], inputs=nothing, input_sources=[1]),
        m.TaskBatch(client, two, (function,), payloads, input_sources=[1], chain_ends=[2]),
        *(
            m.TaskBatch(
                client,
                two,
                (function,),
                payloads,
                input_positions=[1],
                inputs=given,
                input_sources=[source],
                chain_ends=ends,
            )
            for given, source, ends in (
                (nothing, 2, [2]),
                (nothing, 1, [1, 2]),
                (Packed.of([b"x"]), 1, [2]),
            )
        ),
        m.ResultBatch(client, two, three, payloads),
        m.ResultBatch(client, two, (), payloads),
        m.ResultBatch(client, two, two, payloads, statuses=[0]),
        m.ResultBatch(client, two, two, payloads, durations=three),
        m.ResultBatch(client, two, two, payloads, slots=three),
        m.ResultBatch(client, two, two, Packed([1], b"x")),
        m.ResultBatch(b"", two, two, payloads),
        m.FunctionDefine(client, (function,), payloads),
        m.GraphSubmit(client, 0, (function,), payloads, two, (), ()),
        m.GraphSubmit(client, 0, (function,), payloads, [0, 1], [2], ()),
        m.GraphSubmit(client, 0, (function,), payloads, [0, 0], (), [2]),
        m.GraphSubmit(client, 0, (), payloads, [0, 0], (), ()),
        m.Inventory(client, two, three, two),
        m.TaskCancel(client, two, three),
        m.ClientGone(b"short"),
        m.ObjectGet(1, b"short"),
        m.ObjectPut(1, client, b"short", []),
        m.Hello(m.Role.CLIENT, "", b"short"),
        m.MonitorEvents(1, [1.0], [0], (client,), [1], [0], [7], ("w",), [0], ("f",), [0]),
        m.MonitorEvents(1, [1.0], [1], (client,), [1], [0], [0], ("w",), [0], ("f",), [0]),
    ]


@pytest.mark.parametrize("message", _with_lying_columns(), ids=lambda message: type(message).__name__)
def test_columns_that_contradict_each_other(message: m.Message) -> None:
    with pytest.raises(MalformedMessageError):
        decode(encode(message))


def test_limits() -> None:
    header = encode(m.Drain())[0]
    with pytest.raises(MalformedMessageError, match="without frames"):
        decode([])
    with pytest.raises(MessageTooLargeError, match="frames in one message"):
        decode([header] * (FRAMES_MAX + 1))


def test_a_header_over_the_limit_is_refused_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler_protocol.wire.codec.GRAPH_HEADER_BYTES_MAX", 1000)
    with pytest.raises(MessageTooLargeError, match="header of 1001 bytes"):
        decode([bytes(1001)])
    monkeypatch.setattr("scaler_protocol.wire.codec.MESSAGE_BYTES_MAX", 3000)
    header = encode(m.Drain())[0]
    with pytest.raises(MessageTooLargeError, match="message over 3000 bytes"):
        decode([header, bytes(2000), bytes(2000)])


@pytest.mark.parametrize(
    "message",
    [
        m.TaskCancel(bytes(16), range(200)),
        m.ObjectDelete(1, bytes(16), (bytes(16),) * 100),
        m.TaskBatch(bytes(16), range(200), (bytes(16),), Packed.of([b""] * 200)),
    ],
)
def test_only_graphs_have_very_large_headers(message: m.Message, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = encode(message)
    monkeypatch.setattr("scaler_protocol.wire.codec.HEADER_BYTES_MAX", 1000)
    with pytest.raises(MessageTooLargeError, match="at most 1000"):
        decode(frames)
    graph = m.GraphSubmit(bytes(16), 0, (bytes(16),), Packed.of([b""] * 200), [0] * 200, (), ())
    assert isinstance(decode(encode(graph)), m.GraphSubmit)


def test_long_lists_are_refused_before_their_elements_are_read() -> None:
    hello = m.Hello(m.Role.CLIENT, "me", bytes(16), capabilities=tuple((f"c{n}", n) for n in range(10_001)))
    with pytest.raises(MalformedMessageError, match="a list of 10001 elements; at most 10000"):
        decode(encode(hello))
    hello = m.Hello(m.Role.AGENT, "me", bytes(16), worker_names=("",) * 200_001)
    with pytest.raises(MalformedMessageError, match="a list of 200001 elements; at most 200000"):
        decode(encode(hello))


def test_lists_that_claim_to_be_huge_cost_nothing() -> None:
    """A list of 2²⁹ elements of no size takes eight bytes; whoever walks it takes minutes."""
    base = encode(m.GraphSubmit(bytes(16), 0, (bytes(16),), Packed.of([b""]), [0], (), (), capabilities=(("a", 1),)))
    header = bytes(base[0])
    chance = Random(1)
    for at in range(8, len(header), 8):
        for count in (2**29 - 1, 2**20, 255):
            for size in range(8):
                pointer = struct.pack("<II", (chance.randrange(3) << 2) | 1, (count << 3) | size)
                survives([header[:at] + pointer + header[at + 8 :], *base[1:]])


def test_decoding_a_small_message_takes_little_memory(example_name: str, examples: Any) -> None:
    _, *frames = examples.read_frames(example_name)
    chance = Random(example_name)
    tracemalloc.start()
    try:
        for _ in range(100):
            scrambled = bytearray(frames[0])
            for _ in range(4):
                scrambled[chance.randrange(len(scrambled))] = chance.randrange(256)
            survives([bytes(scrambled), *frames[1:]])
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e300])
def test_monitors_get_no_times_that_they_cannot_show(seconds: float) -> None:
    for message in (
        m.MonitorLog(b"i" * 16, 1, [seconds], [20], ("text",)),
        m.MonitorSnapshot(1, seconds, b"i" * 16),
        m.MonitorDump(seconds, "{}"),
        m.MonitorOutput(seconds, 1, b"i" * 16, (), Packed.of([])),
        m.MonitorGraph(seconds, b"i" * 16, b"c" * 16, 1, 1, [0], [0], [0], [], ("one",)),
        # What monitors get of agents comes from these.
        m.Heartbeat(latency_seconds=seconds),
        m.Heartbeat(cpu_percent=seconds),
        m.Heartbeat(sent_at_seconds=seconds),
        m.Heartbeat(echo_seconds=seconds),
    ):
        with pytest.raises(MalformedMessageError, match="is not a figure"):
            decode(encode(message))


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_nobody_waits_for_a_time_that_is_none(seconds: float) -> None:
    for message in (
        m.Hello(m.Role.CLIENT, "client", b"i" * 16, timeout_seconds=seconds),
        m.Welcome(b"i" * 16, heartbeat_seconds=seconds),
        m.Welcome(b"i" * 16, timeout_seconds=seconds),
        m.ObjectGet(1, b"i" * 16, wait_seconds=seconds),
    ):
        with pytest.raises(MalformedMessageError, match="is not a time to wait"):
            decode(encode(message))
