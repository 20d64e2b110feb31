"""Objects that the agent of this host fetches into this store: other hosts get from here what has come already."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_objstore.core.storage import Buffers


@dataclass(slots=True, eq=False)
class GrowingObject:
    """One object, of whose bytes the first `filled` are there. Its buffers are in a segment that the agent writes to."""

    id: bytes
    owner: bytes
    peer: bytes
    """The agent."""
    buffers: Buffers
    filled: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """The bytes of each buffer."""
        return tuple(map(len, self.buffers))


class Growing:
    """All of them. One ends when it is put whole, when it is deleted, and with its agent."""

    def __init__(self, growing_max: int) -> None:
        self._max = growing_max
        self._by_id: dict[bytes, GrowingObject] = {}

    def find(self, object_id: bytes) -> GrowingObject | None:
        """Return an object that grows, or None."""
        return self._by_id.get(object_id)

    def add(self, growing: GrowingObject) -> bool:
        """Begin an object, or begin it again. Returns False if too many grow already."""
        if len(self._by_id) >= self._max and growing.id not in self._by_id:
            return False
        self._by_id[growing.id] = growing
        return True

    def remove(self, object_id: bytes) -> None:
        """Forget an object. Unknown ones are ignored."""
        self._by_id.pop(object_id, None)

    def remove_peer(self, peer: bytes) -> list[bytes]:
        """Forget all objects of an agent, and return them."""
        gone = [growing.id for growing in self._by_id.values() if growing.peer == peer]
        for object_id in gone:
            del self._by_id[object_id]
        return gone

    def owned_by(self, owner: bytes) -> list[bytes]:
        """Return the objects of one owner."""
        return [growing.id for growing in self._by_id.values() if growing.owner == owner]

    def __len__(self) -> int:
        return len(self._by_id)
