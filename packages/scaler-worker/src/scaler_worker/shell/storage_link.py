"""The agent's connection to the object storage server: it fetches objects into the host's cache, and stores large results.

If the server is on this host, the agent moves no large object. It passes on where the object lies in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaler_protocol.errors import RefusedError, WireError
from scaler_protocol.objects.segments import (
    SEGMENT_BYTES_MIN,
    Lease,
    Place,
    SegmentPool,
    SegmentReader,
    accept_offer,
    pack_place,
    unpack_place,
)
from scaler_protocol.objects.storage import (
    CHECK_SECONDS,
    AtHomes,
    Completion,
    Done,
    Layout,
    Missing,
    Refused,
    StoreRequests,
    TimedOut,
)
from scaler_protocol.objects.storage.requests import PENDING_MAX
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope
from scaler_protocol.wire.object_batches import joined
from scaler_worker.core import effects, events
from scaler_worker.processor.host_objects import PLACE_BYTES
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.shell.copy_turns import CopyTurns
from scaler_worker.shell.figures import free_bytes

logger = logging.getLogger(__name__)

WAIT_SECONDS = 10.0
"""How long an object may be missing: its client sends it at about the same time as the task that names it.

While bytes of clients' objects come to the server, it is waited for longer, see `StoreRequests.get`."""

RECEIVE_MAX = 64
THREAD_BYTES_MIN = 4 * 1024 * 1024
"""Larger objects are written to the cache in a thread, so that the agent goes on meanwhile."""

KEPT_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of larger objects that have come and are being written to the cache. While there are more, nothing is read."""

COPIES_IN_FREE_MEMORY = 2
"""How often a result must fit into the memory that is free: it may be copied once more, into a segment."""

CONNECTION_SECONDS = 0.5
"""How often a connection that is lost is looked after while requests wait for it."""

_ENVELOPE = encode_envelope(UNSEQUENCED)


@dataclass(slots=True, frozen=True)
class _Asked:
    request: int
    object_id: bytes
    owner: bytes = b""
    place: Place | None = None
    """Of puts: where the object lies, if it is not in the cache itself."""
    lease: Lease | None = None
    """Of puts: holds that place, if it is this process's."""
    copied_bytes: int = 0
    """Of puts: of a copy of this process."""
    waits: bool = True
    """Of gets: for what is not there yet."""


