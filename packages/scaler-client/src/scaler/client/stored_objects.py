"""A client's objects in storage: the large values it hands over, the references it gives out, and who uses which.

Its parts: the uses of objects that threads of the application hold (`object_uses`), copies of recent values (`snapshots`), and
the link to object storage (`object_channel`), which is made when the first object needs it.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from scaler import errors
from scaler.client.core_owner import CoreOwner
from scaler.client.object_channel import SOON_BYTES_MAX, ObjectChannel
from scaler.client.object_reference import InnerReferences, ObjectReference, keepers
from scaler.client.object_uses import HeldObject, InnerObject, ObjectUse, UsesByReference, take_out_inner
from scaler.client.reference_table import FOR_GOOD, ReferenceGroup, ReferenceTable
from scaler.client.snapshots import Buffer, Key, Snapshot, Snapshots, flat, key_of
from scaler.client.stored_results import StoredResults
from scaler.core import effects, events
from scaler.serialization.arguments import object_buffers, require_storable
from scaler.serialization.faults import explain
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger("scaler")

COMING_MAX = 4096
"""Most values that are known to be on their way to the channel."""

LOOK_SECONDS = 0.25
"""While there are references: how often is looked whether one is gone, so that its object is deleted soon."""


class StoredObjects:
    """See the module. The sink of `serialization.arguments`, and the listener of the channel to object storage."""

    def __init__(
        self,
        owner: CoreOwner,
        hello: m.Hello,
        address: Callable[[], str],
        security: Callable[[], PeerSecurity | None],
    ) -> None:
        """`address` returns where large values go now; an empty text where that is nowhere. `security` returns the keys."""
        self._owner = owner
        self._core = owner.core
        self._hello = hello
        self._address = address
        self._security = security
        self._uses = UsesByReference(owner.steps.queue.append)
        self.take_over = self._uses.take_over
        """See `UsesByReference.take_over`: ends uses that a task or a graph takes over. In the owner's thread."""
        self._results = StoredResults(owner, self._uses)
        self._channel: ObjectChannel | None = None
        self._is_closed = False
        self._snapshots = Snapshots()
        self._looks_at_shared = False
        """Whether a step waits that looks for values which only their copies keep alive."""
        self._stored: set[bytes] = set()
        """What this client has given to storage itself, and uses: known to the channel, or stored already."""
        self._coming: set[Key] = set()
        """Of values whose copies will be among them: handed to the channel, and not copied yet."""
        self._references = ReferenceTable()
        self._tickets = itertools.count(FOR_GOOD + 1)
        self._inner: dict[bytes, tuple[bytes, ...]] = {}
        """The uses that the references inside stored objects stand for, by the outer object."""
        keepers[owner.client_id] = self

    # --- from any thread

    def store(self, buffers: Sequence[Buffer]) -> bytes:
        """Keep a copy of `buffers` in object storage and count one use of it. Equal content is sent once."""
        return self._store(buffers, "")

    def resolve(self, reference: ObjectReference) -> bytes:
        """Count one use of a reference's object.

        Raises MissingObjects for one that was released or cleared, ObjectStorageException for one that storage has refused.
        """
        return HeldObject(self._use_of(reference, self._count))

    def hold_inner(self, references: Sequence[ObjectReference]) -> tuple[bytes, ...]:
        """Count one use of each object that references inside a value name. Other clients keep theirs. Raises as `resolve`."""
        mine = [reference for reference in references if reference.owner == self._owner.client_id]
        return tuple([InnerObject(self._use_of(reference, self._count_inner)) for reference in mine])

    def _use_of(self, reference: ObjectReference, count: Callable[[ObjectUse], None]) -> ObjectUse:
        object_id, share = reference.object_id, reference.share
        use = ObjectUse(object_id)
        if reference.is_released:
            raise errors.MissingObjects(
                f"object reference {_shown(reference)} was released: keep it until its last use"
            )
        refusal = self._core.refusal_of(object_id)
        if refusal:
            # Whoever sent it may have gone on before storage had answered.
            raise errors.ObjectStorageException(refusal)
        if share is not None and share.reference is not None:
            # Counted: so is this, before the end of the share can be. Who submits wakes the owner.
            self._owner.steps.queue.append(partial(count, use))
        elif not self._owner.ask(partial(self._count_use_of, reference, use, count)):
            raise errors.MissingObjects(f"object reference {_shown(reference)} was cleared, or released")
        return use

    def hold(self, object_id: bytes) -> bytes:
        """Count one more use of an object that has one, and return it."""
        use = ObjectUse(object_id)
        self._owner.steps.do(partial(self._count, use))
        return HeldObject(use)

    def release(self, object_ids: Sequence[bytes]) -> None:
        """Undo one use of each now. It ends by itself when the last reference to what `store` and the others returned is gone."""
        named, _ = take_out_inner(object_ids)
        if named:
            self._owner.steps.do(partial(self._release_uses, named))

    def send_object(self, value: Any, name: str, group: ReferenceGroup) -> ObjectReference:
        """Store `value`, and return a reference, which belongs to `group`."""
        with InnerReferences() as references:
            try:
                buffers = object_buffers(value)
            except Exception as error:
                raise errors.SerializationError(explain("the object", value, error)) from error
        require_storable(buffers, "the object")
        inner = self.hold_inner(references)
        held = self._store(buffers, name, settles=True)
        share = ObjectUse(bytes(held))
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        # Before the use that `held` stands for ends.
        self._owner.steps.do(partial(self._count_first, share, group, inner))
        return ObjectReference.with_share(share, self._owner.client_id, name, size)

    def keep(self, object_id: bytes, group: ReferenceGroup, inner: tuple[bytes, ...]) -> ObjectReference:
        """Return a reference, which belongs to `group`, to a result that stays in storage.

        `inner`: uses of objects that references inside of the result may name.
        """
        share = ObjectUse(object_id)
        self._owner.steps.do(partial(self._count_kept, share, group, inner))
        return ObjectReference.with_share(share, self._owner.client_id, "", 0)

    def drop_references(self, group: ReferenceGroup) -> None:
        """References of this group are not valid any more. In the owner's thread."""
        references, objects = self._references.drop(group)
        ended: list[bytes] = []
        for reference in references:
            share = reference()
            if share is not None:
                share.reference = None
            ended += self._uses.died(reference)
        self._core.release_objects((*ended, *objects))

    # --- ReferenceKeeper

    def share_in(self, object_id: bytes, ticket: int) -> ObjectUse | None:
        """See `ReferenceKeeper`."""
        owner = self._owner
        if owner.forked or owner.steps.closed:
            return None
        share = ObjectUse(object_id)
        owner.steps.do(partial(self._count_share, share, ticket))
        return share

    def ticket_for(self, reference: ObjectReference) -> int:
        """See `ReferenceKeeper`."""
        owner = self._owner
        if owner.forked or owner.steps.closed:
            return 0
        ticket = next(self._tickets)
        owner.steps.do(partial(self._count_ticket, reference, ticket))
        return ticket

    def look_soon(self) -> None:
        """See `ReferenceKeeper`."""
        if not self._owner.forked:
            self._owner.steps.wake()

    def look_before(self, deadline: float) -> float:
        """Return when to look for steps again at the latest. Nobody is woken when a reference goes: that may be anywhere."""
        shared = self._snapshots.has_shared
        if shared and not self._looks_at_shared:
            self._looks_at_shared = True
            self._owner.steps.queue.append(self._drop_unshared)
        if self._results:
            self._results.fetch_old()
        looks = shared or self._references or self._results
        return min(deadline, time.monotonic() + LOOK_SECONDS) if looks else deadline

    def _store(self, buffers: Sequence[Buffer], name: str, *, settles: bool = False) -> bytes:
        owner = self._owner
        owner.check_process()
        self._core.admission.require_usable()
        if not self._address() and owner.welcome is None and not owner.must_not_wait():
            # A client inside a task is used before the scheduler has answered it, and only that answer says where.
            owner.wait_connected(owner.timeout_seconds)
        channel = self._channel
        if channel is None or channel.address != self._address():
            channel = owner.ask(self._open_channel)
        flattened = [flat(buffer) for buffer in buffers]
        key = key_of(flattened)
        if key in self._coming:
            # Its copy is being made: wait for that rather than send the same once more.
            channel.settle()
        if key in self._coming or self._snapshots.may_have(key):
            # Compared in this thread: it takes as long as reading the object.
            for held, kept in owner.ask(partial(self._hold_candidates, key)):
                if kept.equals(flattened):
                    return held
        use = ObjectUse(new_id())
        held = HeldObject(use)
        # Counted before it is stored: should this thread be interrupted, the end of the use is what has it deleted again.
        size = sum(map(len, flattened))
        owner.steps.do(partial(self._count, use, size))
        if size < SOON_BYTES_MAX:
            # One more copy of a small value costs less than waiting for another thread to make it.
            unchanging = [buffer if type(buffer) is bytes else bytes(buffer) for buffer in flattened]
            if len(self._coming) >= COMING_MAX:
                # Some were not stored. What is forgotten here is at worst sent twice.
                self._coming.clear()
            self._coming.add(key)
            if channel.put_soon(held, unchanging, key, name):
                return held
            flattened = [*unchanging]
        copy = channel.put(held, flattened, name, settles=settles, patient=not owner.must_not_wait())
        owner.steps.do(partial(self._keep_copy, held, key, copy))
        return held

    # --- the owner's, with the lock held

    def use_ended(self, reference: weakref.ref[ObjectUse]) -> None:
        """Nobody holds a use any more that was counted: the step that the end of a use appends by itself."""
        ended = self._uses.died(reference)
        self._results.use_ended(reference)
        for object_id in ended:
            self._references.end(reference, object_id)
        self._core.release_objects(ended)

    def _count(self, use: ObjectUse, size: int = 0) -> None:
        self._core.hold_object(use.object_id, size)
        self._uses.count(use)

    def _count_inner(self, use: ObjectUse) -> None:
        """As `_count`, for a use as good as a reference: what its task returns may become one."""
        group = self._references.group_of(use.object_id)
        self._count(use)
        if group is not None:
            self._references.add(use, group)

    def _count_use_of(self, reference: ObjectReference, use: ObjectUse, count: Callable[[ObjectUse], None]) -> bool:
        object_id = reference.object_id
        if reference.owner == self._owner.client_id:
            # One that was cleared has a share that does not count.
            if reference.share is not None and reference.share.reference is None:
                return False
            if self._references.group_of(object_id) is None:
                return False
        elif not self._core.holds_object(object_id):
            # Another client's: never ours to delete, so one use of it stays counted.
            self._core.hold_object(object_id, reference.size_bytes)
        count(use)
        return True

    def _count_first(self, share: ObjectUse, group: ReferenceGroup, inner: tuple[bytes, ...]) -> None:
        """`share` is that of the first reference to an object whose value has references inside, to the objects `inner`."""
        if inner:
            self._inner.setdefault(share.object_id, inner)
        self._count(share)
        self._references.add(share, group)

    def _count_kept(self, share: ObjectUse, group: ReferenceGroup, inner: tuple[bytes, ...]) -> None:
        """As `_count_first`, for the result of a task."""
        self._count_first(share, group, inner)
        self._core.note_result(share.object_id)
        self._meet_storage()

    def _count_share(self, share: ObjectUse, ticket: int) -> None:
        object_id = share.object_id
        taken = self._references.take_ticket(object_id, ticket)
        group = taken if taken is not None else self._references.group_of(object_id)
        if group is None:
            # Its object was freed before: the reference is not valid.
            return
        self._count(share)
        self._references.add(share, group)
        if taken is not None:
            self._core.release_objects((object_id,))

    def _count_ticket(self, reference: ObjectReference, ticket: int) -> None:
        object_id = reference.object_id
        group = self._references.group_of(object_id)
        if group is not None and self._references.add_ticket(object_id, ticket, group):
            self._core.hold_object(object_id)

    def _release_uses(self, object_ids: Sequence[bytes]) -> None:
        self._core.release_objects(self._uses.take_over(object_ids))

    def _hold_candidates(self, key: Key) -> list[tuple[HeldObject, Snapshot]]:
        found = []
        for object_id, kept in self._snapshots.candidates(key):
            # One that nobody uses any more is deleted when this turn ends, and its copy forgotten only then. The copy of one
            # that was refused at once may have been kept after that.
            if not self._core.holds_object(object_id) or self._core.is_refused(object_id):
                continue
            use = ObjectUse(object_id)
            self._count(use)
            found.append((HeldObject(use), kept))
        return found

    def _keep_copy(self, held: bytes, key: Key, copy: Snapshot) -> None:
        self._coming.discard(key)
        if self._core.holds_object(bytes(held)):
            # Otherwise its task was cancelled meanwhile, and it is deleted already.
            self._stored.add(bytes(held))
            self._snapshots.add(bytes(held), key, copy)
        left = self._snapshots.left()
        # With a server that ends, all copies look like this, and are needed for the next one.
        if left and self._channel is not None and self._channel.is_server_here:
            self._forget_copies(left)

    def _drop_unshared(self) -> None:
        self._looks_at_shared = False
        self._snapshots.drop_unshared()

    def forget(self, object_ids: Sequence[bytes]) -> None:
        """These objects are about to be deleted: no use of their copies may begin."""
        self._stored.difference_update(object_ids)
        for object_id in object_ids:
            self._inner.pop(object_id, None)
        self._forget_copies(object_ids)

    def _forget_copies(self, object_ids: Sequence[bytes]) -> None:
        for object_id in object_ids:
            self._snapshots.drop(object_id)

    # --- the link to object storage

    def _open_channel(self) -> ObjectChannel:
        """Return the channel to where large values go now; made when it is first needed. With the lock held."""
        address = self._address()
        if self._channel is not None:
            # A scheduler that was started again may have its object storage elsewhere.
            self._channel.move_to(address or self._channel.address)
        elif address:
            try:
                security = self._security()
            except ValueError as error:
                raise errors.ObjectStorageException(f"large values cannot be stored: {error}") from None
            self._channel = ObjectChannel(
                address, self._hello, self, timeout_seconds=self._owner.timeout_seconds, security=security
            )
            if self._is_closed:
                # Meanwhile, or before: `close` has not found it.
                self._channel.close()
        else:
            raise errors.ObjectStorageException(
                "this cluster has no object storage server, and the value is too large to travel without one"
            )
        return self._channel

    def _meet_storage(self) -> ObjectChannel | None:
        """Open the channel, unless it is there: by it this client learns of a new server, which it tells of lost results.

        Returns None where that cannot be, or this client has closed: all that is left goes with it. With the lock held.
        """
        if self._channel is None and not self._is_closed:
            try:
                self._open_channel()
            except errors.ScalerError:
                return None
        return self._channel

    def follow_storage(self) -> None:
        """Have what waits for an answer of object storage asked where it is now. Without the lock."""
        if self._channel is not None:
            with self._owner.lock:
                self._open_channel()

    def fetch(self, fetch: effects.FetchObject) -> None:
        """Get the object that answers a task, and give it to the core, unless it stays where it is. Without the lock."""
        if self._results.leave(fetch):
            self._owner.steps.do(self._meet_storage)
            return
        try:
            with self._owner.lock:
                channel = self._open_channel()
            channel.fetch(fetch.number, fetch.object_id)
        except errors.ScalerError as error:
            self.on_fetch_failed(fetch.number, m.Status.STORAGE_FAILED, str(error))

    def delete(self, object_ids: Sequence[bytes]) -> None:
        """Delete objects. Without the lock."""
        channel = self._channel
        if channel is None:
            # Results: workers have stored them.
            with self._owner.lock:
                channel = self._meet_storage()
        if channel is not None:
            channel.delete(object_ids)

    def close(self) -> None:
        """Close the channel. Idempotent."""
        self._is_closed = True
        channel = self._channel
        if channel is not None:
            channel.close()

    # --- ObjectListener: the channel's thread

    @property
    def unusable(self) -> errors.ScalerError | None:
        """Why no object is needed any more, or None."""
        return self._core.unusable

    def on_object_fetched(self, number: int, buffers: Sequence[Frame]) -> None:
        """The object that answers a task has come."""
        self._owner.steps.queue.append(partial(self._results.note_fetched, number, sum(map(len, buffers))))
        self._owner.handle(events.ObjectFetched(number, buffers))

    def on_fetch_failed(self, number: int, status: m.Status, text: str) -> None:
        """The object that answers a task will not come."""
        self._owner.handle(events.ObjectFetchFailed(number, status, text))

    def on_object_copied(self, held: bytes, key: Key, copy: Snapshot) -> None:
        """See `ObjectListener`."""
        self._owner.steps.do(partial(self._keep_copy, held, key, copy))

    def on_object_refused(self, object_id: bytes, text: str) -> None:
        """An object could not be stored."""
        with self._owner.lock:
            self._snapshots.drop(object_id)
        self._owner.handle(events.ObjectRefused(object_id, text))

    def on_store_changed(self) -> None:
        """The new server may have none of our objects: give it those that are still at hand, and name the others."""
        channel = self._channel
        assert channel is not None
        # In this order: what is answered in between is kept.
        coming = channel.unanswered()
        with self._owner.lock:
            kept = self._snapshots.all()
            # A result that the new server was given before this client knew of it, or found on its disk, it keeps.
            gone = self._stored.union(self._core.stored_results)
            gone.difference_update(coming, (object_id for object_id, _ in kept))
            self._results.forget_kept()
        channel.tell_gone(list(gone))
        logger.warning("the object storage server was replaced; %d recent objects are sent to it again", len(kept))
        threading.Thread(target=self._store_again, args=(kept,), name="scaler-objects-again", daemon=True).start()

    def on_channel_ended(self, error: BaseException) -> None:
        """The channel's thread has ended."""
        logger.error("the connection to object storage ended: %r", error)

    def _store_again(self, kept: Sequence[tuple[bytes, Snapshot]]) -> None:
        channel = self._channel
        for object_id, copy in kept:
            with self._owner.lock:
                wanted = self._core.holds_object(object_id)
            if channel is not None and wanted:
                try:
                    channel.put_again(object_id, copy)
                except errors.ObjectStorageException as error:
                    self.on_object_refused(object_id, str(error))


def _shown(reference: ObjectReference) -> str:
    return f"{reference.name!r} ({reference.object_id.hex()})" if reference.name else reference.object_id.hex()
