"""The server around the core: a socket, a timer, signals, and an orderly end.

frames ──RouterListener──▶ message (──HeldSegments──▶ with buffers) ──StoreCore──▶ effects ──RouterListener──▶ frames

One thread does all of it. It reads a bounded number of messages at a time, so that signals and timers are handled under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from scaler_objstore.content_hash import SEED_BYTES, KeyedContentHash
from scaler_objstore.core import Limits, MemoryStorage, StoreCore, effects, events
from scaler_objstore.guard import Guard, open_guard
from scaler_objstore.segments import HeldSegments
from scaler_objstore.settings import ObjectStorageSettings
from scaler_objstore.tiers.port import Tier, TierError
from scaler_protocol.address import Address
from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError, TransportError
from scaler_protocol.ids import short
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.service import event_loop
from scaler_protocol.service.audit_settings import require_writable_audit_log
from scaler_protocol.service.byte_sizes import bytes_text
from scaler_protocol.service.errors import ServiceError, cannot_listen
from scaler_protocol.service.hangup import on_hangup
from scaler_protocol.service.late_address import bind_address_now
from scaler_protocol.service.occurrences import Occurrences
from scaler_protocol.service.open_files import raise_open_files_limit
from scaler_protocol.service.problems import Problems
from scaler_protocol.service.readiness import Readiness
from scaler_protocol.service.security_settings import checked_binds, server_security
from scaler_protocol.service.signals import StopSignals
from scaler_protocol.transport import RouterListener, SendOutcome
from scaler_protocol.transport.admission import OnRefused, RefusalKind
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import OBJECT_BYTES_MAX, UNSEQUENCED, Frame, encode_envelope
from scaler_protocol.wire.object_batches import joined, rows_of

if TYPE_CHECKING:
    from scaler_objstore.tier_threads import TierThreads
    from scaler_protocol.security.credentials import ServerSecurity
    from scaler_protocol.security.directory import DirectorySecurity

logger = logging.getLogger(__name__)

ADDRESS_ROLE = "object_storage"
"""The name under which the bound address is reported to the parent process."""

DRAIN_MESSAGES = 64
"""Most messages that are handled before timers and signals."""

TURN_SECONDS = 0.0025
"""After so long no further message is begun before timers and signals."""

FLUSH_SECONDS = 0.002
"""Pause before sending again to a peer that accepted nothing."""

ARRIVING_SECONDS = 0.5
"""How often the core is told from which peers parts of messages come."""

LONGEST_SLEEP_SECONDS = 1.0
"""How often connections that never identified themselves are checked, if nothing else happens."""

KEYS_SECONDS = 0.5
"""How often is looked whether the list of allowed keys has changed."""

GRACE_SECONDS = 2.0
"""How long queued answers may take to leave when the server stops."""

_ENVELOPE = encode_envelope(UNSEQUENCED)


def run(settings: ObjectStorageSettings) -> int:
    """Serve until told to stop. Returns the exit status. Raises ServiceError if the address cannot be used."""
    address, problems = bind_address_now(settings.address), Problems()
    security: DirectorySecurity | None = None
    with problems.noted():
        address = checked_binds(settings, {"ADDRESS": address})["ADDRESS"]
    with problems.noted():
        security = server_security(settings)
    with problems.noted():
        require_writable_audit_log(settings)
    problems.raise_if_any()
    status = event_loop.run(lambda: _serve(settings, address, security), settings.event_loop)
    if settings.storage_url is not None:
        from scaler_objstore.tier_threads import leave_threads_that_hang

        leave_threads_that_hang(status)
    return status


async def _serve(settings: ObjectStorageSettings, address: Address, security: DirectorySecurity | None) -> int:
    readiness = Readiness.of_process()
    incarnation = new_id()
    raise_open_files_limit()
    with contextlib.ExitStack() as stack:
        guard: Guard | None = None

        def on_refused(origin: str, kind: RefusalKind, reason: str) -> None:
            if guard is not None:
                guard.doorkeeper.note_refused_connection(origin, kind, reason)

        changed: list[bytes] = []
        listener = stack.enter_context(_listening(address, security, on_refused, changed.append))
        segments = stack.enter_context(contextlib.closing(HeldSegments(incarnation)))
        core = _make_core(settings, incarnation, segments.offer, keyed=security is not None)
        guard = open_guard(core, listener, security, settings.audit_log, stack)
        server = Server(listener, core, segments, guard, security, changed)
        await _open_tier(settings, core, server, security, stack)
        if security is not None:
            stack.enter_context(on_hangup(server.refresh_keys))
        with StopSignals(lambda number: server.stop(signal.Signals(number).name)):
            logger.info("object storage listens on %s (process %d)", listener.address, os.getpid())
            readiness.ready({ADDRESS_ROLE: listener.address})
            watchdog = asyncio.create_task(readiness.keep_alive())
            try:
                reason = await server.serve()
                logger.info("object storage stops: %s", reason)
                if guard is not None:
                    guard.doorkeeper.note_shutdown(reason)
                readiness.stopping()
                await server.drain()
                await server.close_tier()
            finally:
                watchdog.cancel()
    return 0


@contextlib.contextmanager
def _listening(
    address: Address, security: ServerSecurity | None, on_refused: OnRefused, on_change: Callable[[bytes], None]
) -> Iterator[RouterListener]:
    try:
        listener = RouterListener(
            str(address), security=security, on_refused=on_refused, on_connected=on_change, on_ended=on_change
        )
    except TransportError as error:
        raise cannot_listen(error) from None
    with contextlib.closing(listener):
        yield listener


async def _open_tier(
    settings: ObjectStorageSettings,
    core: StoreCore,
    server: Server,
    security: DirectorySecurity | None,
    stack: contextlib.ExitStack,
) -> None:
    """Let the core spill to the tier of the settings, and take over what an earlier server has left there."""
    logger.info("objects may take %s of memory (--memory-limit-bytes)", bytes_text(settings.memory_limit_bytes))
    if settings.storage_path is None and settings.storage_url is None:
        return
    tier, place = await asyncio.to_thread(_tier_of, settings, security)
    stack.enter_context(contextlib.closing(tier))
    limit = settings.disk_limit_bytes
    logger.info(
        "beyond it they go to %s, %s", place, "which has no limit" if limit is None else f"at most {bytes_text(limit)}"
    )
    core.use_tier(limit)
    try:
        found = await asyncio.to_thread(_stored_contents, tier)
    except TierError as error:
        raise ServiceError(f"{place}: {error}") from None
    server.use_tier(tier, found)


def _tier_of(settings: ObjectStorageSettings, security: DirectorySecurity | None) -> tuple[Tier, str]:
    """Return the tier of the settings, and how the log calls it."""
    # Imported late: most servers have no tier.
    if settings.storage_path is not None:
        from scaler_objstore.tiers.disk import DiskTier

        cluster = "" if security is None else f"key {security.own.public.hex()[:16]}"
        return DiskTier(settings.storage_path, cluster, sync=settings.storage_fsync), str(settings.storage_path)
    from scaler_objstore.tiers.opening import open_remote_tier

    url = settings.read_storage_url()
    return open_remote_tier(url, settings.storage_endpoint, settings.storage_timeout_seconds), str(url)


def _stored_contents(tier: Tier) -> list[events.StoredContent]:
    return [events.StoredContent(record.name, record.header) for record in tier.records()]


def _make_core(settings: ObjectStorageSettings, incarnation: bytes, segment_offer: bytes, *, keyed: bool) -> StoreCore:
    return StoreCore(
        incarnation,
        MemoryStorage(settings.memory_limit_bytes),
        KeyedContentHash(os.urandom(SEED_BYTES)),
        Limits(
            object_bytes_max=min(settings.object_size_limit_bytes, OBJECT_BYTES_MAX),
            retention_seconds=settings.object_retention_seconds,
        ),
        segment_offer,
        # Clients with keys of their own do not trust each other.
        shares_segments=not keyed,
    )


class Server:
    """Moves messages between a listener and a core, on the running event loop, and maps the segments of puts."""

    def __init__(
        self,
        listener: RouterListener,
        core: StoreCore,
        segments: HeldSegments,
        guard: Guard | None = None,
        keys: DirectorySecurity | None = None,
        changed: list[bytes] | None = None,
    ) -> None:
        """`guard` takes messages in before the core, if there is one; `keys` are read again when they change.

        `changed`: where the listener notes whose connections begin and end.
        """
        self._changed = changed if changed is not None else []
        self._guard = guard
        self._keys = keys
        self._keys_looked_at = 0.0
        self._arriving_looked_at = 0.0
        self._listener = listener
        self._segments = segments
        self._core = core
        self._handle: Callable[[events.Incoming, float], None] = core.handle if guard is None else guard.handle
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[str] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._tier: TierThreads | None = None
        self._malformed = Occurrences(logger, "peers disconnected for malformed messages; the last")
        self._unwelcome = Occurrences(logger, "rejected requests; the last")

    def use_tier(self, tier: Tier, found: list[events.StoredContent]) -> None:
        """Spill to `tier`, where `found` was. To be called before `serve`."""
        from scaler_objstore.tier_threads import TierThreads

        self._tier = TierThreads(tier, self._on_tier_event)
        self._core.handle(events.Restored(found), self._loop.time())
        self._perform()

    async def close_tier(self) -> None:
        """Finish what is asked of the tier below memory, if there is one."""
        if self._tier is not None:
            await self._tier.close()

    async def serve(self) -> str:
        """Answer requests until `stop` is called or the scheduler stops the server. Returns the reason."""
        self._loop.add_reader(self._listener.fd, self._turn)
        try:
            self._turn()
            return await self._stopped
        finally:
            self._loop.remove_reader(self._listener.fd)
            if self._timer is not None:
                self._timer.cancel()

    def stop(self, reason: str) -> None:
        """End `serve`. Further calls have no effect."""
        if not self._stopped.done():
            self._stopped.set_result(reason)

    async def drain(self) -> None:
        """Send queued answers, for `GRACE_SECONDS` at most."""
        deadline = self._loop.time() + GRACE_SECONDS
        while self._listener.has_queued and self._loop.time() < deadline:
            self._flush()
            await asyncio.sleep(FLUSH_SECONDS)

    def _turn(self) -> None:
        """Handle the messages that wait, and schedule the next call."""
        if self._stopped.done():
            return
        try:
            if self._listener.has_queued:
                self._flush()
            self._receive()
            self._see_connections()
            self._see_arriving()
            self._core.handle(events.Tick(), self._loop.time())
            if self._guard is not None and self._loop.time() >= self._keys_looked_at + KEYS_SECONDS:
                self.refresh_keys()
            self._perform()
        finally:
            # The event loop logs the error, and the requests of other peers go on.
            self._schedule()

    def _receive(self) -> None:
        """Handle messages that wait, as long as a turn may take; the others are the next ones."""
        until = self._loop.time() + TURN_SECONDS
        received = self._listener.receive(DRAIN_MESSAGES)
        for position, (peer, frames) in enumerate(received):
            if position and self._loop.time() >= until:
                self._listener.put_back(received[position:])
                return
            self._take_in(peer, frames)

    def _see_connections(self) -> None:
        for peer in dict.fromkeys(self._changed):
            is_connected = bool(self._listener.address_of(peer))
            self._core.handle(events.ConnectionChanged(peer, is_connected), self._loop.time())
        self._changed.clear()

    def _see_arriving(self) -> None:
        now = self._loop.time()
        if now < self._arriving_looked_at + ARRIVING_SECONDS:
            return
        self._arriving_looked_at = now
        arriving = self._listener.take_arriving()
        if arriving:
            self._core.handle(events.Arriving(arriving), now)

    def refresh_keys(self) -> None:
        """Read the list of allowed keys again if it has changed, and write refusals that were counted."""
        self._keys_looked_at = self._loop.time()
        if self._guard is not None:
            self._guard.doorkeeper.write_repeated()
            if self._keys is not None:
                self._guard.doorkeeper.refresh(self._keys)

    def _take_in(self, peer: bytes, frames: list[Frame]) -> None:
        try:
            message = decode(frames[1:])
        except (MalformedMessageError, MessageTooLargeError) as error:
            self._malformed.note(f"{short(peer)}: {error}")
            self._listener.disconnect(peer)
            return
        for row in rows_of(message) if isinstance(message, m.ObjectBatch) else (message,):
            if isinstance(row, m.ObjectPut) and row.place:
                row = self._segments.resolve(peer, row)
            self._handle(events.Incoming(peer, row), self._loop.time())

    def _on_tier_event(self, event: events.TierEvent) -> None:
        if self._stopped.done():
            return
        self._core.handle(event, self._loop.time())
        self._perform()
        self._schedule()

    def _perform(self) -> None:
        messages: dict[bytes, list[m.Message]] = {}
        for effect in self._core.take_effects():
            if isinstance(effect, effects.Send):
                if isinstance(effect.message, m.ObjectPutReply):
                    self._segments.answered(effect.peer, effect.message)
                messages.setdefault(effect.peer, []).append(effect.message)
            elif isinstance(effect, effects.Warn):
                self._unwelcome.note(effect.text)
            elif isinstance(effect, effects.Stop):
                self.stop(effect.reason)
            elif isinstance(effect, effects.Log):
                logger.log(logging.ERROR if effect.is_error else logging.INFO, "%s", effect.text)
            elif self._tier is not None:
                self._tier.perform(effect)
        for peer, to_peer in messages.items():
            for message in joined(to_peer):
                self._send(peer, message)
        self._segments.end_turn()

    def _send(self, peer: bytes, message: m.Message) -> None:
        outcome = self._listener.send(peer, [_ENVELOPE, *encode(message)])
        if outcome is SendOutcome.GONE:
            self._core.handle(events.PeerGone(peer), self._loop.time())
        elif outcome is SendOutcome.FULL:
            # The peer asks again when it has read the queued answers.
            self._unwelcome.note(f"{short(peer)} does not read its answers; one was dropped")

    def _flush(self) -> None:
        for peer in self._listener.flush():
            self._core.handle(events.PeerGone(peer), self._loop.time())

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._loop.time()
        if self._listener.has_received:
            due = now
        else:
            pause = FLUSH_SECONDS if self._listener.has_queued else LONGEST_SLEEP_SECONDS
            if self._keys is not None:
                pause = min(pause, KEYS_SECONDS)
            due = min(now + pause, self._core.next_deadline())
        self._timer = self._loop.call_at(due, self._turn)
