"""ObjectPut: store these buffers under this id until their owner ends.

The buffers come in frames, or lie in a segment that the shell has mapped (see `events.Incoming`).
"""

from __future__ import annotations

from scaler_objstore.core.catalogue import StoredObject
from scaler_objstore.core.commands.held import upload_refused
from scaler_objstore.core.commands.pieces import answer, put_incomplete
from scaler_objstore.core.contents import Content, TooManySharedError
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import StorageFullError, content_bytes
from scaler_objstore.core.waiting_puts import WaitingPut
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m

_FINAL = (m.ObjectStatus.TOO_LARGE, m.ObjectStatus.CONFLICT)
"""Refusals of an upload that nothing changes."""


def put(state: StoreState, address: bytes, peer: Peer, message: m.ObjectPut, now: float) -> None:
    """Store an object and answer all gets that wait for it. An object that exists already is confirmed.

    Where memory is full and the tier below is taking objects, the put waits in turn.
    """
    if peer.may_act_for(message.owner):
        state.leases.renew(message.owner, now)
    if message.incomplete:
        put_incomplete(state, address, message, _refusal(state, peer, message, now))
        return
    if state.homes.is_deleted(address, message.id):
        # Asked for before it was deleted: nobody would delete it again.
        state.send(address, m.ObjectPutReply(message.request))
        return
    state.free_doomed(message.id)
    state.gone.discard(message.id)
    # Whoever waits already has the first turn. What exists needs no room.
    must_wait = len(state.waiting_puts) and state.catalogue.find(message.id) is None
    reply = None if must_wait else attempt(state, peer, message, now)
    while reply is None and not must_wait and state.doomed:
        state.free_doomed()
        reply = attempt(state, peer, message, now)
    if reply is None:
        state.refused_puts.note(message.id, now)
        if state.tiering is not None and _wait(state, address, peer, message, now):
            return
        reply = refuse_full(state, message)
    state.send(address, reply)


def attempt(state: StoreState, peer: Peer, message: m.ObjectPut, now: float) -> m.ObjectPutReply | None:
    """Store an object now. Returns the answer; None if there is no room."""
    refusal = _refusal(state, peer, message, now)
    if refusal is None:
        try:
            refusal = _store(state, peer, message, now)
        except StorageFullError:
            return None
    if refusal is not None and refusal[0] in _FINAL and peer.role is m.Role.AGENT:
        upload_refused(state, message.id, refusal[1])
    return m.ObjectPutReply(message.request) if refusal is None else m.ObjectPutReply(message.request, *refusal)


def refuse_full(state: StoreState, message: m.ObjectPut) -> m.ObjectPutReply:
    """Return the answer that there is no room, which names the limits."""
    contents, tiering = state.contents, state.tiering
    text = (
        f"object storage is full: {content_bytes(message.buffers)} bytes do not fit, {contents.used_bytes} of "
        f"{contents.limit_bytes} bytes of memory (--memory-limit-bytes) are used"
    )
    if tiering is None:
        text += ", and there is no --storage-path or --storage-url"
    else:
        limit = "" if tiering.limit_bytes is None else f" of {tiering.limit_bytes}"
        text += f", and {tiering.used_bytes}{limit} bytes below it (--disk-limit-bytes)"
        if tiering.writing_pause.reason:
            text += f", which fails: {tiering.writing_pause.reason}"
    return m.ObjectPutReply(message.request, m.ObjectStatus.STORAGE_FULL, text)


def _wait(state: StoreState, address: bytes, peer: Peer, message: m.ObjectPut, now: float) -> bool:
    deadline = now + state.limits.put_wait_seconds
    return state.waiting_puts.add(WaitingPut(address, peer, message, content_bytes(message.buffers), deadline))


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
    if content_bytes(message.buffers) > state.contents.limit_bytes:
        text = (
            f"an object of {size} bytes; object storage has {state.contents.limit_bytes} (--memory-limit-bytes) for all"
        )
        return m.ObjectStatus.TOO_LARGE, text
    return None


def _store(state: StoreState, peer: Peer, message: m.ObjectPut, now: float) -> tuple[m.ObjectStatus, str] | None:
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
        content = _acquire(state, message, compare)
    except TooManySharedError as error:
        return m.ObjectStatus.STORAGE_FULL, str(error)
    state.refused_puts.forget(message.id)
    name = message.name[: state.limits.name_of_object_characters_max]
    stored = StoredObject(message.id, message.owner, content, now, name, is_result=peer.role is m.Role.AGENT)
    state.catalogue.add(stored)
    state.growing.remove(message.id)
    for waiter in state.waiters.take_for(message.id):
        answer(state, waiter, stored)
    return None


def _acquire(state: StoreState, message: m.ObjectPut, compare: bool) -> Content:
    contents, tiering = state.contents, state.tiering
    if tiering is None:
        return contents.acquire(message.id, message.buffers, message.place, compare=compare)
    tiering.make_room(content_bytes(message.buffers))
    content = contents.acquire(message.id, message.buffers, message.place, compare=compare)
    tiering.added(content)
    return content


def _has_no_segment(message: m.ObjectPut) -> bool:
    return bool(message.place) and not message.buffers
