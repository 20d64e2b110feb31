"""The streams of the monitor socket: the envelope of each, which is the topic that monitors subscribe to.

See "Monitor streams" in the schema. A topic is an encoded envelope; a subscriber gets the messages that begin with it.
"""

from __future__ import annotations

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope

_FIGURES, _EVENTS, _DUMP = range(3)

FIGURES = encode_envelope(Envelope(0, 0, 0, _FIGURES))
"""Snapshots, failures and log lines."""

EVENTS = encode_envelope(Envelope(0, 0, 0, _EVENTS))
"""The events of single tasks."""


def dump_topic(task_number: int = 0) -> bytes:
    """Return the topic of the scheduler's tables, with the whole record of the tasks of this number (0: of none)."""
    return encode_envelope(Envelope(task_number, 0, 0, _DUMP))


def dumped_task(topic: bytes) -> int | None:
    """Return the task number of a dump's topic; None for any other topic."""
    try:
        envelope = decode_envelope(topic)
    except MalformedMessageError:
        return None
    return envelope.sequence if envelope == (envelope.sequence, 0, 0, _DUMP) else None
