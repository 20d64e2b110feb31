"""The tables of peers that have said hello, and of clients that have ended."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_objstore.core.limits import Limits
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class Peer:
    """A peer that has said hello, as it described itself."""

    role: m.Role
    incarnation: bytes
    name: str
    term: int = 0
    """Schedulers: their term. Where there are two, the one with the higher term is first."""

    def may_act_for(self, owner: bytes) -> bool:
        """Whether this peer may store and delete objects of `owner`.

        Agents may do so for the tasks they run, and the scheduler for its graphs. All others may only do so for themselves.
        """
        return self.role in (m.Role.AGENT, m.Role.SCHEDULER) or owner == self.incarnation

    def __str__(self) -> str:
        return f"{self.role.name.lower()} {self.name or short(self.incarnation)}"


class Peers:
    """Peers by address, ordered by their last message."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._peers: dict[bytes, Peer] = {}
        self._highest_term = 0

    def add(self, address: bytes, peer: Peer) -> bytes | None:
        """Add a peer. Return the address of a peer that had to be forgotten for it, otherwise None."""
        self._peers.pop(address, None)
        self._highest_term = max(self._highest_term, peer.term)
        forgotten = next(iter(self._peers)) if len(self._peers) >= self._limits.peers_max else None
        if forgotten is not None:
            del self._peers[forgotten]
        self._peers[address] = peer
        return forgotten

    def heard(self, address: bytes) -> Peer | None:
        """Return the peer that has just sent a message from this address; None if it has not said hello."""
        peer = self._peers.pop(address, None)
        if peer is not None:
            self._peers[address] = peer
        return peer

    def addresses_of(self, incarnation: bytes) -> list[bytes]:
        """Return the addresses from which a client said hello: one or none."""
        return [
            address
            for address, peer in self._peers.items()
            if peer.incarnation == incarnation and peer.role is m.Role.CLIENT
        ]

    def is_superseded(self, peer: Peer) -> bool:
        """Whether this is a scheduler that was first before another one: what it takes for ended may be alive there."""
        return peer.role is m.Role.SCHEDULER and peer.term < self._highest_term

    def schedulers(self) -> list[bytes]:
        """Return the addresses of schedulers."""
        return [address for address, peer in self._peers.items() if peer.role is m.Role.SCHEDULER]

    def remove(self, address: bytes) -> None:
        """Forget a peer. Unknown addresses are ignored."""
        self._peers.pop(address, None)

    def __contains__(self, address: bytes) -> bool:
        return address in self._peers

    def __len__(self) -> int:
        return len(self._peers)


class EndedOwners:
    """Clients that have ended recently. Objects that agents still send for them would never be deleted."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ended: dict[bytes, float] = {}

    def add(self, owner: bytes, now: float) -> None:
        """Record that `owner` has ended."""
        self._ended.pop(owner, None)
        self._ended[owner] = now
        oldest = next(iter(self._ended))
        if len(self._ended) > self._limits.ended_owners_max or self._is_past(oldest, now):
            del self._ended[oldest]

    def remove(self, owner: bytes) -> None:
        """Record that `owner` has said hello again: it is alive after all."""
        self._ended.pop(owner, None)

    def has(self, owner: bytes, now: float) -> bool:
        """Whether `owner` has ended within the last `ended_owner_seconds`."""
        return owner in self._ended and not self._is_past(owner, now)

    def _is_past(self, owner: bytes, now: float) -> bool:
        return now - self._ended[owner] >= self._limits.ended_owner_seconds

    def __len__(self) -> int:
        return len(self._ended)