class StorageLink:
    """Performs `FetchObject` and `PutObject`. Each is answered by one event, which is passed to `report`.

    `owner` is the (user, group) of the processors where that is not this process's. Then nothing they leave in the folder is
    trusted, and copies are made of what goes to and comes from them: the kernel does not let them open what other users'
    processes have in memory.
    """

    def __init__(
        self,
        address: str,
        hello: m.Hello,
        folders: ObjectFolders,
        link: DealerLink,
        report: Callable[[events.Event], None],
        owner: tuple[int, int] | None = None,
        *,
        wait_seconds: float = WAIT_SECONDS,
        checks: bool = False,
        waits_for_room: bool = True,
        knows_everybody: bool = False,
    ) -> None:
        """`wait_seconds`: how long objects may be missing. `checks`: say hello again and again, also without requests.

        `waits_for_room`: whether puts wait while the server is full, for some time. `knows_everybody`: whether the server is told
        that this peer will say when any client ends.
        """
        self.address = address
        self._wait_seconds = wait_seconds
        self._checks = checks
        self.gives_token = True
        """Whether processors are to write results for this server into segments."""
        self.on_welcome: Callable[[], None] = _nothing
        """Called when a server that is new to this agent has said welcome."""
        self.on_homes: Callable[[int, tuple[str, ...]], None] = lambda _request, _addresses: None
        """Called for a request of `fetch` with `follows`: these stores have the object."""
        self.on_layout: Callable[[int, Layout], None] = lambda _request, _layout: None
        """Called for a request of `fetch` with `pieces`: the object is large."""
        self.on_message: Callable[[m.Message], None] = lambda _message: None
        """Called with what the server says unasked."""
        self._callbacks: dict[int, Callable[[Completion], None]] = {}
        self._folders = folders
        self._owner = owner
        self._link = link
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._requests = StoreRequests(
            hello,
            check_seconds=CHECK_SECONDS if checks else float("inf"),
            waits_for_room=waits_for_room,
            known_clients=(lambda: m.ClientsKnown((), everybody=True)) if knows_everybody else None,
        )
        self._fetches: dict[int, _Asked] = {}
        self._puts: dict[int, _Asked] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sends = False
        """Whether this turn of the event loop ends with sending."""
        self._works: set[asyncio.Task[None]] = set()
        self._closed = False
        self._store_incarnation = b""
        self._is_local = False
        """Whether the server is on this host."""
        self._reader: SegmentReader | None = None
        self._kept_bytes = 0
        """Of objects that are being written to the cache in threads."""
        self._turns = CopyTurns()
        self._closed_because = ""
        self._segments: SegmentPool | None = None
        """For copies of results of another user's processors."""
        self._token: bytes | None = None
        self._pieces: SegmentPool | None = None
        """For objects that come in pieces."""
        link.on_refused = self._on_refused
        self._loop.add_reader(link.fd, self._receive)
        self._requests.introduce(self._loop.time())
        self._send_now()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._link.connected

    @property
    def nobody_listens(self) -> bool:
        """Whether the server's host has refused the last attempt to connect."""
        return self._link.nobody_listens

    @property
    def is_local(self) -> bool:
        """Whether the server is on this host, so that places can be opened."""
        return self._is_local

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self._requests.pending_count

    @property
    def takes_homes(self) -> bool:
        """Whether the server wants to hear what the store of this host has."""
        return self._requests.takes_homes

    def fetch(self, effect: effects.FetchObject, *, follows: bool = False, pieces: bool = False) -> None:
        """Get an object into the host's cache. With `follows`, `on_homes` may be called instead, with `pieces` `on_layout`."""
        mappable = self._is_local and not effect.whole
        asked = _Asked(effect.request, effect.id, waits=effect.waits)
        self._fetch(asked, mappable=mappable, follows=follows, pieces=pieces)

    def begin_segment(self, object_id: bytes, lengths: Sequence[int]) -> Lease | None:
        """Return memory for an object that the server can map while it is written; None if there is none."""
        if self._pieces is None and self._token is not None:
            self._pieces = SegmentPool(self._token)
        return self._pieces.begin(object_id, lengths) if self._pieces is not None else None

    def ask(self, begin: Callable[[StoreRequests, float], int], on_done: Callable[[Completion], None]) -> None:
        """Make another request, and call `on_done` when it is over."""
        if self._closed:
            # For instance the last put of an object that came in pieces, to a store that has ended meanwhile.
            self._loop.call_soon(on_done, Refused(0, None, self._closed_because))
            return
        try:
            number = begin(self._requests, self._loop.time())
        except WireError as error:
            self._loop.call_soon(on_done, Refused(0, None, str(error)))
            return
        self._callbacks[number] = on_done
        self._send()

    def tell(self, message: m.ObjectsGone | m.ObjectPut) -> None:
        """Send a message that needs no answer."""
        self._requests.tell(message, self._loop.time())
        self._send()

    def leave(self, reason: str) -> None:
        """Say that this peer ends. To be followed by `close`."""
        self._requests.leave(reason)
        self._send_now()

    def give_token(self) -> None:
        """Tell processors to write results for this server."""
        self.gives_token = True
        if self._store_incarnation:
            self._store_incarnation = b""
            self._see_server()

    def put(self, effect: effects.PutObject) -> None:
        """Store an object that is in the host's cache."""
        if self._owner is not None:
            if len(self._works) < PENDING_MAX:
                self._in_thread(self._put_copy(effect))
            else:
                self._report(events.ObjectStored(effect.request, f"{PENDING_MAX} others wait to be stored"))
            return
        asked = _Asked(effect.request, effect.id, effect.owner, self._folders.read_place(effect.id))
        if asked.place is not None:
            self._put(asked, (), pack_place(asked.place))
            return
        buffers = self._folders.map(effect.id)
        if buffers is None:
            self._report(events.ObjectStored(effect.request, "it has left this host's cache"))
            return
        self._put(asked, buffers)

    def take_unanswered(self) -> list[effects.FetchObject | effects.PutObject]:
        """Return, and forget, what is not answered yet: for another server, before `close`."""
        fetches = [
            effects.FetchObject(asked.request, asked.object_id, waits=asked.waits) for asked in self._fetches.values()
        ]
        self._fetches.clear()
        if self._owner is not None:
            # Copies of theirs are on their way.
            return [*fetches]
        puts = [effects.PutObject(asked.request, asked.object_id, asked.owner) for asked in self._puts.values()]
        self._puts.clear()
        return [*fetches, *puts]

    def close(self, reason: str) -> None:
        """Give up requests that are not answered, and report that."""
        self._send_now()
        self._closed = True
        self._closed_because = reason
        self._loop.remove_reader(self._link.fd)
        if self._timer is not None:
            self._timer.cancel()
        for asked in self._fetches.values():
            self._report(events.ObjectFetched(asked.request, error=reason))
        for asked in self._puts.values():
            self._stored(asked, reason)
        callbacks, self._callbacks = self._callbacks, {}
        for on_done in callbacks.values():
            on_done(Refused(0, None, reason))
        self._replace_segments(None)
        if self._pieces is not None:
            self._pieces.close()
        self._link.close(linger_seconds=0.1)

    # --- private

    def _fetch(self, asked: _Asked, mappable: bool, follows: bool = False, pieces: bool = False) -> None:
        try:
            number = self._requests.get(
                asked.object_id,
                self._loop.time(),
                wait_seconds=self._wait_seconds if asked.waits else 0.0,
                mappable=mappable,
                follows=follows,
                pieces=pieces,
            )
        except WireError as error:
            self._report(events.ObjectFetched(asked.request, error=str(error)))
            return
        self._fetches[number] = asked
        self._send()

    def _put(self, asked: _Asked, buffers: Sequence[Any], place: bytes = b"") -> None:
        try:
            number = self._requests.put(asked.object_id, asked.owner, buffers, self._loop.time(), place=place)
        except WireError as error:
            self._stored(asked, str(error))
            return
        self._puts[number] = asked
        self._send()

    def _stored(self, asked: _Asked, error: str = "") -> None:
        """Report how a put has ended."""
        self._report(events.ObjectStored(asked.request, error))
        if asked.copied_bytes:
            self._turns.give_back(asked.copied_bytes)

    def _put_whole(self, asked: _Asked) -> None:
        """The server cannot open the place of a result: send the bytes, if the processor still has them."""
        assert asked.place is not None
        if self._reader is None:
            self._reader = SegmentReader()
        buffers = self._reader.read(asked.place)
        if buffers is None:
            text = f"it is not in the memory of process {asked.place.pid} any more"
            self._report(events.ObjectStored(asked.request, text, lost=True))
            return
        self._put(asked, buffers)

    def _send(self) -> None:
        """Send what is due when this turn of the event loop ends: what is asked for together travels together."""
        if not self._sends:
            self._sends = True
            self._loop.call_soon(self._send_now)

    def _send_now(self) -> None:
        self._sends = False
        if self._closed:
            return
        for message in joined(self._requests.take_outgoing()):
            try:
                frames = encode(message)
            except WireError as error:
                refused = self._requests.refuse(message, str(error), self._loop.time())
                # Later: whoever asked has not noted the number of its request yet.
                self._loop.call_soon(self._complete, refused)
                continue
            self._link.send([_ENVELOPE, *frames])
        self._set_timer()

    def _receive(self) -> None:
        if self._closed:
            return
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._link.flush()
            return
        received = self._link.receive(RECEIVE_MAX)
        for frames in received:
            try:
                message = decode(frames[1:])
            except WireError as error:
                logger.warning("the object storage server sent a message that cannot be read: %s", error)
                continue
            completions = self._requests.receive(message, self._loop.time())
            if isinstance(message, m.Welcome):
                self._see_server()
            elif isinstance(message, m.ObjectWanted | m.ObjectDelete):
                self.on_message(message)
            self._complete(completions)
        if self._link.has_received:
            self._loop.call_soon(self._receive)
        self._send_now()

    def _on_refused(self, error: RefusedError) -> None:
        text = f"the object storage server at {self.address} does not let in this worker: {error}"
        # Later: the link is in the middle of receiving.
        self._loop.call_soon(self._refuse, text)

    def _refuse(self, text: str) -> None:
        if not self._closed:
            self._complete(self._requests.on_link_refused(text, self._loop.time()))

    def _see_server(self) -> None:
        """Find out whether a server that is new to this agent is on this host, and tell the processors."""
        incarnation = self._requests.store_incarnation
        if incarnation == self._store_incarnation:
            return
        self._store_incarnation = incarnation
        self._token = token = accept_offer(self._requests.segment_offer, incarnation)
        self._loop.call_soon(self.on_welcome)
        if not self.gives_token:
            self._is_local = token is not None
            return
        if self._owner is not None:
            # The token is not for the processors: nobody can open what they have in memory.
            self._is_local = token is not None
            self._replace_segments(token)
            return
        try:
            self._folders.write_token(token)
            self._is_local = token is not None
        except OSError as error:
            logger.warning(
                "large objects are sent through the socket, because nothing can be written to %s: %s",
                self._folders.first,
                error,
            )

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        if self._requests.pending_count or not self._store_incarnation or self._checks:
            look_after = min(CONNECTION_SECONDS, self._link.retry_seconds())
            deadline = min(self._requests.next_deadline(), self._loop.time() + look_after)
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._complete(self._requests.tick(self._loop.time()))
        self._receive()

    def _complete(self, completions: Sequence[Completion]) -> None:
        for completion in completions:
            request = getattr(completion, "request", None)
            on_done = self._callbacks.pop(request, None) if request is not None else None
            if on_done is not None:
                on_done(completion)
                continue
            if request in self._puts:
                asked = self._puts.pop(request)
                if asked.place is not None and _has_no_segment(completion):
                    self._put_whole(asked)
                    continue
                self._stored(asked, _error_text(completion))
            elif request in self._fetches:
                asked = self._fetches.pop(request)
                if isinstance(completion, Done) and completion.place and self._owner is not None:
                    self._in_thread(self._keep_copy(asked, unpack_place(completion.place)))
                elif isinstance(completion, Done) and completion.place:
                    self._report(_keep_place(self._folders, asked, unpack_place(completion.place)))
                elif isinstance(completion, Done):
                    self._keep(asked, completion.buffers)
                elif isinstance(completion, AtHomes):
                    self.on_homes(asked.request, completion.addresses)
                elif isinstance(completion, Layout):
                    self.on_layout(asked.request, completion)
                else:
                    missing = isinstance(completion, Missing) or _is_lost(completion)
                    error = _error_text(completion)
                    if missing and not error:
                        error = f"object {asked.object_id.hex()} is not in object storage at {self.address} (any more)"
                    self._report(events.ObjectFetched(asked.request, missing=missing, error=error))

    def _keep(self, asked: _Asked, buffers: Sequence[Any]) -> None:
        size = sum(len(buffer) for buffer in buffers)
        if size < THREAD_BYTES_MIN:
            self._report(_write(self._folders, asked, buffers, self._owner))
            return
        self._kept_bytes += size
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._loop.remove_reader(self._link.fd)
        self._in_thread(self._keep_in_thread(asked, buffers, size))

    async def _keep_in_thread(self, asked: _Asked, buffers: Sequence[Any], size: int) -> None:
        event = await asyncio.to_thread(_write, self._folders, asked, buffers, self._owner)
        del buffers
        self._report(event)
        was_full = self._kept_bytes > KEPT_BYTES_MAX
        self._kept_bytes -= size
        if was_full and self._kept_bytes <= KEPT_BYTES_MAX and not self._closed:
            self._loop.add_reader(self._link.fd, self._receive)
            self._receive()

    def _replace_segments(self, token: bytes | None) -> None:
        if self._segments is not None:
            self._segments.close()
        self._segments = SegmentPool(token) if token is not None else None

    async def _keep_copy(self, asked: _Asked, place: Place) -> None:
        """Copy an object that the server has in memory for another user's processors."""
        if self._reader is None:
            self._reader = SegmentReader()
        buffers = await asyncio.to_thread(self._reader.read, place)
        if self._closed:
            # `close` does not know of it any more.
            self._report(events.ObjectFetched(asked.request, error=self._closed_because))
            return
        if buffers is None:
            self._fetch(asked, mappable=False)
        else:
            self._keep(asked, buffers)

    async def _put_copy(self, effect: effects.PutObject) -> None:
        """Store a result of another user's processor."""
        assert self._owner is not None
        asked = _Asked(effect.request, effect.id, effect.owner)
        try:
            size = self._folders.size_of(effect.id)
            if size is None:
                self._stored(asked, "it has left this host's cache")
                return
            free = free_bytes() if size >= THREAD_BYTES_MIN else 0
            if 0 < free < COPIES_IN_FREE_MEMORY * size:
                self._stored(asked, f"its {size} bytes cannot be copied: this host has {free} bytes of memory left")
                return
        except OSError as error:
            self._stored(asked, f"its file cannot be read: {error}")
            return
        await self._turns.take(effect.owner, size)
        asked = replace(asked, copied_bytes=size)
        text, lease = "it has left this host's cache", None
        try:
            buffers = await asyncio.to_thread(self._folders.read_copy, effect.id, size, self._owner[0])
        except (OSError, ValueError, MemoryError) as error:
            buffers, text = None, f"its file cannot be read: {error}"
        if (
            buffers is not None
            and not self._closed
            and self._segments is not None
            and sum(map(len, buffers)) >= SEGMENT_BYTES_MIN
        ):
            lease = await asyncio.to_thread(self._segments.write, effect.id, buffers)
        if self._closed:
            self._stored(asked, self._closed_because)
        elif buffers is None:
            self._stored(asked, text)
        elif lease is None:
            self._put(asked, buffers)
        else:
            self._put(replace(asked, place=lease.place, lease=lease), (), pack_place(lease.place))

    def _in_thread(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)


