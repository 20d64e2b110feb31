"""The streams of the monitor socket: which envelope stands in front of what, and so what a monitor subscribes to.

See "Monitor streams" in the schema. A topic is an encoded envelope; whoever subscribes to it gets the messages behind it.
"""

from __future__ import annotations

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope

_FIGURES, _EVENTS, _DUMP = range(3)

FIGURES = encode_envelope(Envelope(0, 0, 0, _FIGURES))
"""Snapshots, failures and log lines."""

EVENTS = encode_envelope(Envelope(0, 0, 0, _EVENTS))
"""What happens to single tasks."""


def dump_topic(task_number: int = 0) -> bytes:
    """Return the topic of the scheduler's tables, with the story of the tasks of this number (0: of none)."""
    return encode_envelope(Envelope(task_number, 0, 0, _DUMP))


def dumped_task(topic: bytes) -> int | None:
    """Return the task number of a dump's topic; None for any other topic."""
    try:
        envelope = decode_envelope(topic)
    except MalformedMessageError:
        return None
    return envelope.sequence if envelope == (envelope.sequence, 0, 0, _DUMP) else None
