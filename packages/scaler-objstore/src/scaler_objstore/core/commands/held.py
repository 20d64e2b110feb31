"""ObjectsHeld and ObjectsGone: what the stores of worker hosts have, and what readers are told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scaler_objstore.core.homes import HeldObject, is_lost
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.waiters import Waiter
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m

UNNAMED_HOST = "a host without a name"

LOST_TOLD_MAX = 10_000
"""Objects that one message to a scheduler names at most."""


def objects_held(state: StoreState, address: bytes, peer: Peer, message: m.ObjectsHeld, now: float) -> None:
    """Note that an agent's store has objects, and answer the gets that wait for them. Doing it twice does no harm."""
    for object_id in message.ids if message.are_copies else ():
        state.free_doomed(object_id)
    refusal = _refusal(state, peer, message, now)
    for object_id in message.ids:
        state.chains.leave(object_id, address)
    if refusal is None:
        state.leases.renew(message.owner, now)
        for object_id in message.ids:
            name = peer.name or UNNAMED_HOST
            state.gone.discard(object_id)
            held = state.homes.add(object_id, message.owner, address, message.address, name)
            for waiter in state.waiters.take_for(object_id):
                if not find_at_homes(state, waiter, held, now):
                    state.send(waiter.peer, unreached(waiter.request, held))
    if message.request:
        reply = m.ObjectPutReply(message.request)
        if refusal is not None:
            reply = m.ObjectPutReply(message.request, m.ObjectStatus.NOT_YOURS, refusal)
        state.send(address, reply)


def objects_gone(state: StoreState, address: bytes, peer: Peer, message: m.ObjectsGone, now: float) -> None:
    """An agent's store does not have these objects: answer who waits for one that no other store has.

    A client or a scheduler says that an earlier server had them, and that nobody sends them again: who waits for one that is
    nowhere is answered, and nobody waits for it from now on.
    """
    if peer.role is not m.Role.AGENT:
        _will_not_come(state, message.ids, now)
        return
    for object_id in message.ids:
        state.chains.leave(object_id, address)
    found = [held for object_id in message.ids if (held := state.homes.gone(address, object_id)) is not None]
    tell_lost(state, found)
    for held in found:
        _ask_others(state, held, now)


def _will_not_come(state: StoreState, object_ids: Iterable[bytes], now: float) -> None:
    nowhere = [
        object_id
        for object_id in object_ids
        if state.catalogue.find(object_id) is None
        and state.homes.find(object_id) is None
        and state.growing.find(object_id) is None
        and state.refused_puts.expected_until(object_id, now) is None
    ]
    state.gone.add(nowhere)
    for object_id in nowhere:
        for waiter in state.waiters.take_for(object_id):
            until = state.awaited_until(object_id, waiter.deadline)
            if until <= now or not state.waiters.add(replace(waiter, deadline=until)):
                gone = state.will_not_come(object_id, now)
                state.send(waiter.peer, m.ObjectData(waiter.request, object_id, missing=True, gone=gone))


def home_left(state: StoreState, address: bytes, now: float) -> None:
    """An agent has left in an orderly way, and its store with it."""
    left = state.homes.leave(address)
    tell_lost(state, left)
    for held in left:
        _ask_others(state, held, now)


def give_up_homes(state: StoreState, now: float) -> None:
    """Tell schedulers what is lost with homes that have been away for too long. Before those who wait for it are answered."""
    for held in state.homes.give_up(now - state.limits.home_away_seconds).values():
        tell_lost(state, held)


def tell_lost(state: StoreState, objects: Iterable[HeldObject], *schedulers: bytes) -> None:
    """Tell these schedulers, or all that are connected, which of the objects no store has that can be reached."""
    by_host: dict[str, list[bytes]] = {}
    for held in objects:
        if is_lost(held) and state.catalogue.find(held.id) is None:
            by_host.setdefault(_host_of(held), []).append(held.id)
    for host, ids in by_host.items():
        for start in range(0, len(ids), LOST_TOLD_MAX):
            for address in schedulers or state.peers.schedulers():
                state.send(address, m.ObjectsLost(host, tuple(ids[start : start + LOST_TOLD_MAX])))