def _nothing() -> None:
    return


def _write(
    folders: ObjectFolders, asked: _Asked, buffers: Sequence[Any], owner: tuple[int, int] | None
) -> events.ObjectFetched:
    try:
        return events.ObjectFetched(asked.request, folders.write(asked.object_id, buffers, owner))
    except OSError as error:
        return events.ObjectFetched(asked.request, error=f"it cannot be kept on the worker's host: {error}")


def _keep_place(folders: ObjectFolders, asked: _Asked, place: Place) -> events.ObjectFetched:
    try:
        folders.write_place(asked.object_id, place)
    except OSError as error:
        return events.ObjectFetched(asked.request, error=f"its place cannot be kept on the worker's host: {error}")
    return events.ObjectFetched(asked.request, PLACE_BYTES)


def _is_lost(completion: Completion) -> bool:
    return isinstance(completion, Refused) and completion.status is m.ObjectStatus.UNREACHED


def _has_no_segment(completion: Completion) -> bool:
    return isinstance(completion, Refused) and completion.status is m.ObjectStatus.NO_SEGMENT


def _error_text(completion: Completion) -> str:
    if isinstance(completion, Refused):
        return completion.text or "the object storage server refuses it"
    if isinstance(completion, TimedOut):
        return f"the object storage server has not answered for {completion.seconds:.0f} s"
    return ""
