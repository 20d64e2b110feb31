"""StoreStatusRequest and ObjectListRequest: how much is stored, and what, for monitors."""

from __future__ import annotations

import heapq
from collections.abc import Callable
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


def object_list(state: StoreState, address: bytes, peer: Peer, message: m.ObjectListRequest, now: float) -> None:
    """Tell the scheduler of some objects, in the order and from the place that it asks for."""
    if peer.role is not m.Role.SCHEDULER:
        state.warn(f"{peer} asks what is held: only a scheduler may")
        return
    looked_at = _oldest(state)
    words = message.words.casefold().split()
    matching = [
        stored
        for stored in looked_at
        if (not message.owner or stored.owner == message.owner)
        and all(word in stored.name.casefold() for word in words)
    ]
    value_of = _ORDERS.get(message.order, _by_size)
    choose = heapq.nlargest if message.descending else heapq.nsmallest
    # The id decides among equals: so no object is on two pages.
    until = choose(
        message.offset + state.limits.listed_objects, matching, key=lambda stored: (value_of(state, stored), stored.id)
    )
    state.send(
        address,
        m.ObjectList(
            message.request,
            offset=message.offset,
            matching=len(matching),
            looked_at=len(looked_at),
            objects=tuple([_status_of(state, stored, now) for stored in until[message.offset :]]),
        ),
    )


def _listed(state: StoreState) -> list[StoredObject]:
    return heapq.nlargest(state.limits.listed_objects, _oldest(state), key=_size_of)


def _oldest(state: StoreState) -> list[StoredObject]:
    # Those that came first are at the beginning: what nobody needs any more is among them.
    return list(islice(state.catalogue.all(), state.limits.looked_at_objects))


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
        place=_place_of(stored),
        readers_waiting=state.load_waiters.count_for(stored.id),
        homes=state.homes.names_with(stored.id),
    )


def _place_of(stored: StoredObject) -> str:
    content = stored.content
    return "disk" if content.key is None else "shared memory" if content.place else "memory"


def _by_size(_state: StoreState, stored: StoredObject) -> float | str:
    return stored.content.size_bytes


_ORDERS: dict[int, Callable[[StoreState, StoredObject], float | str]] = {
    m.ObjectOrder.SIZE: _by_size,
    m.ObjectOrder.AGE: lambda _state, stored: -stored.since,
    m.ObjectOrder.NAME: lambda _state, stored: stored.name.casefold(),
    m.ObjectOrder.OWNER: lambda _state, stored: stored.owner.hex(),
    m.ObjectOrder.PLACE: lambda _state, stored: _place_of(stored),
    m.ObjectOrder.READERS: lambda state, stored: state.load_waiters.count_for(stored.id),
    m.ObjectOrder.HOMES: lambda state, stored: len(state.homes.names_with(stored.id)),
}
