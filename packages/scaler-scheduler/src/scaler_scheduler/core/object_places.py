"""Which agents have a client's large objects: what it sends with its tasks, and results that it keeps in storage.

An agent that made an object has it, and so has one that got a task which reads it: it has fetched it, or is about to. That is
only a hint for placement. An agent may have dropped what it had; then it fetches it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from scaler_protocol.wire.columns import Column

LARGE_BYTES_MIN = 64 * 1024
"""Smaller objects are fetched in less time than it takes to think about them."""

OBJECTS_MAX = 4096
"""Of so many objects of a client is known who has them: those it named last."""

HOLDERS_MAX = 64
"""Of so many agents is known that they have an object. Then it is nearly everywhere."""

LOOKED_MAX = 256
"""Of how many objects of a task is looked who has them."""

Holder = TypeVar("Holder", bound=Hashable)


class ObjectPlaces(Generic[Holder]):
    """Sizes and holders of one client's objects. Holders are only compared."""

    __slots__ = ("_holders", "_sizes")

    def __init__(self) -> None:
        self._sizes: dict[bytes, int] = {}
        """The object named first comes first."""
        self._holders: dict[bytes, list[Holder]] = {}

    def note_sizes(self, objects: Sequence[bytes], sizes: Column) -> None:
        """The client has named these objects of its own. `sizes` has the bytes of each, or is empty: none is known."""
        for object_id, size in zip(objects, sizes, strict=False):
            if size >= LARGE_BYTES_MIN:
                self._note(object_id, size)

    def note_made(self, objects: Sequence[bytes], size_bytes: int, holder: Holder) -> None:
        """A task made these objects, together of so many bytes, where this holder is. Later tasks may read them."""
        if objects and size_bytes >= LARGE_BYTES_MIN * len(objects):
            for object_id in objects:
                self._note(object_id, size_bytes // len(objects))
                self._holders[object_id] = [holder]

    def note_reader(self, objects: Sequence[bytes], holder: Holder) -> None:
        """A task that reads these objects goes to this holder."""
        for object_id in objects[:LOOKED_MAX]:
            if object_id in self._sizes:
                holders = self._holders.setdefault(object_id, [])
                if holder not in holders and len(holders) < HOLDERS_MAX:
                    holders.append(holder)

    def count_held(self, objects: Sequence[bytes], held: Counter[Holder]) -> None:
        """Add to `held` how many bytes of these objects each holder has."""
        for object_id in objects[:LOOKED_MAX]:
            for holder in self._holders.get(object_id, ()):
                held[holder] += self._sizes[object_id]

    def _note(self, object_id: bytes, size: int) -> None:
        # Behind all others, also where it is known already.
        self._sizes.pop(object_id, None)
        self._sizes[object_id] = size
        if len(self._sizes) > OBJECTS_MAX:
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            self._holders.pop(oldest, None)
