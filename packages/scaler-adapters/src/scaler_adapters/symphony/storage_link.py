"""The Symphony agent's connection to the object storage server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scaler_adapters.symphony.core import effects, events
from scaler_protocol.errors import RefusedError, WireError
from scaler_protocol.objects.storage import Completion, Done, Refused, StoreRequests, TimedOut
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope
from scaler_protocol.wire.object_batches import joined

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger(__name__)

RECEIVE_MAX = 256
OBJECT_WAIT_SECONDS = 10.0
"""How long an object may be missing: its client sends it at about the same time as the task that names it."""

CONNECTION_SECONDS = 0.2
"""How often a connection that is lost is looked after while requests wait for it."""


class StorageLink:
    """Performs `FetchObject` and `PutObject`. Each ends in one event, which is passed to `report`."""

    def __init__(
        self, address: str, hello: m.Hello, report: Callable[[events.Event], None], security: PeerSecurity | None = None
    ) -> None:
        self.address = address
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._requests = StoreRequests(hello)
        self._link = DealerLink(address, hello.incarnation, security)
        self._asked: dict[int, effects.FetchObject | effects.PutObject] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._link.on_refused = self._on_refused
        self._loop.add_reader(self._link.fd, self._receive)

    def fetch(self, effect: effects.FetchObject) -> None:
        """Get an object."""
        try:
            number = self._requests.get(effect.object_id, time.monotonic(), wait_seconds=OBJECT_WAIT_SECONDS)
        except WireError as error:
            self._report(events.ObjectFetched(effect.object_id, None, str(error)))
            return
        self._asked[number] = effect
        self._send()

    def put(self, effect: effects.PutObject) -> None:
        """Store an object."""
        try:
            number = self._requests.put(effect.object_id, effect.owner, list(effect.buffers), time.monotonic())
        except WireError as error:
            self._report(events.ObjectStored(effect.object_id, str(error)))
            return
        self._asked[number] = effect
        self._send()

    def unanswered(self) -> list[effects.FetchObject | effects.PutObject]:
        """What has been asked and has not ended yet, in the order it was asked."""
        return list(self._asked.values())

    def close(self) -> None:
        """Close the connection. Requests that are not answered end in no event: see `unanswered`."""
        self._closed = True
        self._loop.remove_reader(self._link.fd)
        if self._timer is not None:
            self._timer.cancel()
        self._link.close()

    def _receive(self) -> None:
        if self._closed:
            return
        received = self._link.receive(RECEIVE_MAX)
        for frames in received:
            try:
                self._complete(self._requests.receive(decode(frames[1:]), time.monotonic()))
            except WireError as error:
                logger.warning("the object storage server sent a message that cannot be read: %s", error)
        if self._link.has_received:
            self._loop.call_soon(self._receive)
        self._send()

    def _on_refused(self, error: RefusedError) -> None:
        text = f"the object storage server at {self.address} does not let in this worker: {error}"
        # Later: the link is in the middle of receiving.
        self._loop.call_soon(self._refuse, text)

    def _refuse(self, text: str) -> None:
        if not self._closed:
            self._complete(self._requests.on_link_refused(text, time.monotonic()))

    def _send(self) -> None:
        self._complete(self._requests.tick(time.monotonic()))
        for message in joined(self._requests.take_outgoing()):
            try:
                frames = encode(message)
            except WireError as error:
                self._complete(self._requests.refuse(message, str(error), time.monotonic()))
                continue
            self._link.send([encode_envelope(UNSEQUENCED), *frames])
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._requests.pending_count:
            self._timer = self._loop.call_later(CONNECTION_SECONDS, self._receive)

    def _complete(self, completions: Sequence[Completion]) -> None:
        for completion in completions:
            asked = self._asked.pop(getattr(completion, "request", -1), None)
            if asked is None:
                continue
            error = _error(completion)
            if isinstance(asked, effects.PutObject):
                self._report(events.ObjectStored(asked.object_id, error))
            elif isinstance(completion, Done):
                buffers = [bytes(buffer) for buffer in completion.buffers]
                self._report(events.ObjectFetched(asked.object_id, buffers, ""))
            else:
                self._report(events.ObjectFetched(asked.object_id, None, error))


def _error(completion: Completion) -> str:
    if isinstance(completion, Done):
        return ""
    if isinstance(completion, Refused):
        return completion.text
    if isinstance(completion, TimedOut):
        return f"the object storage server did not answer within {completion.seconds:.0f} s"
    return "the object storage server does not have the object"
