"""Large objects in pieces: ObjectGet answered with a layout, a piece or sources, and ObjectPut of what is not whole yet."""

from __future__ import annotations

from array import array

from scaler_objstore.core.catalogue import StoredObject
from scaler_objstore.core.growing import GrowingObject
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import Buffers
from scaler_objstore.core.waiters import Waiter
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Frame, raw_view


def answer(state: StoreState, waiter: Waiter, stored: StoredObject) -> None:
    """Answer a get of an object that is in memory: with its place, its bytes, a piece of them or their layout."""
    content = stored.content
    if waiter.size:
        buffers = state.contents.read(content)
        _send_piece(state, waiter, buffers, sum(map(len, buffers)))
    elif (
        waiter.pieces
        and not (waiter.mappable and content.place)
        and content.size_bytes >= state.limits.pieces_object_bytes_min
        and not _is_read_once(stored, waiter.peer)
    ):
        _send_layout(state, waiter, stored.owner, content.lengths)
    else:
        state.send(waiter.peer, state.data(waiter.request, waiter.object_id, content, waiter.mappable))


def answer_growing(state: StoreState, waiter: Waiter, growing: GrowingObject) -> bool:
    """Answer a get of an object that is not whole yet. Returns False if it has to wait."""
    if waiter.size and waiter.offset + waiter.size <= growing.filled:
        _send_piece(state, waiter, growing.buffers, growing.filled)
        return True
    if waiter.pieces and not waiter.size:
        _send_layout(state, waiter, growing.owner, growing.lengths)
        return True
    return False


def put_incomplete(
    state: StoreState, address: bytes, message: m.ObjectPut, refusal: tuple[m.ObjectStatus, str] | None
) -> None:
    """Begin an object of which no byte is there yet; or, with request 0, note how many are."""
    growing = state.growing.find(message.id)
    if not message.request:
        if growing is not None and growing.peer == address and message.filled > growing.filled:
            growing.filled = message.filled
            _answer_waiters(state, growing)
        return
    if refusal is None and message.place and not message.buffers:
        refusal = m.ObjectStatus.NO_SEGMENT, f"the segment of object {short(message.id)} cannot be opened here"
    if refusal is None and state.catalogue.find(message.id) is None:
        # Asked for again, it goes on with what was there.
        filled = growing.filled if growing is not None and growing.peer == address else 0
        growing = GrowingObject(message.id, message.owner, address, message.buffers, filled)
        if state.growing.add(growing):
            state.gone.discard(message.id)
            _answer_waiters(state, growing)
        else:
            refusal = m.ObjectStatus.STORAGE_FULL, "too many objects are being fetched into this store"
    state.send(address, m.ObjectPutReply(message.request, *(refusal or ())))


def send_sources(state: StoreState, address: bytes, peer: Peer, message: m.ObjectGet, now: float) -> None:
    """Tell an agent from which stores to fetch an object into its own."""
    held = state.homes.find(message.id)
    present = [] if held is None else [home for home in held.homes.values() if home.away_since is None]
    stores = [home.address for home in present if home.peer != address]
    if state.catalogue.find(message.id) is not None:
        stores.append("")
    if not stores or peer.role is not m.Role.AGENT:
        state.send(address, m.ObjectData(message.request, message.id, missing=True))
        return
    addresses = state.chains.join(message.id, address, message.keeps_at, stores, now)
    state.send(address, m.ObjectHomes(message.request, message.id, tuple(addresses)))


def _is_read_once(stored: StoredObject, reader: bytes) -> bool:
    """Whether nobody but this reader has asked for a result. To fetch it in pieces and keep a copy takes longer than whole."""
    if not stored.is_result or stored.first_reader not in (b"", reader):
        return False
    stored.first_reader = reader
    return True


def _answer_waiters(state: StoreState, growing: GrowingObject) -> None:
    for waiter in state.waiters.take_for(growing.id):
        if not answer_growing(state, waiter, growing):
            state.waiters.add(waiter)


def _send_layout(state: StoreState, waiter: Waiter, owner: bytes, lengths: tuple[int, ...]) -> None:
    state.send(waiter.peer, m.ObjectLayout(waiter.request, waiter.object_id, owner, array("Q", lengths)))


def _send_piece(state: StoreState, waiter: Waiter, buffers: Buffers, filled: int) -> None:
    if waiter.offset + waiter.size > filled:
        state.send(waiter.peer, m.ObjectData(waiter.request, waiter.object_id, missing=True))
    else:
        state.send(
            waiter.peer, state.bytes_of(waiter.request, waiter.object_id, _cut(buffers, waiter.offset, waiter.size))
        )


def _cut(buffers: Buffers, offset: int, size: int) -> list[Frame]:
    """Return `size` bytes from `offset` on, of all buffers one after another, without copying."""
    found: list[Frame] = []
    for buffer in buffers:
        length = len(buffer)
        if offset < length and size:
            part = raw_view(buffer)[offset : offset + size]
            found.append(part)
            size -= len(part)
        offset = max(0, offset - length)
    return found
