"""StoreStatusRequest: how much is stored, for monitors."""

from __future__ import annotations

import heapq
from itertools import islice

from scaler_objstore.core.catalogue import StoredObject
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.wire import messages as m


def status(state: StoreState, address: bytes, peer: Peer, message: m.StoreStatusRequest, now: float) -> None:
    """Tell the scheduler how much each client stores. Nobody else may know which clients have objects."""
    if peer.role is not m.Role.SCHEDULER:
        state.warn(f"{peer} asks how much is held: only a scheduler may")
        return
    owners = tuple(state.catalogue.owners())
    figures = [state.catalogue.figures_of(owner) for owner in owners]
    state.send(
        address,
        m.StoreStatus(
            message.request,
            object_count=len(state.catalogue),
            used_bytes=state.contents.used_bytes,
            limit_bytes=state.contents.limit_bytes,
            owners=owners,
            owner_objects=[count for count, _ in figures],
            owner_bytes=[size for _, size in figures],
            objects=tuple([_status_of(state, stored, now) for stored in _listed(state)]),
        ),
    )


def _listed(state: StoreState) -> list[StoredObject]:
    limits = state.limits
    # Those that came first are at the beginning: what nobody needs any more is among them.
    oldest = islice(state.catalogue.all(), limits.looked_at_objects)
    return heapq.nlargest(limits.listed_objects, oldest, key=_size_of)


def _size_of(stored: StoredObject) -> int:
    return stored.content.size_bytes


def _status_of(state: StoreState, stored: StoredObject, now: float) -> m.StoredObjectStatus:
    content = stored.content
    return m.StoredObjectStatus(
        id=stored.id,
        owner=stored.owner,
        name=stored.name,
        size_bytes=content.size_bytes,
        age_seconds=now - stored.since,
        place="disk" if content.key is None else "shared memory" if content.place else "memory",
        readers_waiting=state.load_waiters.count_for(stored.id),
        homes=state.homes.names_with(stored.id),
    )
