"""The wire protocol is what the golden files say, byte for byte."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from importlib.resources import files
from typing import Any, get_args

import capnp
import pytest

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope


def test_every_message_kind_has_an_example(examples: Any) -> None:
    assert {type(example) for example in examples.EXAMPLES.values()} == set(get_args(m.Message))


def test_every_file_belongs_to_an_example(examples: Any) -> None:
    assert {path.stem for path in examples.FOLDER.glob("*.bin")} == set(examples.EXAMPLES)


def test_encoding_gives_the_golden_bytes(example_name: str, examples: Any) -> None:
    _, *frames = examples.read_frames(example_name)
    assert [bytes(frame) for frame in encode(examples.EXAMPLES[example_name])] == frames


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
def test_decoding_golden_bytes_gives_the_example(
    example_name: str, examples: Any, view: Any, canonical: Callable[[Any], Any]
) -> None:
    _, *frames = examples.read_frames(example_name)
    decoded = decode([view(frame) for frame in frames])
    assert canonical(decoded) == canonical(examples.EXAMPLES[example_name])


def test_no_way_of_a_message_leaves_work_for_the_collector(example_name: str, examples: Any) -> None:
    """Services let the collector look seldom, see `service.event_loop`: what refers to itself would pile up until then."""
    _, *frames = examples.read_frames(example_name)
    # What finalizers of earlier tests' objects leave is found by the next look only.
    any(not gc.collect() for _ in range(10))
    gc.disable()
    try:
        encode(examples.EXAMPLES[example_name])
        decode(frames)
        unreachable = gc.collect()
    finally:
        gc.enable()
    assert unreachable == 0


def test_examples_leave_no_field_at_its_default(examples: Any) -> None:
    """Whatever a field's place on the wire, some example shows it."""
    shown: dict[type[Any], set[str]] = {}
    for example in examples.EXAMPLES.values():
        for field in dataclasses.fields(example):
            value = getattr(example, field.name)
            if value or not isinstance(value, int | float | str | bytes | tuple):
                shown.setdefault(type(example), set()).add(field.name)
    for kind, names in shown.items():
        assert names >= {field.name for field in dataclasses.fields(kind)} - {"frames"}, kind.__name__


def test_the_envelope_is_a_capnp_message(examples: Any) -> None:
    # The file the codec loaded: the library ends the process when it meets one schema in two places.
    schema = capnp.load(str(files("scaler_protocol.wire") / "schema" / "scaler.capnp"))
    for envelope in (Envelope(0, 0, 0, 0), examples.ENVELOPE, Envelope(2**64 - 1, 2**64 - 2, 2**64 - 3, 2**64 - 4)):
        message = schema.Envelope.new_message(**envelope._asdict())
        raw = message.to_bytes()
        assert encode_envelope(envelope) == raw
        assert decode_envelope(raw) == envelope


def test_every_example_lies_in_its_envelope(example_name: str, examples: Any) -> None:
    assert decode_envelope(examples.read_frames(example_name)[0]) == examples.ENVELOPE
