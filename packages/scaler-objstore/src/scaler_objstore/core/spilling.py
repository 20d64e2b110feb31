"""What the events of the tier below memory change, and what is asked of it: everything between `Tiering` and the other tables."""

from __future__ import annotations

from scaler_objstore.core import effects, events
from scaler_objstore.core.catalogue import StoredObject
from scaler_objstore.core.commands.put import attempt, refuse_full
from scaler_objstore.core.spill_header import pack_header, unpack_header
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import StorageFullError
from scaler_objstore.core.tiering import RETRY_SECONDS, Copy, Pause, Tiering, memory_bytes
from scaler_protocol.runtime.counted import counted

OBJECTS_NAMED_MAX = 5


def on_tier_event(state: StoreState, tiering: Tiering, event: events.TierEvent, now: float) -> None:
    """Note what the tier below has done or failed to do."""
    if isinstance(event, events.Spilled):
        _works(state, tiering.writing_pause)
        _discard(state, tiering.written(event.name))
    elif isinstance(event, events.SpillFailed):
        _fails(state, tiering.writing_pause, event.text)
        tiering.not_written(event.name, event.text, now)
        # It may have been written after all.
        _discard(state, event.name)
    elif isinstance(event, events.Loaded):
        _on_loaded(state, tiering, event)
    elif isinstance(event, events.LoadFailed):
        _on_load_failed(state, tiering, event, now)
    else:
        _on_restored(state, tiering, event, now)


def settle(state: StoreState, tiering: Tiering, now: float) -> None:
    """Answer puts that have room now, or will not have it. Then have written and read what is due."""
    puts = state.waiting_puts
    _start_spills(state, tiering, now)
    while (put := puts.first()) is not None:
        reply = attempt(state, put.peer, put.message, now)
        if reply is None:
            if tiering.is_writing and now < put.deadline:
                break
            state.refused_puts.note(put.message.id, now)
            reply = refuse_full(state, put.message)
        puts.remove(put)
        state.send(put.address, reply)
        _start_spills(state, tiering, now)
    for copy in tiering.loads(now):
        state.outbox.add(effects.Load(copy.name))
    # Whoever still wants these asks again.
    state.load_waiters.take_expired(now)


def _start_spills(state: StoreState, tiering: Tiering, now: float) -> None:
    put = state.waiting_puts.first()
    for copy in tiering.spills(0 if put is None else put.size_bytes, now):
        content = copy.content
        objects = [(object_id, state.owner_of(object_id)) for object_id in sorted(content.object_ids)]
        header = pack_header(objects, content.lengths)
        state.outbox.add(effects.Spill(copy.name, header, state.contents.read(content)))


def _discard(state: StoreState, name: str | None) -> None:
    if name is not None:
        state.outbox.add(effects.Discard((name,)))


def _works(state: StoreState, pause: Pause) -> None:
    if pause.end():
        state.log("the storage below memory works again", is_error=False)


def _fails(state: StoreState, pause: Pause, text: str) -> None:
    if not pause.reason:
        state.log(f"the storage below memory fails, and is tried again every {RETRY_SECONDS:g} s: {text}")


def _on_loaded(state: StoreState, tiering: Tiering, event: events.Loaded) -> None:
    copy = tiering.read(event.name)
    _works(state, tiering.reading_pause)
    if copy.is_released:
        _discard(state, tiering.forget_released(copy))
        return
    content = copy.content
    is_kept = False
    # Nothing that is only in memory makes room for what is also below.
    if tiering.make_room(memory_bytes(content)):
        try:
            state.contents.bring_back(content, event.buffers, event.place)
        except StorageFullError:
            is_kept = False
        else:
            tiering.loaded(copy)
            is_kept = True
    for object_id in sorted(content.object_ids):
        for waiter in state.load_waiters.take_for(object_id):
            if is_kept:
                answer = state.data(waiter.request, object_id, content, waiter.mappable)
            else:
                answer = state.bytes_of(waiter.request, object_id, event.buffers)
            state.send(waiter.peer, answer)


def _on_load_failed(state: StoreState, tiering: Tiering, event: events.LoadFailed, now: float) -> None:
    copy = tiering.read(event.name)
    if copy.is_released:
        _discard(state, tiering.forget_released(copy))
    elif event.is_lost:
        _lose(state, copy, event.text)
    else:
        _fails(state, tiering.reading_pause, event.text)
        tiering.reading_pause.begin(event.text, now)
        tiering.want(copy.content)


def _lose(state: StoreState, copy: Copy, text: str) -> None:
    lost = sorted(copy.content.object_ids)
    named = ", ".join(object_id.hex() for object_id in lost[:OBJECTS_NAMED_MAX])
    state.log(f"{counted(len(lost), 'object')} {'is' if len(lost) == 1 else 'are'} lost ({named}): {text}")
    for object_id in lost:
        stored = state.catalogue.find(object_id)
        assert stored is not None
        state.free(stored)


def _on_restored(state: StoreState, tiering: Tiering, event: events.Restored, now: float) -> None:
    dropped: list[str] = []
    for found in event.contents:
        header = unpack_header(found.header)
        objects = [] if header is None else header.objects
        wanted = {object_id: owner for object_id, owner in objects if state.catalogue.find(object_id) is None}
        if header is None or not wanted:
            dropped.append(found.name)
            continue
        content = state.contents.add_stored(found.name, header.lengths, set(wanted))
        tiering.restored(found.name, content)
        for object_id, owner in wanted.items():
            state.catalogue.add(StoredObject(object_id, owner, content, now))
    for owner in state.catalogue.owners():
        state.leases.renew(owner, now)
    if dropped:
        state.outbox.add(effects.Discard(tuple(dropped)))
    if event.contents:
        text = f"{len(state.catalogue)} objects of earlier processes are there again, {tiering.used_bytes} bytes"
        state.log(f"{text}; {len(dropped)} that cannot be read are dropped", is_error=False)
