"""ObjectGet: the buffers of an object, now or as soon as it arrives. Whoever knows the id may read."""

from __future__ import annotations

from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.waiters import Waiter
from scaler_protocol.wire import messages as m


def get(state: StoreState, address: bytes, peer: Peer, message: m.ObjectGet, now: float) -> None:
    """Answer with the object, let the peer wait for it, or say that it is missing."""
    stored = state.catalogue.find(message.id)
    if stored is not None:
        # A repeated request may have waited under this number.
        state.waiters.remove(address, message.request)
        state.send(address, state.data(message.request, message.id, stored.content, message.mappable))
        return
    # Written so that NaN does not wait.
    if message.wait_seconds > 0:
        deadline = now + min(message.wait_seconds, state.limits.wait_seconds_max)
        if state.waiters.add(Waiter(address, message.request, message.id, deadline, message.mappable)):
            return
    state.send(address, m.ObjectData(message.request, message.id, missing=True))


def answer_expired(state: StoreState, now: float) -> None:
    """Tell everybody who has waited long enough that their object is missing."""
    for waiter in state.waiters.take_expired(now):
        state.send(waiter.peer, m.ObjectData(waiter.request, waiter.object_id, missing=True))
