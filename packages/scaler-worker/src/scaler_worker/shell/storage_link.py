"""The agent's line to the object storage server: objects into the host's cache, large results out of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scaler_protocol import messages as m
from scaler_protocol.codec import decode, encode
from scaler_protocol.errors import WireError
from scaler_protocol.storage import Completion, Done, Missing, Refused, StoreRequests, TimedOut
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import UNSEQUENCED, encode_envelope
from scaler_worker.core import effects as do
from scaler_worker.core import events as on
from scaler_worker.processor.object_files import map_object, write_object

logger = logging.getLogger(__name__)

WAIT_SECONDS = 10.0
"""How long an object may be missing: its client sends it at about the same time as the task that names it."""

RECEIVE_MAX = 64
THREAD_BYTES_MIN = 4 * 1024 * 1024
"""Larger objects are written to the cache in a thread, so that the agent goes on meanwhile."""

CONNECTION_SECONDS = 0.5
"""How often a connection that is lost is looked after while requests wait for it."""

_ENVELOPE = encode_envelope(UNSEQUENCED)


@dataclass(slots=True, frozen=True)
class _Asked:
    request: int
    object_id: bytes


class StorageLink:
    """Performs `FetchObject` and `PutObject`; each ends in one event. `report` takes those."""

    def __init__(
        self, address: str, hello: m.Hello, folder: str, link: DealerLink, report: Callable[[on.Event], None]
    ) -> None:
        self.address = address
        self._folder = folder
        self._link = link
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._requests = StoreRequests(hello)
        self._fetches: dict[int, _Asked] = {}
        self._puts: dict[int, _Asked] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop.add_reader(link.fd, self._receive)

    def fetch(self, effect: do.FetchObject) -> None:
        try:
            number = self._requests.get(effect.id, self._loop.time(), wait_seconds=WAIT_SECONDS)
        except WireError as error:
            self._report(on.ObjectFetched(effect.request, error=str(error)))
            return
        self._fetches[number] = _Asked(effect.request, effect.id)
        self._send()

    def put(self, effect: do.PutObject) -> None:
        buffers = map_object(self._folder, effect.id)
        if buffers is None:
            self._report(on.ObjectStored(effect.request, "it has left this host's cache"))
            return
        try:
            number = self._requests.put(effect.id, effect.owner, buffers, self._loop.time())
        except WireError as error:
            self._report(on.ObjectStored(effect.request, str(error)))
            return
        self._puts[number] = _Asked(effect.request, effect.id)
        self._send()

    def close(self, reason: str) -> None:
        """Give up what is under way, and tell so."""
        self._closed = True
        self._loop.remove_reader(self._link.fd)
        if self._timer is not None:
            self._timer.cancel()
        for asked in self._fetches.values():
            self._report(on.ObjectFetched(asked.request, error=reason))
        for asked in self._puts.values():
            self._report(on.ObjectStored(asked.request, reason))
        self._link.close(linger_seconds=0.1)

    # --- inside

    def _send(self) -> None:
        for message in self._requests.take_outgoing():
            self._link.send([_ENVELOPE, *encode(message)])
        self._set_timer()

    def _receive(self) -> None:
        if self._closed:
            return
        received = self._link.receive(RECEIVE_MAX)
        for frames in received:
            try:
                message = decode(frames[1:])
            except WireError as error:
                logger.warning("the object storage server sent what cannot be understood: %s", error)
                continue
            self._complete(self._requests.receive(message, self._loop.time()))
        if self._link.has_received:
            self._loop.call_soon(self._receive)
        self._send()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._requests.pending_count:
            look_after = min(CONNECTION_SECONDS, self._link.retry_seconds())
            deadline = min(self._requests.next_deadline(), self._loop.time() + look_after)
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._complete(self._requests.tick(self._loop.time()))
        self._receive()

    def _complete(self, completions: Sequence[Completion]) -> None:
        for completion in completions:
            request = getattr(completion, "request", None)
            if request in self._puts:
                asked = self._puts.pop(request)
                self._report(on.ObjectStored(asked.request, _error_text(completion)))
            elif request in self._fetches:
                asked = self._fetches.pop(request)
                if isinstance(completion, Done):
                    self._keep(asked, completion.buffers)
                else:
                    missing = isinstance(completion, Missing)
                    self._report(on.ObjectFetched(asked.request, missing=missing, error=_error_text(completion)))

    def _keep(self, asked: _Asked, buffers: Sequence[Any]) -> None:
        if sum(len(buffer) for buffer in buffers) < THREAD_BYTES_MIN:
            self._report(_write(self._folder, asked, buffers))
            return

        async def keep() -> None:
            event = await asyncio.to_thread(_write, self._folder, asked, buffers)
            if not self._closed:
                self._report(event)

        task = self._loop.create_task(keep())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


def _write(folder: str, asked: _Asked, buffers: Sequence[Any]) -> on.ObjectFetched:
    try:
        return on.ObjectFetched(asked.request, write_object(folder, asked.object_id, buffers))
    except OSError as error:
        return on.ObjectFetched(asked.request, error=f"it cannot be kept on the worker's host: {error}")


def _error_text(completion: Completion) -> str:
    if isinstance(completion, Refused):
        return completion.text or "the object storage server refuses it"
    if isinstance(completion, TimedOut):
        return f"the object storage server has not answered for {completion.seconds:.0f} s"
    return ""
