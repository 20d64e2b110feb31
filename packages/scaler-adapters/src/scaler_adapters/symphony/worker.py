"""The process side of the Symphony agent: one thread with an event loop for the scheduler and the object storage server, one
thread that speaks to Symphony, and Symphony's own, whose callbacks become events."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from scaler_adapters.symphony.core import effects, events
from scaler_adapters.symphony.core.agent import SymphonyCore
from scaler_adapters.symphony.core.options import SymphonyOptions
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_adapters.symphony.soam import SymphonySession
from scaler_adapters.symphony.storage_link import StorageLink
from scaler_adapters.symphony.task_runner import RemoteResult
from scaler_protocol.address_list import split_addresses
from scaler_protocol.errors import RefusedError, WireError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.service.security_settings import peer_security
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import decode_envelope, encode_envelope

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger(__name__)

RECEIVE_MAX = 256
LONGEST_SLEEP_SECONDS = 0.2
"""How often a connection that is lost is looked after, when nothing else happens."""

STOP_SECONDS = 15.0
GRACE_SECONDS = 10.0
"""How long tasks may go on when the agent is asked to stop."""


class SymphonyWorker:
    """Runs the agent in a thread of its own from `start` to `stop`, or until it ends by itself."""

    def __init__(
        self, settings: SymphonyAdapterSettings, soamapi: Any, group_id: str, capabilities: dict[str, int]
    ) -> None:
        self.group_id = group_id
        self.capabilities = capabilities
        self.worker_names = tuple(f"symphony-{group_id}-{place}" for place in range(settings.base_concurrency))
        self._settings = settings
        self._soamapi = soamapi
        self._thread = threading.Thread(target=self._run, name="symphony-agent", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._agent: _Agent | None = None
        self._began = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether the agent's thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, and wait until the agent runs."""
        self._thread.start()
        self._began.wait(STOP_SECONDS)

    def stop(self) -> None:
        """Let running tasks finish, within limits, and wait for the thread."""
        loop, agent = self._loop, self._agent
        if loop is not None and agent is not None and self.is_running:
            try:
                loop.call_soon_threadsafe(agent.report, events.StopRequested("stopped by the adapter", GRACE_SECONDS))
            except RuntimeError:
                # It has just ended by itself.
                logger.debug("the agent's loop is closed already")
        self._thread.join(GRACE_SECONDS + STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            logger.exception("the Symphony agent failed")
        finally:
            self._began.set()

    async def _serve(self) -> None:
        settings = self._settings
        security = peer_security(settings, "worker")
        hostname = socket.gethostname()
        options = SymphonyOptions(
            name=f"symphony-{self.group_id}",
            incarnation=new_id(security.identity_prefix if security is not None else b""),
            worker_names=self.worker_names,
            scheduler_address=str(settings.address),
            capabilities=tuple(sorted(self.capabilities.items())),
            hostname=hostname,
            pid=os.getpid(),
            queue_limit=settings.per_worker_task_queue_size,
            heartbeat_seconds=settings.heartbeat_interval_seconds,
            death_timeout_seconds=settings.death_timeout_seconds,
            task_timeout_seconds=settings.task_timeout_seconds,
            object_storage_address=str(settings.object_storage_address or ""),
            security_dir=str(settings.security_dir.absolute()) if settings.security_dir is not None else "",
        )
        self._loop = asyncio.get_running_loop()
        self._agent = _Agent(options, partial(_open_session, self._soamapi, settings.service_name), security)
        self._began.set()
        await self._agent.serve()


OpenSession = Callable[[str, Callable[[int, RemoteResult | None, str], None], Callable[[str], None]], SymphonySession]


def _open_session(
    soamapi: Any,
    service_name: str,
    session_name: str,
    on_ended: Callable[[int, RemoteResult | None, str], None],
    on_lost: Callable[[str], None],
) -> SymphonySession:
    return SymphonySession(soamapi, service_name, session_name, on_ended, on_lost)


class _Agent:
    def __init__(self, options: SymphonyOptions, open_session: OpenSession, security: PeerSecurity | None) -> None:
        self._security = security
        self._core = SymphonyCore(options)
        self._options = options
        self._open_session = open_session
        self._loop = asyncio.get_running_loop()
        self._link = DealerLink(split_addresses(options.scheduler_address)[0], options.incarnation, security)
        self._link.on_refused = self._on_refused
        self._symphony = ThreadPoolExecutor(1, "symphony")
        self._session: SymphonySession | None = None
        self._session_number = 0
        self._storage: StorageLink | None = None
        self._stopped: asyncio.Future[effects.Stop] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Run until the core says stop."""
        self._loop.add_reader(self._link.fd, self._receive)
        self.report(events.Start())
        try:
            stop = await self._stopped
            logger.log(logging.ERROR if stop.failed else logging.INFO, "Symphony agent stopped: %s", stop.reason)
        finally:
            self._loop.remove_reader(self._link.fd)
            if self._timer is not None:
                self._timer.cancel()
            if self._storage is not None:
                self._storage.close()
            session, self._session = self._session, None
            if session is not None:
                self._symphony.submit(session.close)
            self._symphony.shutdown(wait=False)
            self._link.close()

    def report(self, event: events.Event) -> None:
        """Take an event in and do what follows. On the loop's thread."""
        self._core.handle(event, time.monotonic())
        self._turn()

    def report_from_elsewhere(self, event: events.Event) -> None:
        """The same from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.report, event)
        except RuntimeError:
            logger.debug("dropped %s: the agent has stopped", event)

    # --- the scheduler

    def _receive(self) -> None:
        received = self._link.receive(RECEIVE_MAX)
        for frames in received:
            try:
                event = events.Incoming(decode_envelope(frames[0] if frames else b""), decode(frames[1:]))
            except WireError as error:
                logger.warning("the scheduler sent a message that cannot be read: %s", error)
                continue
            self._core.handle(event, time.monotonic())
        if received:
            self._turn()
            if self._link.has_received:
                self._loop.call_soon(self._receive_again)

    def _receive_again(self) -> None:
        if not self._stopped.done():
            self._receive()

    def _on_refused(self, error: RefusedError) -> None:
        # Later: the link is in the middle of receiving.
        self._loop.call_soon(self.report, events.LinkRefused(str(error)))

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._core.next_deadline():
            self._core.handle(events.Tick(), now)
        for effect in self._core.take_effects():
            self._perform(effect)
        if self._timer is not None:
            self._timer.cancel()
        if not self._stopped.done():
            delay = min(LONGEST_SLEEP_SECONDS, max(0.0, self._core.next_deadline() - now))
            self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._receive()
        self._turn()

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Send):
            self._link.send([encode_envelope(effect.envelope), *encode(effect.message)])
        elif isinstance(effect, effects.RunTask):
            self._symphony.submit(self._submit, self._session, effect)
        elif isinstance(effect, effects.OpenSession):
            self._session_number += 1
            self._symphony.submit(self._open, self._session_number, self._session)
        elif isinstance(effect, effects.UseStorage):
            self._use_storage(effect.address)
        elif isinstance(effect, effects.FetchObject):
            if self._storage is None:
                self.report_from_elsewhere(events.ObjectFetched(effect.object_id, None, "there is no object storage"))
            else:
                self._storage.fetch(effect)
        elif isinstance(effect, effects.PutObject):
            if self._storage is None:
                self.report_from_elsewhere(events.ObjectStored(effect.object_id, "there is no object storage"))
            else:
                self._storage.put(effect)
        elif isinstance(effect, effects.MoveLink):
            self._link.move(effect.address)
        elif isinstance(effect, effects.Stop):
            if not self._stopped.done():
                self._stopped.set_result(effect)
        else:
            logger.log(effect.level, "%s", effect.text)

    # --- Symphony, on its thread

    def _open(self, number: int, before: SymphonySession | None) -> None:
        def on_lost(reason: str) -> None:
            self._loop.call_soon_threadsafe(self._on_lost, number, reason)

        def on_ended(key: int, result: RemoteResult | None, error: str) -> None:
            self.report_from_elsewhere(events.TaskEnded(key, result, error))

        if before is not None:
            before.close()
        try:
            session = self._open_session(f"{self._options.name}-{number}", on_ended, on_lost)
        except Exception as error:
            # soamapi raises its own classes; whatever it is, there is no session.
            self.report_from_elsewhere(events.SessionLost(f"cannot open a session: {type(error).__name__}: {error}"))
            return
        self._loop.call_soon_threadsafe(self._on_opened, number, session)

    def _submit(self, session: SymphonySession | None, effect: effects.RunTask) -> None:
        if session is None:
            self.report_from_elsewhere(events.TaskEnded(effect.key, None, "there is no session"))
        else:
            session.submit(effect.key, effect.task)

    def _on_opened(self, number: int, session: SymphonySession) -> None:
        self._session = session
        self.report(events.SessionOpened())

    def _on_lost(self, number: int, reason: str) -> None:
        # Closing a session that is lost may fail once more; that one is not news.
        if number == self._session_number and self._session is not None:
            session, self._session = self._session, None
            self._symphony.submit(session.close)
            self.report(events.SessionLost(reason))

    # --- object storage

    def _use_storage(self, address: str) -> None:
        before = self._storage
        if before is not None and before.address == address:
            return
        hello = m.Hello(m.Role.AGENT, self._options.name, self._options.incarnation, pid=os.getpid())
        self._storage = StorageLink(address, hello, self.report_from_elsewhere, self._security) if address else None
        if before is not None:
            before.close()
            # The old server will not answer any more; clients send their objects to the new one as well.
            for effect in before.unanswered():
                self._perform(effect)
