"""The client's road to object storage: a link and a thread of its own, made when the first object needs them.

Large copies in this thread do not delay the answers of small tasks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from scaler.client.link_thread import LinkThread
from scaler.errors import ObjectStorageException
from scaler_protocol import messages as m
from scaler_protocol.codec import decode, encode
from scaler_protocol.errors import TransportError, WireError
from scaler_protocol.random_ids import new_id
from scaler_protocol.storage import Completion, Done, Missing, Refused, StoreChanged, StoreRequests, TimedOut
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import UNSEQUENCED, Frame, encode_envelope

PENDING_BYTES_MAX = 512 * 1024 * 1024
"""Bytes of objects that are copied and not stored yet; whoever submits more of them waits."""

FETCHES_MAX = 64
"""Objects fetched at the same time."""

LINGER_SECONDS = 2.0
"""At the end: how long to wait for objects that are being deleted."""

_ENVELOPE = encode_envelope(UNSEQUENCED)


class ObjectListener(Protocol):
    """Who wants to know what became of objects. Called by the channel's thread, without its lock."""

    def on_object_fetched(self, number: int, buffers: Sequence[Frame]) -> None: ...

    def on_fetch_failed(self, number: int, status: m.Status, text: str) -> None: ...

    def on_object_refused(self, object_id: bytes, text: str) -> None: ...

    def on_store_changed(self) -> None: ...

    def on_channel_ended(self, error: BaseException) -> None: ...


