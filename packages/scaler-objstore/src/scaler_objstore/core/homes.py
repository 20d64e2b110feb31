"""Objects that are in the stores of worker hosts: a directory, without their bytes.

A *home* is a store beside an agent. The agent says what that store has (`ObjectsHeld`), and this server tells readers which
stores have an object. An object may have several homes. Whoever cannot reach any of them gets the object from this server,
for which the agent puts it here: it has a connection to this server, whatever stands between it and other hosts.

A home is *away* while its agent has no connection here. What is deleted meanwhile is noted, and told when it is back. One that
is away for too long is given up: what only homes have that are given up counts as lost, and schedulers are told so.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Home:
    """One store beside an agent, identified by the agent's address at this server."""

    peer: bytes
    address: str
    """Where other hosts reach it."""
    name: str
    """For people."""
    held: set[bytes] = field(default_factory=set)
    deleted: dict[bytes, bytes] = field(default_factory=dict)
    """Objects that it has to delete, and their owners, until its agent says that they are gone."""
    away_since: float | None = None
    is_given_up: bool = False
    """Whether it has been away for too long."""


@dataclass(slots=True)
class HeldObject:
    """An object that homes have, or had."""

    id: bytes
    owner: bytes
    homes: dict[bytes, Home] = field(default_factory=dict)
    lost_with: str = ""
    """The last home that had it, once none has it any more."""


