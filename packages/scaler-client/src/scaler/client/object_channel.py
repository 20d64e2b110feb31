"""The client's road to object storage: a link and a thread of its own, made when the first object needs them.

Large copies in this thread do not delay the answers of small tasks. Where the server is on this host, large objects lie in
segments (see `scaler_protocol.objects.segments`), and only places travel.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from scaler.client.link_thread import LinkThread
from scaler.client.put_outcome import PutOutcome
from scaler.client.sleepers import Sleepers
from scaler.client.snapshots import Buffer, Key, Snapshot, snapshot
from scaler.client.steps import Steps
from scaler.errors import ObjectStorageException, ScalerError
from scaler_protocol.errors import RefusedError, TransportError, WireError
from scaler_protocol.objects.segments import (
    SEGMENT_BYTES_MIN,
    SegmentPool,
    SegmentReader,
    accept_offer,
    pack_place,
    unpack_place,
)
from scaler_protocol.objects.storage import (
    CHECK_SECONDS,
    Completion,
    Done,
    Missing,
    Refused,
    StoreChanged,
    StoreRequests,
    TimedOut,
)
from scaler_protocol.objects.storage.requests import PENDING_MAX
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, encode_envelope
from scaler_protocol.wire.object_batches import joined

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger("scaler")

PENDING_BYTES_MAX = 512 * 1024 * 1024
"""Bytes of objects that are copied and not stored yet; whoever submits more of them waits."""

FETCHES_MAX = 64
"""Objects fetched at the same time."""

SOON_BYTES_MAX = 1024 * 1024
"""Smaller objects are handed to the thread without waiting for their copy."""

SOON_MAX = 16
"""Most of them that wait for the thread."""

DELETES_MAX = 32
"""Most objects of one request to delete: more would keep the server for long in one turn."""

GONE_AT_ONCE_MAX = 10_000
"""Most objects that one message names which will not come."""

LINGER_SECONDS = 2.0
"""At the end: how long to wait for objects that are being deleted."""

SETTLED_BYTES_MIN = 1024 * 1024
"""In segments: an object so large is copied for so long that the answer, a round trip on this host, may be waited for."""

SETTLE_SECONDS = 0.1
"""How long that is waited for, unless storage says that it has no room."""

WELCOME_SECONDS = 1.0
"""How long the first objects wait to know whether the server is on this host."""

_ENVELOPE = encode_envelope(UNSEQUENCED)

T = TypeVar("T")


class ObjectListener(Protocol):
    """Who wants to know what became of objects. Called by the channel's thread, without its lock."""

    @property
    def unusable(self) -> ScalerError | None:
        """Why no object is needed any more, or None. Asked by threads that wait to store one."""

    def on_object_fetched(self, number: int, buffers: Sequence[Frame]) -> None:
        """The object that answers a task has come: its buffers, header first."""

    def on_fetch_failed(self, number: int, status: m.Status, text: str) -> None:
        """The object that answers a task will not come; `text` says why."""

    def on_object_copied(self, held: bytes, key: Key, copy: Snapshot) -> None:
        """The copy of an object of `put_soon` is made, and on its way."""

    def on_object_refused(self, object_id: bytes, text: str) -> None:
        """An object was not stored; `text` says why."""

    def on_store_changed(self) -> None:
        """Another server answers, which has none of the objects stored before."""

    def on_channel_ended(self, error: BaseException) -> None:
        """The channel's thread has ended because of `error`."""


class _Put(NamedTuple):
    object_id: bytes
    # Referenced until the put is answered: its segment is not to be used again before.
    snapshot: Snapshot
    name: str
    outcome: PutOutcome


class _Get(NamedTuple):
    number: int
    object_id: bytes


