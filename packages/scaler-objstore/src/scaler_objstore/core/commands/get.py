"""ObjectGet: return an object now, or as soon as it arrives. Anyone who knows the id may read it."""

from __future__ import annotations

from dataclasses import replace

from scaler_objstore.core.catalogue import StoredObject
from scaler_objstore.core.commands.held import find_at_homes, unreached
from scaler_objstore.core.commands.pieces import answer, answer_growing, send_sources
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.tiering import Tiering
from scaler_objstore.core.waiters import Waiter
from scaler_protocol.wire import messages as m


def get(state: StoreState, address: bytes, peer: Peer, message: m.ObjectGet, now: float) -> None:
    """Answer with the object, let the peer wait for it, or answer that it is missing."""
    state.free_doomed(message.id)
    if message.keeps_at:
        send_sources(state, address, peer, message, now)
        return
    waiter = Waiter(
        address,
        message.request,
        message.id,
        now,
        message.mappable,
        message.follows_homes,
        message.pieces,
        message.size,
        message.offset,
    )
    stored = state.catalogue.find(message.id)
    if stored is not None:
        # This may be a repeated request, and the first one may still wait under its number.
        state.waiters.remove(address, message.request)
        tiering = state.tiering
        if tiering is not None:
            if stored.content.key is None and message.size:
                # Whoever fetches it from here gets it whole.
                state.send(address, m.ObjectData(message.request, message.id, missing=True))
                return
            if stored.content.key is None:
                _load(state, tiering, address, message, stored, now)
                return
            tiering.used(stored.content)
        answer(state, waiter, stored)
        return
    growing = state.growing.find(message.id)
    if growing is not None and answer_growing(state, waiter, growing):
        return
    held = state.homes.find(message.id)
    if held is not None and not message.size:
        if not find_at_homes(state, waiter, held, now):
            state.send(address, unreached(message.request, held))
        return
    gone = state.will_not_come(message.id, now)
    # A comparison with NaN is false, so NaN does not wait.
    if held is None and message.wait_seconds > 0 and not gone:
        deadline = state.awaited_until(message.id, now + min(message.wait_seconds, state.limits.wait_seconds_max))
        if state.waiters.add(replace(waiter, deadline=deadline)):
            return
    state.send(address, m.ObjectData(message.request, message.id, missing=True, gone=gone))


def _load(
    state: StoreState, tiering: Tiering, address: bytes, message: m.ObjectGet, stored: StoredObject, now: float
) -> None:
    deadline = now + state.limits.load_seconds_max
    # If too many wait already, nothing answers, and the peer asks again.
    if state.load_waiters.add(Waiter(address, message.request, message.id, deadline, message.mappable)):
        tiering.want(stored.content)


def answer_expired(state: StoreState, now: float) -> None:
    """Answer all gets whose waiting time is over: their object is missing. Those of objects that find no room wait on.

    A client sends an object before the task that names it, but only the task is small: while bytes of clients' objects
    come, whoever asks is told that this one may come too.
    """
    is_arriving = now < state.arriving_until
    for waiter in state.waiters.take_expired(now):
        expected_until = state.refused_puts.expected_until(waiter.object_id, now)
        if expected_until is not None and state.waiters.add(replace(waiter, deadline=expected_until)):
            continue
        held = state.homes.find(waiter.object_id)
        if held is not None:
            state.send(waiter.peer, unreached(waiter.request, held))
            continue
        may_come = is_arriving and waiter.object_id not in state.gone
        gone = state.will_not_come(waiter.object_id, now)
        state.send(
            waiter.peer, m.ObjectData(waiter.request, waiter.object_id, missing=True, may_come=may_come, gone=gone)
        )
