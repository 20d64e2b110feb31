"""Which arguments of some size have come before: from the second time on they are sent once for all tasks."""

from __future__ import annotations

from typing import Any

KNOWN_MAX = 4096
"""So many values are remembered; then the memory begins anew."""

_SAMPLES = 128
_END_LENGTH = 64


class FirstValues:
    """Remembers values by their sizes and some samples, in a microsecond or two. Safe to use from threads that are interrupted.

    A value that is taken for another one becomes an object too soon, which does no harm.
    """

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def is_first(self, *parts: Any) -> bool:
        """Whether a value of these parts (bytes, texts, buffers) is asked about for the first time."""
        try:
            key = hash(tuple(map(_samples_of, parts)))
        except (TypeError, ValueError, BufferError):
            # Arrays of dates, for example, have no buffer.
            return False
        known = self._known
        if key in known:
            return False
        if len(known) >= KNOWN_MAX:
            known.clear()
        known[key] = None
        return True


def _samples_of(part: Any) -> tuple[int, str | bytes]:
    if type(part) is bytes:
        return len(part), part[:_END_LENGTH] + part[:: _step(len(part))] + part[-_END_LENGTH:]
    if type(part) is str:
        return len(part), part[:_END_LENGTH] + part[:: _step(len(part))] + part[-_END_LENGTH:]
    view = memoryview(part)
    if not view.c_contiguous:
        return view.nbytes, view.tobytes()
    view = view.cast("B")
    ends = bytes(view[:_END_LENGTH]) + bytes(view[-_END_LENGTH:])
    return len(view), view[:: _step(len(view))].tobytes() + ends


def _step(size: int) -> int:
    # An odd number: of an array of numbers, all their bytes are among the samples, and not the highest ones alone.
    return max(1, size // _SAMPLES) | 1
