"""Payloads that are made only where they travel inside messages: elsewhere, what they are made of is copied once less."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.payloads.by_value import PROTOCOL
from scaler_protocol.payloads.framing import PICKLED, frame_buffers

UNPICKLED_BYTES_MIN = 24 * 1024
"""Smaller ones are pickled at once: they travel inside messages."""

_PICKLE_BYTES = 32
_ITEM_BYTES = 16
"""What pickling adds, or somewhat more."""


class UnpickledBytes:
    """The `bytes` that are the only argument of a call, or the items of a map chunk without `star`. Immutable by convention.

    Whoever keeps it has no copy of them. `bytes` of it is the payload as `framing` describes it, and `len` about its length.
    """

    __slots__ = ("_length", "is_chunk", "values")

    def __init__(self, values: Sequence[bytes], *, is_chunk: bool) -> None:
        self.values = values
        self.is_chunk = is_chunk
        self._length = sum(map(len, values)) + _ITEM_BYTES * len(values) + _PICKLE_BYTES

    def __len__(self) -> int:
        return self._length

    def as_call(self) -> tuple[Sequence[bytes], dict[str, object]]:
        """Return (args, kwargs) of the call. Raises MalformedMessageError for a chunk."""
        if self.is_chunk:
            raise MalformedMessageError("the items of a map chunk are no arguments of a call")
        return self.values, {}

    def as_chunk(self) -> tuple[bool, Sequence[bytes]]:
        """Return (star, items) of the chunk. Raises MalformedMessageError for a call."""
        if not self.is_chunk:
            raise MalformedMessageError("the arguments of a call are no map chunk")
        return False, self.values

    def as_result(self) -> bytes:
        """Return the result payload for these as the value of a task or the outcome of a map chunk."""
        return PICKLED + pickle.dumps((list(self.values), {}) if self.is_chunk else self.values[0], PROTOCOL)

    def __bytes__(self) -> bytes:
        content = (False, list(self.values)) if self.is_chunk else (tuple(self.values), {})
        return PICKLED + pickle.dumps(content, PROTOCOL)


class PayloadParts:
    """A payload in parts that are not joined yet. Immutable by convention; `bytes` of it is the payload."""

    __slots__ = ("_length", "parts")

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


class BufferedPickle:
    """A payload that is a pickle with its out-of-band buffers. Immutable by convention; `bytes` of it is the payload.

    The first of `buffers` is PICKLED + pickle, as in an object.
    """

    __slots__ = ("_length", "buffers")

    def __init__(self, buffers: Sequence[bytes | bytearray]) -> None:
        self.buffers = buffers
        self._length = sum(map(len, buffers)) + _ITEM_BYTES * len(buffers)

    def __len__(self) -> int:
        return self._length

    def as_result(self) -> bytes:
        """Return the result payload for these as the value of a task."""
        return bytes(self)

    def __bytes__(self) -> bytes:
        return frame_buffers(self.buffers)


ReadPayload = bytes | UnpickledBytes | BufferedPickle
"""A payload as it is read from where it lies."""

LatePayload = ReadPayload | PayloadParts
"""A payload, or what it is made of."""