class ObjectChannel:
    """Stores, fetches and deletes objects of one client. Usable from any thread."""

    def __init__(self, address: str, hello: m.Hello, listener: ObjectListener, *, timeout_seconds: float) -> None:
        self._address = address
        self._owner = hello.incarnation
        self._listener = listener
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._requests = StoreRequests(hello, timeout_seconds=timeout_seconds)
        self._puts: dict[int, bytes] = {}
        self._gets: dict[int, int] = {}
        self._waiting_gets: deque[tuple[int, bytes]] = deque()
        self._ended: str | None = None
        self._drained = threading.Event()
        self._closing = False
        try:
            link = DealerLink(address, new_id())
        except TransportError as error:
            raise ObjectStorageException(f"cannot connect to object storage at {address}: {error}") from None
        self._thread = LinkThread(link, self, "scaler-objects")
        self._thread.start()

    # --- from any thread

    def put(self, object_id: bytes, buffers: Sequence[Any], name: str = "") -> None:
        """Send an object, whose buffers nobody may change. Waits while too many bytes are under way.

        Raises ObjectStorageException when room does not come free in time.
        """
        size = sum(map(len, buffers))
        deadline = time.monotonic() + self._timeout_seconds
        with self._room:
            while self._requests.pending_bytes and self._requests.pending_bytes + size > PENDING_BYTES_MAX:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._ended is not None:
                    break
                self._room.wait(min(remaining, 1.0))
            self._require_open()
            if self._requests.pending_bytes and self._requests.pending_bytes + size > PENDING_BYTES_MAX:
                raise ObjectStorageException(
                    f"object storage at {self._address} took none of {self._requests.pending_bytes} waiting bytes for "
                    f"{self._timeout_seconds:g} s"
                )
            try:
                request = self._requests.put(object_id, self._owner, buffers, time.monotonic(), name=name)
            except WireError as error:
                raise ObjectStorageException(str(error)) from None
            self._puts[request] = object_id
            self._send_locked()
        self._thread.wake()

    def fetch(self, number: int, object_id: bytes) -> None:
        """Get the object that answers a task; the listener is told what became of it."""
        with self._lock:
            ended = self._ended
            if ended is None:
                self._waiting_gets.append((number, object_id))
                self._fill_gets_locked()
                self._send_locked()
        if ended is None:
            self._thread.wake()
        else:
            self._listener.on_fetch_failed(number, m.Status.STORAGE_FAILED, ended)

    def delete(self, object_ids: Sequence[bytes]) -> None:
        """Delete objects; nobody is told."""
        with self._lock:
            if self._ended is None:
                try:
                    self._requests.delete(object_ids, self._owner, time.monotonic())
                except WireError:
                    # Far too many requests are unanswered: these go when their client goes.
                    return
                self._send_locked()
        self._thread.wake()

    def close(self) -> None:
        """Stop, after what is under way has had a short while to finish. Idempotent."""
        self._closing = True
        self._thread.wake()
        own = threading.current_thread() is self._thread
        if not own:
            self._drained.wait(LINGER_SECONDS)
        self._thread.stop()
        if not own:
            self._thread.join(LINGER_SECONDS)

    # --- the thread's

    def on_messages(self, messages: list[list[Frame]]) -> None:
        completions: list[Completion] = []
        for frames in messages:
            try:
                message = decode(frames[1:])
            except WireError:
                # Whatever speaks so is no object storage server; requests time out.
                continue
            with self._lock:
                completions += self._requests.receive(message, time.monotonic())
        self._finish(completions)

    def before_sleep(self) -> None:
        return

    def on_turn(self) -> None:
        with self._lock:
            completions = self._requests.tick(time.monotonic())
        self._finish(completions)
        with self._lock:
            self._fill_gets_locked()
            self._send_locked()
            if self._closing and not self._requests.pending_count:
                self._drained.set()

    def next_deadline(self) -> float:
        with self._lock:
            return self._requests.next_deadline()

    def on_end(self, error: BaseException | None) -> None:
        with self._room:
            self._ended = f"the connection to object storage at {self._address} has ended" + (
                f": {error!r}" if error is not None else ""
            )
            fetches = [*self._gets.values(), *(number for number, _ in self._waiting_gets)]
            self._gets.clear()
            self._waiting_gets.clear()
            self._room.notify_all()
        self._drained.set()
        for number in fetches:
            self._listener.on_fetch_failed(number, m.Status.STORAGE_FAILED, self._ended)
        if error is not None:
            self._listener.on_channel_ended(error)

    # --- inside

    def _require_open(self) -> None:
        if self._ended is not None:
            raise ObjectStorageException(self._ended)

    def _fill_gets_locked(self) -> None:
        while self._waiting_gets and len(self._gets) < FETCHES_MAX:
            number, object_id = self._waiting_gets.popleft()
            # Whoever answered the task has stored the object before, so there is nothing to wait for.
            self._gets[self._requests.get(object_id, time.monotonic())] = number

    def _send_locked(self) -> None:
        for message in self._requests.take_outgoing():
            self._thread.send([_ENVELOPE, *encode(message)])

    def _finish(self, completions: Sequence[Completion]) -> None:
        listener = self._listener
        for completion in completions:
            if isinstance(completion, StoreChanged):
                listener.on_store_changed()
                continue
            with self._room:
                object_id = self._puts.pop(completion.request, None)
                number = self._gets.pop(completion.request, None)
                if object_id is not None:
                    self._room.notify_all()
            if number is not None:
                if isinstance(completion, Done):
                    listener.on_object_fetched(number, completion.buffers)
                elif isinstance(completion, Missing):
                    listener.on_fetch_failed(
                        number,
                        m.Status.MISSING_OBJECT,
                        f"the result of task {number} is not in object storage any more",
                    )
                else:
                    listener.on_fetch_failed(number, m.Status.STORAGE_FAILED, self._describe(completion))
            elif object_id is not None and not isinstance(completion, Done):
                listener.on_object_refused(object_id, self._describe(completion))

    def _describe(self, completion: Completion) -> str:
        if isinstance(completion, Refused):
            return f"object storage at {self._address} refused: {completion.text}"
        assert isinstance(completion, TimedOut | Missing)
        seconds = completion.seconds if isinstance(completion, TimedOut) else 0.0
        return f"object storage at {self._address} did not answer for {seconds:.1f} s"
