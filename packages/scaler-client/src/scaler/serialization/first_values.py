"""Which arguments of some size have come before: from the second time on they are sent once for all tasks."""

from __future__ import annotations

from typing import Any

KNOWN_MAX = 4096
"""So many values are remembered; then the memory begins anew."""

_SAMPLES = 32
_SAMPLE_LENGTH = 64


class FirstValues:
    """Remembers values by their sizes and some samples, in microseconds. Safe to use from threads that are interrupted.

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
    if type(part) is str:
        return len(part), "".join([part[at : at + _SAMPLE_LENGTH] for at in _starts(len(part))])
    if type(part) is bytes:
        return len(part), b"".join([part[at : at + _SAMPLE_LENGTH] for at in _starts(len(part))])
    view = memoryview(part)
    if not view.c_contiguous:
        return view.nbytes, view.tobytes()
    view = view.cast("B")
    return len(view), b"".join([view[at : at + _SAMPLE_LENGTH] for at in _starts(len(view))])


def _starts(size: int) -> range:
    return range(0, size, max(_SAMPLE_LENGTH, size // _SAMPLES))