def _host_of(held: HeldObject) -> str:
    return ", ".join(home.name for home in held.homes.values()) or held.lost_with


def home_away(state: StoreState, address: bytes, now: float) -> None:
    """An agent has no connection here. Gets that wait for its objects wait for it to come back, and not for long."""
    home = state.homes.is_away(address, now)
    if home is None:
        return
    until = now + state.limits.home_away_seconds
    for object_id in home.held.intersection(state.waiters.objects()):
        for waiter in state.waiters.take_for(object_id):
            state.waiters.add(replace(waiter, deadline=min(waiter.deadline, until)))


def home_back(state: StoreState, address: bytes, now: float) -> None:
    """An agent is here again, or still: repeat what its store has to delete. Gets that have waited for its objects go on."""
    home = state.homes.is_back(address)
    for owner, ids in state.homes.to_delete(address).items():
        state.delete_at(address, owner, ids)
    for object_id in () if home is None else home.held.intersection(state.waiters.objects()):
        held = state.homes.find(object_id)
        if held is not None:
            _ask_others(state, held, now)


def upload_refused(state: StoreState, object_id: bytes, reason: str) -> None:
    """What a home has cannot be put here, and will not be: answer the gets that wait for it."""
    held = state.homes.find(object_id)
    if held is None or not held.homes:
        return
    names = ", ".join(home.name for home in held.homes.values())
    text = f"object {object_id.hex()} is in the store of {names} and cannot be put into the central one: {reason}"
    for waiter in state.waiters.take_for(object_id):
        state.send(waiter.peer, m.ObjectPutReply(waiter.request, m.ObjectStatus.UNREACHED, text))


def find_at_homes(state: StoreState, waiter: Waiter, held: HeldObject, now: float) -> bool:
    """Tell a reader which homes have an object, or have one of them put it here. Returns False if none can."""
    homes = list(held.homes.values())
    present = [home for home in homes if home.away_since is None]
    if waiter.follows and present:
        addresses = tuple([home.address for home in present])
        state.send(waiter.peer, m.ObjectHomes(waiter.request, held.id, addresses))
        return True
    limits = state.limits
    away_until = max(
        (home.away_since + limits.home_away_seconds for home in homes if home.away_since is not None), default=now
    )
    deadline = now + limits.upload_seconds_max if present else away_until
    if deadline <= now or not state.waiters.add(replace(waiter, deadline=deadline)):
        return False
    # Lost, or answered by a put that is lost: whoever waits asks again, and so does this.
    for home in homes[:1] if not present else present[:1]:
        state.send(home.peer, m.ObjectWanted(held.id))
    return True


def unreached(request: int, held: HeldObject) -> m.ObjectPutReply:
    """Return the answer to a get of an object that only homes have which cannot be reached."""
    names = ", ".join(home.name for home in held.homes.values())
    if names:
        text = f"object {held.id.hex()} is in the store of {names}, which does not answer"
    else:
        text = f"object {held.id.hex()} is lost: it was in the store of {held.lost_with}, which has ended"
    return m.ObjectPutReply(request, m.ObjectStatus.UNREACHED, text)


def _ask_others(state: StoreState, held: HeldObject, now: float) -> None:
    for waiter in state.waiters.take_for(held.id):
        if not find_at_homes(state, waiter, held, now):
            state.send(waiter.peer, unreached(waiter.request, held))


def _refusal(state: StoreState, peer: Peer, message: m.ObjectsHeld, now: float) -> str | None:
    if peer.role is not m.Role.AGENT:
        return f"{peer} may not say what the store of a worker host has: only agents may"
    if state.ended_owners.has(message.owner, now):
        return f"client {short(message.owner)} has ended"
    for object_id in message.ids:
        stored, held = state.catalogue.find(object_id), state.homes.find(object_id)
        if any(found is not None and found.owner != message.owner for found in (stored, held)):
            return f"object {short(object_id)} belongs to another client"
        if message.are_copies and stored is None and held is None:
            return f"object {short(object_id)} does not exist any more"
    return None
