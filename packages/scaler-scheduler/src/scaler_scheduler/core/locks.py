"""Who holds named locks and semaphores, and who waits for them.

A *lease* is one client's hold of one name, or its place in the queue for it. It ends when the client gives it back or is gone;
the clients inside tasks are gone with their process, their agent or their host. After a start nothing is granted for a while:
clients that had a lease from the scheduler before say so meanwhile, and keep it.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import Any, NamedTuple

from scaler_protocol.runtime.core import InvariantError

NAME_CHARACTERS_MAX = 200
COUNT_MAX = 1_000_000
"""How many may hold one semaphore."""

LEASES_MAX = 100_000
"""Leases of all clients, those that wait included."""

CLIENT_LEASES_MAX = 1000
"""Leases of one client."""


class Lease(NamedTuple):
    """One hold, or a place in a queue."""

    client: bytes
    number: int
    """The client's own number for it."""


class _Named:
    """What is known of one name. It is forgotten with its last lease."""

    __slots__ = ("count", "held_by", "queue")

    def __init__(self, count: int) -> None:
        self.count = count
        self.held_by: dict[Lease, None] = {}
        self.queue: dict[Lease, None] = {}
        """In the order in which they have asked."""


class LockTable:
    """All leases. Who asks first is served first."""

    def __init__(self, opens_at: float) -> None:
        """Nothing is granted before `opens_at`, and nothing is claimed after it."""
        self._opens_at = opens_at
        self._names: dict[str, _Named] = {}
        self._of_client: dict[bytes, dict[int, str]] = {}
        """By client and its number of a lease: the name."""
        self._lease_count = 0
        self._due: dict[str, None] = {}
        """Names of which something may be granted."""

    def request(self, lease: Lease, name: str, count: int) -> str:
        """Put a lease at the end of the queue for a name, which `count` may hold at once. Return why not; empty: it is there."""
        refusal = self._refusal(lease, name, count)
        if not refusal:
            self._add(lease, name, count).queue[lease] = None
            self._due[name] = None
        return refusal

    def claim(self, lease: Lease, name: str, count: int, now: float) -> bool:
        """Let a client keep what it held before this scheduler was started. Return False if it has lost it."""
        if now >= self._opens_at or self._refusal(lease, name, count):
            return False
        named = self._names.get(name)
        if named is not None and len(named.held_by) >= count:
            return False
        self._add(lease, name, count).held_by[lease] = None
        return True

    def release(self, lease: Lease) -> bool:
        """End a lease. Return whether it was held, or waited for."""
        leases = self._of_client.get(lease.client)
        if leases is None or lease.number not in leases:
            return False
        name = leases.pop(lease.number)
        if not leases:
            del self._of_client[lease.client]
        self._lease_count -= 1
        named = self._names[name]
        named.held_by.pop(lease, None)
        named.queue.pop(lease, None)
        if named.queue:
            self._due[name] = None
        elif not named.held_by:
            del self._names[name]
            self._due.pop(name, None)
        return True

    def drop_client(self, client: bytes) -> None:
        """A client is gone: end all its leases."""
        for number in list(self._of_client.get(client, ())):
            self.release(Lease(client, number))

    def grant(self, now: float) -> list[Lease]:
        """Return the leases that are held from now on."""
        if not self._due or now < self._opens_at:
            return []
        granted: list[Lease] = []
        for name in self._due:
            named = self._names[name]
            while named.queue and len(named.held_by) < named.count:
                lease = next(iter(named.queue))
                del named.queue[lease]
                named.held_by[lease] = None
                granted.append(lease)
        self._due.clear()
        return granted

    def next_deadline(self) -> float:
        """When something may be granted although nothing happens."""
        return self._opens_at if self._due else inf

    def described(self, most: int) -> list[dict[str, Any]]:
        """Return so many names, with as many of their holders, as values that JSON knows."""
        return [
            {
                "name": name,
                "count": named.count,
                "holders": [lease.client.hex() for lease in islice(named.held_by, most)],
                "waiting": len(named.queue),
            }
            for name, named in islice(self._names.items(), most)
        ]

    def __len__(self) -> int:
        return self._lease_count

    def check_invariants(self) -> None:
        """Raise InvariantError unless both tables have the same leases, and no name more holders than it may have."""
        by_name = {lease: name for name, named in self._names.items() for lease in (*named.held_by, *named.queue)}
        by_client = {
            Lease(client, number): name for client, own in self._of_client.items() for number, name in own.items()
        }
        if by_name != by_client or len(by_name) != self._lease_count:
            raise InvariantError("the leases of names are not those of clients")
        for name, named in self._names.items():
            if len(named.held_by) > named.count or not (named.held_by or named.queue):
                raise InvariantError(f"lock {name!r} has {len(named.held_by)} holders, and {named.count} may hold it")
        if not self._due.keys() <= self._names.keys():
            raise InvariantError("something is to be granted of a name that is not there")

    def _refusal(self, lease: Lease, name: str, count: int) -> str:
        leases = self._of_client.get(lease.client, {})
        named = self._names.get(name)
        if not 0 < len(name) <= NAME_CHARACTERS_MAX:
            return f"its name has {len(name)} characters; 1 to {NAME_CHARACTERS_MAX} are accepted"
        if not 0 < count <= COUNT_MAX:
            return f"{count} may hold it; 1 to {COUNT_MAX:,} are accepted"
        if named is not None and named.count != count:
            return f"{named.count} may hold it, say those who use it now; this one says {count}"
        if lease.number in leases:
            return f"lease {lease.number} is in use"
        if len(leases) >= CLIENT_LEASES_MAX:
            return f"this client holds and waits for {len(leases)} locks; at most {CLIENT_LEASES_MAX} are accepted"
        if self._lease_count >= LEASES_MAX:
            return f"{self._lease_count} locks are held and waited for; at most {LEASES_MAX} are accepted"
        return ""

    def _add(self, lease: Lease, name: str, count: int) -> _Named:
        named = self._names.get(name)
        if named is None:
            named = self._names[name] = _Named(count)
        self._of_client.setdefault(lease.client, {})[lease.number] = name
        self._lease_count += 1
        return named