class Homes:
    """All homes, and the objects in them by id and by owner."""

    def __init__(self) -> None:
        self._homes: dict[bytes, Home] = {}
        self._objects: dict[bytes, HeldObject] = {}
        self._by_owner: dict[bytes, set[bytes]] = {}
        self._awaited: dict[bytes, Home] = {}
        """Homes that are away and not given up, in the order in which they went."""

    def find(self, object_id: bytes) -> HeldObject | None:
        """Return what is known of an object; None if no home ever had it, or it was deleted."""
        return self._objects.get(object_id)

    def names_with(self, object_id: bytes) -> tuple[str, ...]:
        """Return the names of the homes that have an object."""
        held = self._objects.get(object_id)
        return () if held is None else tuple(sorted(home.name for home in held.homes.values()))

    def add(self, object_id: bytes, owner: bytes, peer: bytes, address: str, name: str) -> HeldObject:
        """Note that a home has an object."""
        home = self._homes.get(peer)
        if home is None:
            home = self._homes[peer] = Home(peer, address, name)
        home.address = address
        self._note_back(home)
        home.held.add(object_id)
        home.deleted.pop(object_id, None)
        held = self._objects.get(object_id)
        if held is None:
            held = self._objects[object_id] = HeldObject(object_id, owner)
            self._by_owner.setdefault(owner, set()).add(object_id)
        held.homes[peer] = home
        held.lost_with = ""
        return held

    def remove(self, object_id: bytes) -> list[Home]:
        """Forget an object, which was deleted. Return the homes that have to delete it."""
        held = self._objects.pop(object_id, None)
        if held is None:
            return []
        owned = self._by_owner[held.owner]
        owned.discard(object_id)
        if not owned:
            del self._by_owner[held.owner]
        for home in held.homes.values():
            home.held.discard(object_id)
            home.deleted[object_id] = held.owner
        return list(held.homes.values())

    def gone(self, peer: bytes, object_id: bytes) -> HeldObject | None:
        """A home does not have an object any more. Return the object, if it is one that was not deleted."""
        home = self._homes.get(peer)
        if home is None:
            return None
        home.deleted.pop(object_id, None)
        if object_id not in home.held:
            return None
        home.held.discard(object_id)
        held = self._objects[object_id]
        del held.homes[peer]
        if not held.homes:
            held.lost_with = home.name
        return held

    def is_away(self, peer: bytes, now: float) -> Home | None:
        """The agent of a home has no connection any more. Return the home, unless there is none or it was away before."""
        home = self._homes.get(peer)
        if home is None or home.away_since is not None:
            return None
        home.away_since = now
        self._awaited[peer] = home
        return home

    def next_away(self) -> float:
        """Return since when the home is away that is given up next; inf if there is none."""
        for home in self._awaited.values():
            if home.away_since is not None:
                return home.away_since
        return float("inf")

    def give_up(self, before: float) -> dict[Home, list[HeldObject]]:
        """Give up all homes that have been away since `before`. Return what no other home has, by home."""
        given_up: dict[Home, list[HeldObject]] = {}
        while self.next_away() <= before:
            home = self._awaited.pop(next(iter(self._awaited)))
            home.is_given_up = True
            given_up[home] = [held for object_id in home.held if is_lost(held := self._objects[object_id])]
        return given_up

    def lost(self) -> list[HeldObject]:
        """Return the objects that only homes have, or had, that are given up or have ended."""
        return [held for held in self._objects.values() if is_lost(held)]

    def _note_back(self, home: Home) -> None:
        home.away_since, home.is_given_up = None, False
        self._awaited.pop(home.peer, None)

    def is_back(self, peer: bytes) -> Home | None:
        """The agent of a home has said hello. Return the home, if it was away."""
        home = self._homes.get(peer)
        if home is None or home.away_since is None:
            return None
        self._note_back(home)
        return home

    def to_delete(self, peer: bytes) -> dict[bytes, list[bytes]]:
        """Return what a home was told to delete and still has, by owner."""
        home = self._homes.get(peer)
        by_owner: dict[bytes, list[bytes]] = {}
        for object_id, owner in () if home is None else home.deleted.items():
            by_owner.setdefault(owner, []).append(object_id)
        return by_owner

    def leave(self, peer: bytes) -> list[HeldObject]:
        """A home has ended. Return the objects that no home has any more."""
        home = self._homes.get(peer)
        if home is None:
            return []
        lost = [held for object_id in list(home.held) if (held := self.gone(peer, object_id)) and not held.homes]
        del self._homes[peer]
        self._awaited.pop(peer, None)
        return lost

    def leave_away(self, before: float) -> None:
        """End all homes that have been away since `before`."""
        for home in list(self._homes.values()):
            if home.away_since is not None and home.away_since <= before:
                self.leave(home.peer)

    def owned_by(self, owner: bytes) -> list[bytes]:
        """Return the objects of one owner."""
        return list(self._by_owner.get(owner, ()))

    def owners(self) -> list[bytes]:
        """Return the clients that own objects in homes."""
        return list(self._by_owner)

    def count_of(self, owner: bytes) -> int:
        """Return how many objects an owner has."""
        return len(self._by_owner.get(owner, ()))

    def is_deleted(self, peer: bytes, object_id: bytes) -> bool:
        """Whether an agent was told to delete an object, and has not said yet that it is gone."""
        home = self._homes.get(peer)
        return home is not None and object_id in home.deleted

    def check(self) -> bool:
        """Whether all facts that are stored twice agree. For tests and the simulation."""
        pairs = {(home.peer, object_id) for home in self._homes.values() for object_id in home.held}
        listed = {(peer, held.id) for held in self._objects.values() for peer in held.homes}
        owned = {(owner, object_id) for owner, ids in self._by_owner.items() for object_id in ids}
        return (
            pairs == listed
            and owned == {(held.owner, held.id) for held in self._objects.values()}
            and all(self._homes[peer] is home for held in self._objects.values() for peer, home in held.homes.items())
            and all(bool(held.homes) != bool(held.lost_with) for held in self._objects.values())
            and self._awaited
            == {
                home.peer: home for home in self._homes.values() if home.away_since is not None and not home.is_given_up
            }
        )

    def __len__(self) -> int:
        return len(self._objects)


def is_lost(held: HeldObject) -> bool:
    """Whether no home has an object any more, or only homes that are given up."""
    return all(home.is_given_up for home in held.homes.values())
