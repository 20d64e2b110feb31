"""Comparing large buffers at the speed of memory."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.wire.envelope import Frame

_PIECE_BYTES = 128 * 1024
"""Bytes compared at a time. Two such pieces fit into a processor's cache."""


def same_bytes(one: Frame, other: Frame) -> bool:
    """Whether two buffers of bytes are equal.

    Only a bytearray compares itself with any buffer in one step. Views compare element by element. It is ten times as
    fast to copy pieces of one buffer into a bytearray and compare those.
    """
    if len(one) != len(other):
        return False
    if isinstance(one, bytearray) or (isinstance(one, bytes) and isinstance(other, bytes)):
        return _equal(one, other)
    if isinstance(other, bytearray):
        return _equal(other, one)
    starts = range(0, len(one), _PIECE_BYTES)
    return all(_equal(bytearray(one[at : at + _PIECE_BYTES]), other[at : at + _PIECE_BYTES]) for at in starts)


def same_buffers(one: Sequence[Frame], other: Sequence[Frame]) -> bool:
    """Whether two lists of buffers are equal, each with its counterpart."""
    return len(one) == len(other) and all(map(same_bytes, one, other))


def _equal(one: object, other: object) -> bool:
    return one == other
