"""Every limit of the store, by name."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.wire.envelope import FRAMES_MAX, MESSAGE_BYTES_MAX


@dataclass(slots=True, frozen=True)
class Limits:
    """Bounds of one store. The defaults suit any machine; memory is bounded by the storage itself."""

    object_bytes_max: int = MESSAGE_BYTES_MAX
    """Largest object, all its buffers together."""

    object_buffers_max: int = FRAMES_MAX - 2
    """Buffers of one object: a message has two frames beside them."""

    peers_max: int = 10_000
    """Peers remembered. The one that was silent longest is forgotten first; it says hello again when it comes back."""

    peer_waiters_max: int = 10_000
    """Gets of one peer that wait for their object. Further ones are answered at once."""

    waiters_max: int = 200_000
    """Gets of all peers that wait."""

    wait_seconds_max: float = 60.0
    """Longest wait for an object; who wants to wait longer asks again."""

    ended_owners_max: int = 10_000
    ended_owner_seconds: float = 60.0
    """How long objects are refused on behalf of a client that ended: as long as an agent repeats its requests."""