class ObjectChannel:
    """Stores, fetches and deletes objects of one client.

    What threads of the application want, which may be interrupted anywhere, its own thread does for them (see
    `scaler.client.steps`); `fetch` and `delete` are for other threads of the client.
    """

    def __init__(
        self,
        address: str,
        hello: m.Hello,
        listener: ObjectListener,
        *,
        timeout_seconds: float,
        security: PeerSecurity | None,
    ) -> None:
        self._address = address
        self._owner = hello.incarnation
        self._listener = listener
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._steps = Steps()
        self._room = Sleepers()
        """Threads that wait until fewer bytes are under way."""
        self._requests = StoreRequests(hello, timeout_seconds=timeout_seconds, check_seconds=CHECK_SECONDS)
        self._puts: dict[int, _Put] = {}
        self._pending_bytes = 0
        self._is_full = False
        """Whether storage has no room for some of those bytes yet, so that nobody should add to them."""
        self._was_full = False
        """Whether it had none when it was last heard of, so that whoever adds to them had better wait for the answer."""
        self._unsendable: list[Completion] = []
        """Of requests that no message can carry: completed by the thread, in its next turn."""
        self._gets: dict[int, _Get] = {}
        self._waiting_gets: deque[_Get] = deque()
        self._unwanted: list[bytes] = []
        """Objects to delete: the thread's next turn asks for those of many calls together."""
        self._pool: SegmentPool | None = None
        self._reader: SegmentReader | None = None
        self._store_incarnation = b""
        self._is_welcomed = False
        self._welcomed = Sleepers()
        self._welcome_until = time.monotonic() + WELCOME_SECONDS
        self._has_moved = False
        """Whether the link has still to be told of another address, which only its own thread may do."""
        self._ended: str | None = None
        self._is_drained = False
        self._drained = Sleepers()
        self._closing = False
        try:
            link = DealerLink(address, new_id(security.identity_prefix if security else b""), security)
        except TransportError as error:
            raise ObjectStorageException(f"cannot connect to object storage at {address}: {error}") from None
        link.on_refused = self._on_link_refused
        self._thread = LinkThread(link, self, "scaler-objects")
        self._steps.wake = self._thread.wake
        self._thread.start()
        with self._lock:
            self._requests.introduce(time.monotonic())
            self._send_locked()

    # --- from any thread

    def put(
        self, held: bytes, buffers: Sequence[Buffer], name: str = "", *, settles: bool = False, patient: bool = True
    ) -> Snapshot:
        """Copy `buffers`, and send the copy, which is returned. `held`: the object's id, referred to until it is under way.

        The copy is in a segment where it is large and the server is on this host. Waits while too many bytes are under way,
        and for the answer where storage had no room lately; with `settles` also where that takes little beside the copy.
        With `patient` off it waits for none of these: for threads on whose work their end depends.
        Raises ObjectStorageException when room does not come free in time, or the object is refused meanwhile, and the
        listener's `unusable`.
        """
        size = sum(map(len, buffers))
        if size >= SEGMENT_BYTES_MIN and not self._is_welcomed:
            self._welcomed.sleep(self._knows_server, WELCOME_SECONDS)
        deadline = time.monotonic() + self._timeout_seconds
        outcome = PutOutcome()
        while True:
            while patient and not self._has_room(size):
                remaining = self._remaining(deadline)
                if remaining <= 0:
                    raise ObjectStorageException(
                        f"object storage at {self._address} took none of {self._pending_bytes} waiting bytes for "
                        f"{self._timeout_seconds:g} s{self._refusal_now()}"
                    )
                self._room.sleep(partial(self._has_room, size), min(remaining, 1.0))
            # Before this object is sent: its own refusal may come at once, and whoever uses the object is told of that.
            was_full = self._was_full
            copy = self._ask(partial(self._put_copy, held, buffers, size, name, outcome, patient))
            if copy is not None:
                break
        if patient and (was_full or (settles and size >= SETTLED_BYTES_MIN and copy.lease is not None)):
            self._wait_answered(outcome, _shown(held, name), deadline)
        return copy

    def _wait_answered(self, outcome: PutOutcome, shown: str, deadline: float) -> None:
        settled = min(deadline, time.monotonic() + SETTLE_SECONDS)
        while not outcome.is_answered:
            remaining = self._remaining(deadline if self._was_full else settled)
            if remaining <= 0:
                refusal = self._refusal_now()
                if not refusal:
                    # Storage is slow or away, not full: whoever uses the object is told what becomes of it.
                    return
                raise ObjectStorageException(
                    f"object {shown} is not stored: object storage at {self._address} had no room for "
                    f"{self._timeout_seconds:g} s{refusal}"
                )
            self._room.sleep(outcome.has_answer, min(remaining, SETTLE_SECONDS))
        if outcome.refusal:
            raise ObjectStorageException(outcome.refusal)

    def _remaining(self, deadline: float) -> float:
        """Return how many seconds there are until `deadline`. Raises the listener's `unusable`."""
        ended = self._listener.unusable
        if ended is not None:
            raise ended.with_traceback(None)
        return deadline - time.monotonic()

    def _refusal_now(self) -> str:
        with self._lock:
            refusal = self._requests.refusal
        return refusal and f": {refusal}"

    def put_soon(self, held: bytes, buffers: Sequence[bytes], key: Key, name: str) -> bool:
        """As `put`, without waiting: the listener is told of the copy. `buffers` never change.

        Returns False where that cannot be: for large objects, while there is no room, and while many others wait for the thread.
        """
        size = sum(map(len, buffers))
        if (
            size >= SOON_BYTES_MAX
            or self._was_full
            or not self._is_welcomed
            or self._ended is not None
            or len(self._steps.queue) >= SOON_MAX
            or self._requests.pending_count > PENDING_MAX // 2
            or not self._has_room(size)
        ):
            return False
        self._steps.do(partial(self._put_now, held, buffers, key, name))
        return True

    def settle(self) -> None:
        """Wait until the copies of all objects of `put_soon` are made. Raises ObjectStorageException."""
        self._ask(_nothing)

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._address

    @property
    def is_server_here(self) -> bool:
        """Whether the server whose welcome came last runs on this host now."""
        requests = self._requests
        return accept_offer(requests.segment_offer, requests.store_incarnation) is not None

    def move_to(self, address: str) -> None:
        """Go on with the server at another address. What waits for an answer is asked there."""
        if address != self._address:
            self._address = address
            self._has_moved = True
            self._thread.wake()

    def put_again(self, object_id: bytes, copy: Snapshot) -> None:
        """Send a copy that was sent to another server before. Raises ObjectStorageException."""
        with self._lock:
            self._start_put_locked(_Put(object_id, copy, "", PutOutcome()))
        self._thread.wake()

    def unanswered(self) -> set[bytes]:
        """Return the objects that are on their way to storage."""
        with self._lock:
            return {put.object_id for put in self._puts.values()}

    def tell_gone(self, object_ids: Sequence[bytes]) -> None:
        """Tell a new server that these objects will not come."""
        with self._lock:
            for start in range(0, len(object_ids), GONE_AT_ONCE_MAX):
                gone = m.ObjectsGone(tuple(object_ids[start : start + GONE_AT_ONCE_MAX]))
                self._requests.tell(gone, time.monotonic())
        self._thread.wake()

    def _ask(self, step: Callable[[], T]) -> T:
        if self._steps.is_owner:
            return step()
        try:
            return self._steps.ask(step, self._timeout_seconds)
        except TimeoutError:
            raise ObjectStorageException(self._ended or f"object storage at {self._address} is busy") from None

    def _put_copy(
        self, held: bytes, buffers: Sequence[Buffer], size: int, name: str, outcome: PutOutcome, patient: bool
    ) -> Snapshot | None:
        """Start to store an object; None where others were faster and there is no room any more."""
        self._require_open()
        if patient and not self._has_room(size):
            return None
        return self._copy(bytes(held), buffers, size, name, outcome)

    def _put_now(self, held: bytes, buffers: Sequence[Buffer], key: Key, name: str) -> None:
        try:
            self._require_open()
            copy = self._copy(bytes(held), buffers, sum(map(len, buffers)), name, PutOutcome())
        except ObjectStorageException as error:
            self._listener.on_object_refused(bytes(held), str(error))
            return
        self._listener.on_object_copied(held, key, copy)

    def _copy(self, object_id: bytes, buffers: Sequence[Buffer], size: int, name: str, outcome: PutOutcome) -> Snapshot:
        """Copy an object, and start to store it. The turn ends with sending it, and others with it."""
        pool = self._pool
        # Without the lock: it takes as long as reading the object.
        lease = pool.write(object_id, buffers) if pool is not None and size >= SEGMENT_BYTES_MIN else None
        copy = Snapshot(lease) if lease is not None else snapshot(buffers)
        with self._lock:
            self._start_put_locked(_Put(object_id, copy, name, outcome))
        return copy

    def _start_put_locked(self, put: _Put) -> None:
        self._require_open()
        try:
            self._put_locked(put, by_socket=False)
        except WireError as error:
            raise ObjectStorageException(str(error)) from None
        self._pending_bytes += put.snapshot.size_bytes

    def _has_room(self, size: int) -> bool:
        if self._ended is not None or not self._pending_bytes:
            return True
        return not self._is_full and self._pending_bytes + size <= PENDING_BYTES_MAX

    def _knows_server(self) -> bool:
        return self._is_welcomed

    def _has_drained(self) -> bool:
        return self._is_drained

    def fetch(self, number: int, object_id: bytes) -> None:
        """Get the object that answers a task; the listener is told what became of it."""
        with self._lock:
            ended = self._ended
            if ended is None:
                self._waiting_gets.append(_Get(number, object_id))
        if ended is None:
            self._thread.wake()
        else:
            self._listener.on_fetch_failed(number, m.Status.STORAGE_FAILED, ended)

    def delete(self, object_ids: Sequence[bytes]) -> None:
        """Delete objects; nobody is told."""
        with self._lock:
            if self._ended is None:
                self._unwanted += object_ids
        self._thread.wake()

    def close(self) -> None:
        """Stop, after what is under way has had a short while to finish. Idempotent."""
        self._closing = True
        self._thread.wake()
        if not self._steps.is_owner:
            deadline = time.monotonic() + LINGER_SECONDS
            while not self._is_drained and (remaining := deadline - time.monotonic()) > 0:
                self._drained.sleep(self._has_drained, remaining)
        self._thread.stop()
        if not self._steps.is_owner:
            self._thread.wait_ended(LINGER_SECONDS)

    # --- the thread's

    def on_messages(self, messages: list[list[Frame]]) -> None:
        """See `LinkOwner`."""
        completions: list[Completion] = []
        for frames in messages:
            try:
                message = decode(frames[1:])
            except WireError:
                # Whatever speaks so is no object storage server; requests time out.
                continue
            with self._lock:
                completions += self._requests.receive(message, time.monotonic())
                self._note_room()
            if isinstance(message, m.Welcome):
                self._on_welcome()
            elif isinstance(message, m.Refused):
                self._set_welcomed()
        self._finish(completions)

    def on_start(self, ident: int) -> None:
        """See `LinkOwner`."""
        self._steps.owner_ident = ident

    def before_sleep(self) -> None:
        """See `LinkOwner`: nobody waits to be told."""
        return

    def on_turn(self) -> None:
        """See `LinkOwner`."""
        # Before the steps: whatever is deleted was handed over before that, and is put now if it was not yet.
        with self._lock:
            unwanted, self._unwanted = self._unwanted, []
        while self._steps.queue:
            self._steps.queue.popleft()()
        if self._has_moved:
            self._has_moved = False
            self._follow()
        with self._lock:
            completions = self._requests.tick(time.monotonic())
            completions += self._unsendable
            self._unsendable.clear()
        self._finish(completions)
        with self._lock:
            self._fill_gets_locked()
            self._delete_locked(unwanted)
            self._send_locked()
            if self._unsendable:
                self._thread.wake()
            if self._closing and not self._requests.pending_count and not self._unwanted:
                self._set_drained()

    def next_deadline(self) -> float:
        """See `LinkOwner`."""
        with self._lock:
            due = self._requests.next_deadline()
            waits = bool(self._waiting_gets) and not self._is_welcomed
            return min(due, self._welcome_until) if waits else due

    def on_end(self, error: BaseException | None) -> None:
        """See `LinkOwner`: fail what waits."""
        with self._lock:
            # The scheduler's word may have come while objects were on their way, which the server has taken since.
            self._delete_locked(self._unwanted)
            self._requests.leave("the client has ended")
            self._send_locked()
            self._ended = f"the connection to object storage at {self._address} has ended" + (
                f": {error!r}" if error is not None else ""
            )
            fetches = [get.number for get in (*self._gets.values(), *self._waiting_gets)]
            self._gets.clear()
            self._waiting_gets.clear()
            puts = list(self._puts.values())
            self._puts.clear()
            pool, self._pool = self._pool, None
        for put in puts:
            put.outcome.answered(self._ended)
        self._steps.close()
        self._room.wake()
        self._set_drained()
        self._set_welcomed()
        if pool is not None:
            pool.close()
        for number in fetches:
            self._listener.on_fetch_failed(number, m.Status.STORAGE_FAILED, self._ended)
        if error is not None:
            self._listener.on_channel_ended(error)

    # --- internal

    def _on_link_refused(self, error: RefusedError) -> None:
        # The link calls this in the middle of receiving: the turn that follows takes the step.
        self._steps.queue.append(partial(self._refuse, str(error)))

    def _refuse(self, reason: str) -> None:
        with self._lock:
            completions = self._requests.on_link_refused(reason, time.monotonic())
        self._finish(completions)

    def _follow(self) -> None:
        try:
            self._thread.redirect(self._address)
        except TransportError as error:
            # Requests are repeated until their time is over, and another address may be told by then.
            logger.error("cannot connect to object storage at %s: %s", self._address, error)

    def _set_welcomed(self) -> None:
        self._is_welcomed = True
        self._welcomed.wake()

    def _set_drained(self) -> None:
        self._is_drained = True
        self._drained.wake()

    def _require_open(self) -> None:
        if self._ended is not None:
            raise ObjectStorageException(self._ended)

    def _fill_gets_locked(self) -> None:
        if not self._is_welcomed and time.monotonic() < self._welcome_until:
            return
        while self._waiting_gets and len(self._gets) < FETCHES_MAX:
            self._get_locked(self._waiting_gets.popleft(), mappable=self._reader is not None)

    def _get_locked(self, get: _Get, *, mappable: bool) -> None:
        # Whoever answered the task has stored the object before, so there is nothing to wait for.
        self._gets[self._requests.get(get.object_id, time.monotonic(), mappable=mappable)] = get

    def _delete_locked(self, unwanted: Sequence[bytes]) -> None:
        try:
            for start in range(0, len(unwanted), DELETES_MAX):
                self._requests.delete(unwanted[start : start + DELETES_MAX], self._owner, time.monotonic())
        except WireError:
            # Far too many requests are unanswered: these go when their client goes.
            return

    def _put_locked(self, put: _Put, *, by_socket: bool) -> None:
        lease = None if by_socket else put.snapshot.lease
        buffers = put.snapshot.buffers() if lease is None else ()
        place = b"" if lease is None else pack_place(lease.place)
        request = self._requests.put(put.object_id, self._owner, buffers, time.monotonic(), name=put.name, place=place)
        self._puts[request] = put

    def _put_again_locked(self, put: _Put, completion: Completion) -> bool:
        """Send the bytes of an object whose segment the server cannot open: one just started, or of another user."""
        if not isinstance(completion, Refused) or completion.status is not m.ObjectStatus.NO_SEGMENT:
            return False
        try:
            self._put_locked(put, by_socket=True)
        except WireError:
            # More than a message can carry, or far too many requests: what the server said stands.
            return False
        return True

    def _on_welcome(self) -> None:
        """A store we have not seen before: see whether it is on this host."""
        incarnation = self._requests.store_incarnation
        if incarnation != self._store_incarnation:
            self._store_incarnation = incarnation
            token = accept_offer(self._requests.segment_offer, incarnation)
            pool, self._pool = self._pool, SegmentPool(token) if token is not None else None
            if token is None:
                self._reader = None
            elif self._reader is None:
                self._reader = SegmentReader()
            if pool is not None:
                # Its segments bear the token of another server.
                pool.close()
        self._set_welcomed()

    def _send_locked(self) -> None:
        for message in joined(self._requests.take_outgoing()):
            try:
                frames = encode(message)
            except WireError as error:
                self._unsendable += self._requests.refuse(message, str(error), time.monotonic())
                continue
            self._thread.send([_ENVELOPE, *frames])

    def _finish(self, completions: Sequence[Completion]) -> None:
        listener = self._listener
        for completion in completions:
            if isinstance(completion, StoreChanged):
                listener.on_store_changed()
                continue
            with self._lock:
                put = self._puts.pop(completion.request, None)
                get = self._gets.pop(completion.request, None)
                if put is not None:
                    if self._put_again_locked(put, completion):
                        continue
                    self._pending_bytes -= put.snapshot.size_bytes
            if put is not None:
                with self._lock:
                    self._note_room()
                if isinstance(completion, Done):
                    self._was_full = self._is_full
                    put.outcome.answered()
                else:
                    put.outcome.answered(self._not_stored(put, completion))
                self._room.wake()
            if get is not None:
                number = get.number
                if isinstance(completion, Done):
                    buffers = self._buffers_of(completion)
                    if buffers is not None:
                        listener.on_object_fetched(number, buffers)
                    else:
                        with self._lock:
                            self._get_locked(get, mappable=False)
                elif isinstance(completion, Missing):
                    listener.on_fetch_failed(
                        number,
                        m.Status.MISSING_OBJECT,
                        f"the result of task {number} (object {get.object_id.hex()}) is not in object storage any more",
                    )
                else:
                    listener.on_fetch_failed(number, m.Status.STORAGE_FAILED, self._describe(completion))
            elif put is not None and not isinstance(completion, Done):
                listener.on_object_refused(put.object_id, put.outcome.refusal)

    def _buffers_of(self, done: Done) -> Sequence[Frame] | None:
        """Return the buffers of a fetched object; None where it is at a place we cannot open."""
        if not done.place:
            return done.buffers
        return self._reader.read(unpack_place(done.place)) if self._reader is not None else None

    def _note_room(self) -> None:
        self._is_full = bool(self._requests.refusal)
        if self._is_full:
            self._was_full = True

    def _not_stored(self, put: _Put, completion: Completion) -> str:
        return f"object {_shown(put.object_id, put.name)} is not stored: {self._describe(completion)}"

    def _describe(self, completion: Completion) -> str:
        if isinstance(completion, Refused):
            return f"object storage at {self._address} refused: {completion.text}"
        assert isinstance(completion, TimedOut | Missing)
        seconds = completion.seconds if isinstance(completion, TimedOut) else 0.0
        return f"object storage at {self._address} did not answer for {seconds:.1f} s"


def _shown(object_id: bytes, name: str) -> str:
    return f"{name!r} ({object_id.hex()})" if name else object_id.hex()


def _nothing() -> None:
    return
