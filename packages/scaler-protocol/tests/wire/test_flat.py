"""The headers written and read by hand are the library's, in both directions."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from importlib.resources import files
from random import Random
from typing import Any

import capnp
import pytest

from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError, UnencodableMessageError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, decode_with_library, encode, encode_with_library
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import FRAMES_MAX, HEADER_BYTES_MAX

CLIENT, FUNCTION, OBJECT = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))
# The file the codec loaded: the library ends the process when it meets one schema in two places.
SCHEMA = capnp.load(str(files("scaler_protocol.wire") / "schema" / "scaler.capnp"))


def random_batch(chance: Random, rows_max: int = 40) -> m.TaskBatch | m.ResultBatch:
    rows = chance.randint(0, rows_max)

    def column(typecode: str, limit: int, *, optional: bool = True) -> Sequence[int]:
        if optional and chance.random() < 0.5:
            return ()
        values = [chance.randrange(limit) for _ in range(rows)]
        return chance.choice([values, tuple(values), array(typecode, values)])

    payloads = Packed.of([chance.randbytes(chance.randrange(20)) for _ in range(rows)])
    positions = sorted(chance.randrange(rows) for _ in range(chance.randrange(4))) if rows else []
    objects = tuple(chance.randbytes(16) for _ in positions)
    if chance.random() < 0.5:
        return m.ResultBatch(
            client=CLIENT,
            numbers=column("Q", 2**64, optional=False),
            attempts=column("H", 2**16, optional=False),
            payloads=payloads,
            statuses=column("B", 10),
            durations=column("I", 2**32),
            read_times=column("Q", 2**64),
            write_times=column("Q", 2**64),
            cpu_times=column("I", 2**32),
            memory_peaks=column("Q", 2**64),
            object_positions=positions,
            objects=objects,
            capacity=chance.choice([0, 1, 2**32 - 1]),
            slots=column("H", 2**16),
        )
    return m.TaskBatch(
        client=CLIENT,
        numbers=column("Q", 2**64, optional=False),
        functions=(FUNCTION, OBJECT),
        payloads=payloads,
        attempts=column("H", 2**16),
        function_indexes=column("H", 2),
        depth=chance.choice([0, 1, 2**16 - 1]),
        kind=chance.choice(list(m.TaskKind)),
        flags=chance.randrange(256),
        capabilities=chance.choice([(), (), (("gpu", -1),)]),
        serializer=chance.choice([b"", FUNCTION]),
        object_positions=positions,
        objects=objects,
        input_positions=positions,
        inputs=Packed.of([chance.randbytes(3) for _ in positions]),
        chain_ends=sorted({*(chance.randint(1, rows) for _ in range(chance.randrange(3))), rows}) if rows else (),
    )


@pytest.mark.parametrize("seed", range(200))
def test_the_bytes_are_those_of_the_library(seed: int) -> None:
    batch = random_batch(Random(seed))
    assert encode(batch) == encode_with_library(batch)


@pytest.mark.parametrize("seed", range(200))
def test_the_meaning_is_that_of_the_library(seed: int, canonical: Callable[[Any], Any]) -> None:
    # Over 1,000 words the library uses several segments, which are for it to read.
    batch = random_batch(Random(seed), rows_max=3000)
    for frames in (encode(batch), encode_with_library(batch)):
        assert canonical(decode(frames)) == canonical(decode_with_library(frames)) == canonical(batch)


def outcome(decoder: Callable[[Any], m.Message], frames: Any, canonical: Callable[[Any], Any]) -> Any:
    try:
        return canonical(decoder(frames))
    except MalformedMessageError:
        return "malformed"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_relayed_messages_are_written_and_read_as_the_library_does_it(count: int) -> None:
    relay = m.Relay(CLIENT, [bytes([position]) * 9 for position in range(count)])
    frames = encode(relay)
    assert frames == encode_with_library(relay)
    assert decode(frames) == decode_with_library(frames) == relay


@pytest.mark.parametrize(
    "message",
    [
        m.Heartbeat(),
        m.Heartbeat(sent_at_seconds=12.5, echo_seconds=0.25, latency_seconds=1e-3),
        m.Heartbeat(
            capacity=5,
            cpu_percent=3.5,
            rss_bytes=2**40,
            rss_free_bytes=2**41,
            queued=2**32 - 1,
            processor_pids=[1, 2, 3],
            processor_cpu_percents=array("H", [0, 10, 2**16 - 1]),
            processor_rss_bytes=(1, 2, 2**63),
            processor_states=list(m.ProcessorState)[:3],
            processor_tasks=[0, 7, 2**64 - 1],
            processor_functions=(bytes(16), FUNCTION, OBJECT),
            processor_milliseconds=[0, 1, 2**32 - 1],
        ),
        m.TaskReturn(CLIENT, [1, 2**64 - 1], [1, 2**16 - 1]),
        m.TaskReturn(CLIENT, []),
        m.TaskCancel(CLIENT, array("Q", [5])),
    ],
    ids=lambda message: type(message).__name__,
)
def test_other_messages_of_numbers_and_columns_are_as_the_library_has_them(
    message: m.Message, canonical: Callable[[Any], Any]
) -> None:
    frames = encode(message)
    assert frames == encode_with_library(message)
    assert canonical(decode(frames)) == canonical(decode_with_library(frames)) == canonical(message)


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_heartbeat_with_what_is_no_figure_is_refused(figure: float) -> None:
    for frames in (
        encode(m.Heartbeat(latency_seconds=figure)),
        encode_with_library(m.Heartbeat(latency_seconds=figure)),
    ):
        for read in (decode, decode_with_library):
            with pytest.raises(MalformedMessageError, match="is not a figure"):
                read(frames)


def test_a_heartbeat_larger_than_a_header_may_be_is_refused() -> None:
    with pytest.raises(MessageTooLargeError):
        encode(m.Heartbeat(processor_tasks=[1] * (HEADER_BYTES_MAX // 8)))


def test_a_number_that_does_not_fit_is_named() -> None:
    with pytest.raises(UnencodableMessageError, match=r"Heartbeat\.capacity"):
        encode(m.Heartbeat(capacity=2**32))


@pytest.mark.parametrize("client", [b"", CLIENT[:-1], CLIENT + b"x", CLIENT * 2])
def test_a_relayed_message_of_no_client_is_refused(client: bytes) -> None:
    frames = encode(m.Relay(client, [b"envelope"]))
    for read in (decode, decode_with_library):
        with pytest.raises(MalformedMessageError, match=r"Relay\.client is not 16 bytes"):
            read(frames)


def test_a_relayed_message_of_too_many_frames_is_refused() -> None:
    too_many = [b""] * FRAMES_MAX
    with pytest.raises(MessageTooLargeError):
        encode(m.Relay(CLIENT, too_many))
    header, *_ = encode(m.Relay(CLIENT, []))
    for read in (decode, decode_with_library):
        with pytest.raises(MessageTooLargeError):
            read([header, *too_many])


@pytest.mark.parametrize(
    "name",
    ["task-batch", "task-batch-smallest", "result-batch", "result-batch-smallest", "relay", "heartbeat", "task-return"],
)
def test_damaged_headers_are_taken_as_the_library_takes_them(
    name: str, examples: Any, canonical: Callable[[Any], Any]
) -> None:
    chance = Random(name)
    _, header, *payload = examples.read_frames(name)
    damaged = []
    for bit in range(8 * len(header)):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(flipped)
    for _ in range(2000):
        scrambled = bytearray(header)
        for _ in range(chance.randint(1, 4)):
            # Whole words too: pointers into the wild, onto each other, backwards.
            at = chance.randrange(len(header) // 8) * 8
            scrambled[at : at + 8] = chance.choice([header[8:16], bytes(8), chance.randbytes(8), header[-24:-16]])
        damaged.append(scrambled)
    for each in damaged:
        frames = [bytes(each), *payload]
        assert outcome(decode, frames, canonical) == outcome(decode_with_library, frames, canonical)


def test_a_header_of_an_older_schema_with_fewer_fields_is_read(canonical: Callable[[Any], Any]) -> None:
    """One pointer less: what a sender writes that does not know the last field yet."""
    batch = m.ResultBatch(CLIENT, [1], [1], Packed.of([b"x"]), capacity=7)
    header, payload = encode(batch)
    words = struct.unpack(f"<{len(header) // 8}Q", bytes(header))
    pointers = sum(1 for entry in SCHEMA.ResultBatch.schema.node.struct.fields if entry.slot.type.which() == "data")
    # The body pointer stands behind segment table, root pointer and the message's data words.
    at = next(position for position, word in enumerate(words) if word >> 48 == pointers)
    count = words[at] >> 48
    last_pointer = at + 1 + (words[at] >> 32 & 0xFFFF) + count - 1
    assert words[last_pointer] == 0
    older = [*words]
    older[at] -= 1 << 48
    del older[last_pointer]
    older[0] -= 1 << 32
    for position in range(at + 2, last_pointer):
        # Distances shrink by the word that went.
        older[position] -= 4 if older[position] else 0
    frames = [struct.pack(f"<{len(older)}Q", *older), payload]
    assert canonical(decode(frames)) == canonical(batch)


def test_fields_set_in_any_order_and_twice_are_read(canonical: Callable[[Any], Any]) -> None:
    message = SCHEMA.Message.new_message()
    body = message.init("taskBatch")
    body.payloadLengths = array("I", [3]).tobytes()
    body.numbers = array("Q", [8]).tobytes()
    body.numbers = array("Q", [9]).tobytes()
    body.functions = FUNCTION
    body.client = CLIENT
    expected = m.TaskBatch(CLIENT, [9], (FUNCTION,), Packed.of([b"abc"]))
    assert canonical(decode([message.to_bytes(), b"abc"])) == canonical(expected)


def test_numbers_that_do_not_fit_are_refused_by_the_sender() -> None:
    for batch in (
        m.TaskBatch(CLIENT, [1], (FUNCTION,), Packed.of([b""]), depth=2**16),
        m.TaskBatch(CLIENT, [1], (FUNCTION,), Packed.of([b""]), flags=-1),
        m.TaskBatch(CLIENT, [2**64], (FUNCTION,), Packed.of([b""])),
    ):
        with pytest.raises(UnencodableMessageError, match=r"TaskBatch\.(depth|flags|numbers) cannot be written"):
            encode(batch)
