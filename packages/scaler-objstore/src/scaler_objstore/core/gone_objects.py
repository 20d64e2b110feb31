"""Objects that earlier servers had, and that nobody can send again, as clients or the scheduler say. Nobody waits for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class GoneObjects:
    """At most `count_max` objects. The oldest are forgotten first: these are waited for, as any that is missing."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def add(self, object_ids: Iterable[bytes]) -> None:
        """These will not come."""
        for object_id in object_ids:
            self._ids[object_id] = None
        while len(self._ids) > self._count_max:
            self._ids.popitem(last=False)

    def discard(self, object_id: bytes) -> None:
        """This one is here after all, or is no longer of any use."""
        self._ids.pop(object_id, None)

    def __contains__(self, object_id: bytes) -> bool:
        return object_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)
