"""Which arguments of some size travel as they are, and which once for all tasks: those of many tasks at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KNOWN_MAX = 4096
"""So many values are remembered; then the memory begins anew."""

COPIES_BYTES_MAX = 16 * 1024 * 1024
"""So much of a client's memory the copies of one value may take, where a copy costs less than the messages of an object."""

_SAMPLES = 128
_END_LENGTH = 64


class RepeatedValues:
    """Remembers values by their sizes and some samples, in a microsecond or two. Safe to use from threads that are interrupted.

    A value that is taken for another one becomes an object too soon, which does no harm.
    """

    def __init__(
        self,
        next_number: Callable[[], int] = lambda: 0,
        is_under_way: Callable[[int], bool] = lambda number: True,
        copies_bytes_max: Callable[[], int] = lambda: 0,
    ) -> None:
        """`next_number` returns the number of the task that is submitted next, `is_under_way` whether a task with a number is
        to be answered, and `copies_bytes_max` how many bytes copies of one value may have that are under way at once.

        The first copy may always be. By default tasks are never answered.
        """
        self._next_number = next_number
        self._is_under_way = is_under_way
        self._copies_bytes_max = copies_bytes_max
        self._known: dict[int, tuple[int, int]] = {}
        """By the hash of its samples: the last task that got the value, and bytes in the copies since none was under way."""

    def may_be_copied(self, *parts: Any) -> bool:
        """Whether the next task gets a value of these parts (bytes, texts, buffers) as it is, and not as an object."""
        try:
            samples = tuple(map(_samples_of, parts))
            key = hash(samples)
        except (TypeError, ValueError, BufferError):
            # Arrays of dates, for example, have no buffer.
            return False
        size = sum(length for length, _ in samples)
        known = self._known
        last, copied = known.get(key, (None, 0))
        if last is None or not self._is_under_way(last):
            copied, may = 0, True
        else:
            may = copied + size <= self._copies_bytes_max()
        if len(known) >= KNOWN_MAX and key not in known:
            known.clear()
        known[key] = (self._next_number(), copied + size if may else copied)
        return may


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
