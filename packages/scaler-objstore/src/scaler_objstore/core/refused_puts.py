"""Objects that found no room lately. Whoever sends them tries again, so gets go on waiting for them."""

from __future__ import annotations

from collections import OrderedDict


class RefusedPuts:
    """At most `count_max` objects, each for `seconds` since it was refused last."""

    def __init__(self, count_max: int, seconds: float) -> None:
        self._count_max = count_max
        self._seconds = seconds
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def note(self, object_id: bytes, now: float) -> None:
        """This object was refused, or waits for room."""
        self._until[object_id] = now + self._seconds
        self._until.move_to_end(object_id)
        if len(self._until) > self._count_max:
            self._until.popitem(last=False)

    def expected_until(self, object_id: bytes, now: float) -> float | None:
        """Return how long this object may be waited for; None if nobody is about to send it."""
        until = self._until.get(object_id)
        if until is not None and until <= now:
            del self._until[object_id]
            until = None
        return until

    def forget(self, object_id: bytes) -> None:
        """This object is stored, or will not be sent again."""
        self._until.pop(object_id, None)

    def __len__(self) -> int:
        return len(self._until)
