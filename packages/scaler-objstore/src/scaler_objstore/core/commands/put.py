"""ObjectPut: store these buffers under this id until their owner ends.

The buffers come in frames, or lie in a segment that the shell has mapped (see `events.Incoming`).
"""

from __future__ import annotations

from scaler_objstore.core.catalogue import StoredObject
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import StorageFullError
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m


def put(state: StoreState, address: bytes, peer: Peer, message: m.ObjectPut, now: float) -> None:
    """Store an object and answer all gets that wait for it. An object that exists already is confirmed."""
    refusal = _refusal(state, peer, message, now)
    if refusal is None:
        refusal = _store(state, peer, message)
    if refusal is None:
        state.send(address, m.ObjectPutReply(message.request))
        return
    status, text = refusal
    state.send(address, m.ObjectPutReply(message.request, status, text))


def _refusal(state: StoreState, peer: Peer, message: m.ObjectPut, now: float) -> tuple[m.ObjectStatus, str] | None:
    limits = state.limits
    if not peer.may_act_for(message.owner):
        return m.ObjectStatus.NOT_YOURS, f"{peer} may not store objects of client {short(message.owner)}"
    if state.ended_owners.has(message.owner, now):
        return m.ObjectStatus.NOT_YOURS, f"client {short(message.owner)} has ended"
    if len(message.buffers) > limits.object_buffers_max:
        text = f"an object of {len(message.buffers)} buffers; at most {limits.object_buffers_max} are accepted"
        return m.ObjectStatus.TOO_LARGE, text
    size = sum(len(buffer) for buffer in message.buffers)
    if size > limits.object_bytes_max:
        return m.ObjectStatus.TOO_LARGE, f"an object of {size} bytes; at most {limits.object_bytes_max} are accepted"
    return None


def _store(state: StoreState, peer: Peer, message: m.ObjectPut) -> tuple[m.ObjectStatus, str] | None:
    stored = state.catalogue.find(message.id)
    if stored is not None:
        if stored.owner != message.owner:
            return m.ObjectStatus.NOT_YOURS, f"object {short(message.id)} belongs to another client"
        # A repeated put may arrive after its writer has received the first answer and has reused the segment.
        if not _has_no_segment(message) and not state.contents.holds(stored.content, message.buffers):
            return m.ObjectStatus.CONFLICT, f"object {short(message.id)} exists with other bytes; objects never change"
        return None
    if _has_no_segment(message):
        return m.ObjectStatus.NO_SEGMENT, f"the segment of object {short(message.id)} cannot be opened here"
    # A result in a segment is mostly deleted in a moment. Comparing it would cost more than the memory it might save.
    # And nobody outside may keep a hand on what several clients share.
    compare = not (message.place and (peer.role is m.Role.AGENT or not state.shares_segments))
    try:
        content = state.contents.acquire(message.buffers, message.place, compare=compare)
    except StorageFullError as error:
        return m.ObjectStatus.STORAGE_FULL, str(error)
    state.catalogue.add(StoredObject(message.id, message.owner, content))
    for waiter in state.waiters.take_for(message.id):
        state.send(waiter.peer, state.data(waiter.request, message.id, content, waiter.mappable))
    return None


def _has_no_segment(message: m.ObjectPut) -> bool:
    return bool(message.place) and not message.buffers
