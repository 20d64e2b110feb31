"""The envelope in front of every message: session bookkeeping, 48 bytes.

It is the Cap'n Proto struct `Envelope` of the schema, whose layout is fixed, written by hand because it is written for
every message: a golden test compares it with what the library writes.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.runtime.values import new_tuple

SEQUENCED = 1
"""Flag: the message is itself numbered."""

RESEND = 2
"""Flag: please send everything after `acknowledged` again."""

Frame = bytes | bytearray | memoryview

HEADER_BYTES_MAX = 32 * 1024 * 1024
"""Largest header frame of a message that is no graph: reading it, or doing what a million rows say, takes about a second."""

GRAPH_HEADER_BYTES_MAX = 256 * 1024 * 1024
"""Largest header frame of a graph, which is one message. Columns of a million rows fit several times over."""

OBJECT_BYTES_MAX = 16 * 1024**3
"""The largest object in storage, and so the largest value of a task."""

MESSAGE_BYTES_MAX = OBJECT_BYTES_MAX + 1024**2
"""Largest sum of all frames of one message, and so the largest single frame: an object with envelope and header."""

FRAMES_MAX = 1024
"""Most frames of one message: envelope, header, and an object's buffers."""


def raw_view(buffer: Any) -> Frame:
    """Return the bytes of anything with the buffer protocol, one-dimensional and without copying.

    Raises ValueError where they do not lie in one piece in C order (`pickle.PickleBuffer.raw()` helps with Fortran order).
    """
    if isinstance(buffer, bytes | bytearray):
        return buffer
    view = memoryview(buffer)
    if not view.nbytes:
        # Shapes with a zero in them cannot be cast.
        return b""
    if not view.c_contiguous:
        raise ValueError(f"a buffer of shape {view.shape} and strides {view.strides} is not in one piece")
    return view.cast("B")


# One segment of five words, a struct pointer (four data words, no pointers), the four fields.
_ENVELOPE = struct.Struct("<IIQQQQQ")
_WORDS = 5
_POINTER = 4 << 32


class Envelope(NamedTuple):
    """What the sender has sent and received in its session. See `session.sequencing`."""

    sequence: int
    acknowledged: int
    flags: int
    epoch: int = 0


UNSEQUENCED = Envelope(0, 0, 0, 0)
"""For traffic outside sessions (object storage, monitors)."""


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the 48 bytes of an envelope."""
    return _ENVELOPE.pack(0, _WORDS, _POINTER, *envelope)


def decode_envelope(frame: Frame) -> Envelope:
    """Return the envelope in `frame`. Raises MalformedMessageError."""
    try:
        segments, words, pointer, sequence, acknowledged, flags, epoch = _ENVELOPE.unpack(frame)
    except struct.error:
        raise MalformedMessageError(f"an envelope has {_ENVELOPE.size} bytes, not {len(frame)}") from None
    if segments or words != _WORDS or pointer != _POINTER:
        raise MalformedMessageError("not an envelope")
    # Not by the class's constructor, which is slower: this happens for every message.
    return new_tuple(Envelope, (sequence, acknowledged, flags, epoch))
