"""The table of objects: their contents, and the clients that own them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scaler_objstore.core.contents import Content


@dataclass(slots=True, eq=False)
class StoredObject:
    """An object that exists."""

    id: bytes
    owner: bytes
    content: Content
    since: float
    """When this server got it."""
    name: str = ""
    """For people."""
    is_result: bool = False
    """Whether an agent has put it: mostly something that one host reads, and no other."""
    first_reader: bytes = b""
    """Of a large result, the first agent that got it: whole."""


class Catalogue:
    """All objects, by id and by owner."""

    def __init__(self) -> None:
        self._objects: dict[bytes, StoredObject] = {}
        self._by_owner: dict[bytes, set[bytes]] = {}
        self._bytes_by_owner: dict[bytes, int] = {}

    def find(self, object_id: bytes) -> StoredObject | None:
        """Return the object, or None where it does not exist."""
        return self._objects.get(object_id)

    def add(self, stored: StoredObject) -> None:
        """Record an object that did not exist."""
        self._objects[stored.id] = stored
        self._by_owner.setdefault(stored.owner, set()).add(stored.id)
        size = self._bytes_by_owner.get(stored.owner, 0)
        self._bytes_by_owner[stored.owner] = size + stored.content.size_bytes

    def remove(self, stored: StoredObject) -> None:
        """Forget an object that exists."""
        del self._objects[stored.id]
        owned = self._by_owner[stored.owner]
        owned.remove(stored.id)
        if owned:
            self._bytes_by_owner[stored.owner] -= stored.content.size_bytes
        else:
            del self._by_owner[stored.owner]
            del self._bytes_by_owner[stored.owner]

    def owned_by(self, owner: bytes) -> list[StoredObject]:
        """Return all objects of one owner."""
        return [self._objects[object_id] for object_id in self._by_owner.get(owner, ())]

    def figures_of(self, owner: bytes) -> tuple[int, int]:
        """Return how many objects an owner has, and their bytes. A shared content counts for each object."""
        return len(self._by_owner.get(owner, ())), self._bytes_by_owner.get(owner, 0)

    def owners(self) -> Iterable[bytes]:
        """Return the clients that own objects."""
        return self._by_owner.keys()

    def all(self) -> Iterable[StoredObject]:
        """Return every object."""
        return self._objects.values()

    def __len__(self) -> int:
        return len(self._objects)
