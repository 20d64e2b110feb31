"""The scheduler process: sockets, timers, and the object storage server that it may start. The core decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scaler_protocol.address import Address
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.service.child import ChildService
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.hangup import on_hangup
from scaler_protocol.service.memory import UnusedMemory, give_back_free_memory, look_at_new_objects, rss_bytes
from scaler_protocol.service.occurrences import Occurrences
from scaler_protocol.service.process import ServiceContext
from scaler_protocol.service.security_settings import server_security
from scaler_protocol.transport import RouterListener, SendOutcome
from scaler_protocol.transport.admission import RefusalKind
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Frame, decode_envelope, encode_envelope
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events
from scaler_scheduler.core.succession import Change
from scaler_scheduler.guard import Guard, open_guard
from scaler_scheduler.kept_jobs import KeptJobs
from scaler_scheduler.monitor_attention import MonitorAttention
from scaler_scheduler.monitor_feed import MonitorFeed, RecentLog
from scaler_scheduler.object_pages import ObjectPages
from scaler_scheduler.openings import for_others, how_to_watch, listen, publish_at, succession_for, webhooks_for
from scaler_scheduler.settings import SchedulerSettings
from scaler_scheduler.store_link import StoreLink
from scaler_scheduler.store_process import STORE_STOP_SECONDS, start_store
from scaler_scheduler.turn_times import timed

if TYPE_CHECKING:
    from scaler_protocol.security.authority import Authority
    from scaler_scheduler.lease_link import LeaseLink
    from scaler_scheduler.succession_link import SuccessionLink
    from scaler_scheduler.webhooks import Webhooks

logger = logging.getLogger(__name__)

DRAIN_MESSAGES = 256
"""Largest number of messages that the core is told before its effects are performed."""

RECEIVE_SECONDS = 0.001
"""How long a turn may take in messages. Those that are left are the first of the next turn."""

TURN_SECONDS = 0.003
"""How long a turn may go on to perform effects. The next turns begin with those that are left."""

SLICE = 8
"""After so many effects is looked whether that time is over."""

BUSY_MESSAGES = 8
"""A turn with more messages is a busy one."""

LONGEST_SLEEP_SECONDS = 0.5
"""Largest time between two checks of connections that are lost, or that have not identified themselves."""

LOOK_SECONDS = 0.5
"""How often is looked whether the list of allowed keys has changed, and whether object storage can be reached."""

FLUSH_SECONDS = 0.005
"""How soon to try again if a peer's socket takes nothing."""

LARGE_LOAD_TASKS = 10_000
"""If there were as many unfinished tasks, memory is returned to the system when none is left."""

STORE_START_SECONDS = 30.0
"""How long the object storage server may take to start."""

STORE_RESTART_SECONDS = 1.0
"""Time between two checks of whether the object storage server has ended."""


async def serve(settings: SchedulerSettings, context: ServiceContext, store: ChildService | None) -> int:
    """Run a scheduler until it is asked to stop; return its exit status.

    `store`: its own object storage server, which waits for its address; None where the settings name one.
    """
    return await _Server(settings, context, store).serve()


class _Server:
    def __init__(self, settings: SchedulerSettings, context: ServiceContext, store: ChildService | None) -> None:
        self._settings = settings
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._timed_turn = timed(self._turn)
        self._registration = context.reactor.register(self._timed_turn, self._on_idle)
        self._cpu_seconds, self._cpu_read_at = time.process_time(), time.monotonic()
        self._stopped = asyncio.Event()
        self._exit_status = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("-inf")
        self._is_tick_due = False
        """Whether the core's deadline may have come. The timer sets it, under load too: turns return to the event loop."""
        self._look_timer: asyncio.TimerHandle
        self._left: list[effects.Effect] = []
        """Effects that the last turn had no time for."""
        self._was_loaded = False
        self._unused_memory = UnusedMemory()
        self._store_child = store
        self._store: StoreLink
        self._webhooks: Webhooks | None = None
        self._kept_jobs = KeptJobs(settings, self._on_journals)
        self._core: SchedulerCore
        self._security = server_security(settings)
        """The keys of those who may connect; None: everybody may."""
        self._guard: Guard | None = None
        self._take_in: Callable[[events.Incoming, float], None]
        """What takes messages in: the core, or the guard before it."""
        self._malformed = Occurrences(logger, "peers disconnected for malformed messages; the last")
        self._router: RouterListener
        self._publisher: Publisher
        self._feed: MonitorFeed
        self._object_pages = ObjectPages()
        self._recent_log = RecentLog()
        self._succession: SuccessionLink | LeaseLink
        """Says whether this scheduler is first, or the standby of another one."""
        self._first_config: SchedulerConfig
        """What the core is told whenever this scheduler is first, but for its incarnation and term."""

    async def serve(self) -> int:
        self._webhooks = webhooks_for(self._settings, self._on_webhook)
        with contextlib.ExitStack() as stack:
            logging.getLogger().addHandler(self._recent_log)
            stack.callback(logging.getLogger().removeHandler, self._recent_log)
            stack.callback(self._context.reactor.unregister, self._registration)
            stack.callback(self._stop_store)
            self._router = listen(
                self._settings, self._registration.schedule, self._security, self._on_refused_connection
            )
            stack.callback(self._router.close)
            bound = Address.parse(self._router.address)
            if self._security is None:
                # With keys, peers in this process need one like all others, and so a socket.
                self._context.listeners[str(bound)] = self._router
                stack.callback(self._context.listeners.pop, str(bound))
            self._publisher = publish_at(
                str(self._settings.monitor_bind_address), self._security, self._on_monitor, self._on_refused_connection
            )
            stack.callback(self._publisher.close)
            self._feed = MonitorFeed(self._publisher, self._recent_log)
            store_address = self._object_storage()
            self._succession = succession_for(self._settings, self._security, self._registration.schedule)
            stack.callback(self._succession.close)
            self._first_config = replace(
                self._settings.core_config(new_id(), str(store_address), self._publisher.address),
                address=self._router.address,
                unix_offset_seconds=time.time() - time.monotonic(),
            )
            stack.callback(self._kept_jobs.close)
            self._core = self._kept_jobs.first_core(self._config_now(), time.monotonic())
            self._guard = open_guard(self._core, self._router, self._security, self._settings.audit_log, stack)
            if self._security is not None:
                stack.enter_context(on_hangup(self._refresh_keys))
            self._take_in = self._core.handle if self._guard is None else self._guard.handle
            self._store = self._link_store()
            stack.callback(lambda: self._store.close())
            watching = how_to_watch(
                self._publisher.address, self._settings.dashboard_url, keyed=self._security is not None
            )
            logger.info("scheduler listens on %s. %s", bound, watching)
            self._succession.log_start()
            logger.info("object storage is at %s", store_address)
            logger.info("monitors connect to %s", for_others(self._publisher.address))
            logger.info("use event loop: %s", self._settings.event_loop)
            # From here on a signal leads to a clean end. A parent that waits for readiness may send one at once.
            stack.enter_context(
                self._context.stop_signals(
                    lambda signal_number: self._on_stop_signal(events.StopRequested(f"{signal_number.name} received")),
                    lambda signal_number: self._on_stop_signal(events.StopAnnounced(f"{signal_number.name} received")),
                )
            )
            self._context.ready(
                {"scheduler": bound, "object_storage": store_address, "monitor": Address.parse(self._publisher.address)}
            )
            watch_store = asyncio.create_task(self._watch_store())
            self._context.reactor.add_reader(self._router.fd, self._timed_turn)
            stack.callback(self._context.reactor.remove_reader, self._router.fd)
            stack.callback(MonitorAttention(self._publisher, self._context.reactor).close)
            self._registration.schedule()
            self._look()
            await self._stopped.wait()
            self._look_timer.cancel()
            self._context.stopping()
            watch_store.cancel()
            await asyncio.gather(watch_store, return_exceptions=True)
            if self._webhooks is not None:
                await self._webhooks.close()
            await self._say_goodbye()
        logger.info("scheduler stopped")
        return self._exit_status

    # --- start

    def _on_refused_connection(self, address: str, kind: RefusalKind, reason: str) -> None:
        if self._guard is not None:
            self._guard.doorkeeper.note_refused_connection(address, kind, reason)

    def _on_monitor(self, address: str, authority: Authority | None) -> None:
        if self._guard is not None:
            self._guard.doorkeeper.note_monitor(address, authority)

    def _object_storage(self) -> Address:
        if self._store_child is None:
            assert self._settings.object_storage_address is not None
            return self._settings.object_storage_address
        self._store_child.give_address(self._settings.own_object_storage_address)
        # Nobody is served yet, so waiting here delays nobody.
        return self._store_child.wait_ready(STORE_START_SECONDS)["object_storage"]

    def _config_now(self) -> SchedulerConfig:
        return self._succession.config(self._first_config)

    # --- one of two schedulers

    def _change_role(self, change: Change) -> None:
        """Take over from another scheduler, or step down because another one is first. What peers hold stays with them."""
        now = time.monotonic()
        if change is Change.STEP_DOWN:
            self._core.dismiss_peers()
            self._perform(now)
            self._kept_jobs.leave()
        try:
            core = self._kept_jobs.new_core(self._config_now(), now)
        except ServiceError as error:
            # The former first one may still have them, if it only stands still.
            core = self._kept_jobs.core_without(self._config_now(), str(error), now)
        self._use(core)

    def _let_go_of_jobs(self, reason: str) -> None:
        """Another scheduler has taken the jobs. To peers this is a restart."""
        now = time.monotonic()
        self._perform(now)
        self._kept_jobs.leave()
        self._use(self._kept_jobs.core_without(self._config_now(), reason, now))

    def _take_up_jobs(self) -> None:
        """Try again to take up the jobs of the former first scheduler. Peers come back to the new core as after a restart."""
        now = time.monotonic()
        core = self._kept_jobs.later_core(self._config_now(), now)
        if core is not None:
            self._perform(now)
            self._use(core)

    def _use(self, core: SchedulerCore) -> None:
        self._core = core
        if self._guard is not None:
            self._guard.use(core)
        else:
            self._take_in = core.handle
        self._store.close()
        self._store = self._link_store()
        self._registration.schedule()

    # --- object storage

    def _link_store(self) -> StoreLink:
        config = self._core.config
        return StoreLink(
            config.object_storage_address,
            config.incarnation,
            self._security,
            self._on_store_status,
            self._on_objects,
            self._on_objects_lost,
            self._on_store_replaced,
            self._core.known_clients,
            config.term,
        )

    def _stop_store(self) -> None:
        if self._store_child is not None:
            self._store_child.terminate(STORE_STOP_SECONDS)

    async def _watch_store(self) -> None:
        """Start the object storage server again, at the same address, whenever it ends."""
        while self._store_child is not None:
            await asyncio.sleep(STORE_RESTART_SECONDS)
            if self._store_child.is_running:
                continue
            self._core.handle(
                events.StoreLost(f"it ended with status {self._store_child.process.returncode}"), time.monotonic()
            )
            self._store_child = start_store(self._settings, Address.parse(self._core.config.object_storage_address))
            try:
                await self._loop.run_in_executor(None, self._store_child.wait_ready, STORE_START_SECONDS)
                logger.warning("object storage server was started again; what it had in memory only is lost")
            except ServiceError as error:
                logger.error("object storage server does not start: %s", error)

    def _on_store_status(self, status: m.StoreStatus, now: float) -> None:
        self._core.handle(events.StoreReported(status), now)
        # A snapshot may have waited for this.
        self._on_idle()

    def _on_objects(self, page: m.ObjectList) -> None:
        topic = self._object_pages.take(page)
        if topic is not None:
            self._feed.publish_objects(topic, self._core.view_objects(page))

    def _on_objects_lost(self, message: m.ObjectsLost, now: float) -> None:
        self._core.handle(events.ObjectsLost(message.host, message.ids), now)
        self._registration.schedule()

    def _on_store_replaced(self, now: float) -> None:
        self._core.handle(events.StoreReplaced(), now)
        self._registration.schedule()

    # --- the loop

    def _turn(self) -> None:
        """Pass received messages to the core, and perform its effects."""
        router, core = self._router, self._core
        now = time.monotonic()
        if not self._left:
            received = router.receive(DRAIN_MESSAGES)
            if len(received) == 1:
                self._receive(*received[0], now)
            else:
                self._receive_many(received, now)
            # Connections that were accepted and greeted are new objects too, though no message has come yet.
            if len(received) > BUSY_MESSAGES or time.monotonic() >= now + RECEIVE_SECONDS:
                look_at_new_objects()
            if self._is_tick_due:
                self._is_tick_due = False
                if now >= core.next_deadline():
                    core.handle(self._tick(), now)
        self._perform(now, now + TURN_SECONDS)
        if self._succession.change is not None and not self._left:
            change = self._succession.take_change()
            assert change is not None
            self._change_role(change)
            core = self._core
        if self._left or router.has_received or core.has_more:
            look_at_new_objects()
            self._registration.schedule()

    def _receive_many(self, received: list[tuple[bytes, list[Frame]]], now: float) -> None:
        # The clock costs a hundredth of a message, and a few messages may be large.
        clock, until = time.monotonic, now + RECEIVE_SECONDS
        for place, (identity, frames) in enumerate(received):
            if clock() >= until and place:
                self._router.put_back(received[place:])
                return
            self._receive(identity, frames, now)

    def _receive(self, identity: bytes, frames: list[Frame], now: float) -> None:
        try:
            envelope, message = decode_envelope(frames[0] if frames else b""), decode(frames[1:])
        except WireError as error:
            self._malformed.note(f"{_printable(identity)}: {error}")
            self._router.disconnect(identity)
            return
        self._take_in(new_tuple(events.Incoming, (identity, envelope, message)), now)
        if type(message) is m.Relay:
            self._receive_relayed(identity, message, now)

    def _receive_relayed(self, identity: bytes, relay: m.Relay, now: float) -> None:
        peer = events.RelayedPeer(identity, relay.client)
        try:
            envelope, message = decode_envelope(relay.inner[0] if relay.inner else b""), decode(relay.inner[1:])
        except WireError as error:
            # The agent only relays it, and other messages too, so its connection stays.
            self._malformed.note(f"a client inside a task at {_printable(identity)}, which stays: {error}")
            return
        self._take_in(events.Incoming(peer, envelope, message), now)

    def _perform(self, now: float, until: float = float("inf")) -> None:
        """Perform effects in order as long as there is time: those that are left of the last turn, else those of the core."""
        due = self._left or self._core.take_effects()
        done = 0
        while done < len(due):
            for effect in due[done : done + SLICE]:
                if isinstance(effect, effects.Send):
                    self._send(effect, now)
                elif isinstance(effect, effects.Disconnect):
                    if self._guard is not None:
                        self._guard.doorkeeper.note_refused(effect.peer, effect.reason)
                    self._router.disconnect(effect.peer)
                elif isinstance(effect, effects.ToStore):
                    self._tell_store(effect.message, now)
                elif isinstance(effect, effects.AskStore):
                    self._store.ask_status(now, even_if_unanswered=False)
                elif isinstance(effect, effects.KeepOwner):
                    self._store.keep_owner(effect.client)
                elif isinstance(effect, effects.Publish):
                    self._feed.publish(effect.message)
                elif isinstance(effect, effects.CallWebhook):
                    assert self._webhooks is not None
                    self._webhooks.call(effect)
                elif isinstance(effect, effects.PeerAsked):
                    self._succession.on_asked(effect.term)
                elif isinstance(effect, effects.StatusHeard):
                    self._router.send(effect.peer, self._succession.answer(effect.peer, effect.status))
                elif isinstance(effect, effects.AppendJournal | effects.SyncJournal | effects.DropJournal):
                    self._kept_jobs.keep(effect)
                elif isinstance(effect, effects.Stop):
                    self._exit_status = effect.exit_status
                    if self._guard is not None:
                        self._guard.doorkeeper.note_shutdown(effect.reason)
                    self._stopped.set()
                else:
                    logger.log(logging.getLevelNamesMapping()[effect.level.upper()], effect.text)
            done += SLICE
            if done < len(due) and time.monotonic() >= until:
                break
        self._left = due[done:]

    def _send(self, effect: effects.Send, now: float) -> None:
        """Send a message. If its peer is unreachable, the core is told, and may want something in another turn."""
        peer, envelope, message, around = effect
        frames: list[Any] = [encode_envelope(envelope), *encode(message)]
        if around is not None:
            assert isinstance(peer, events.RelayedPeer)
            frames = [encode_envelope(around), *encode(m.Relay(peer.client, frames))]
            peer = peer.agent
        outcome = self._router.send(peer, frames)  # type: ignore[arg-type]
        if outcome is SendOutcome.GONE or outcome is SendOutcome.FULL:
            self._core.handle(events.PeerUnreachable(peer, outcome.value), now)  # type: ignore[arg-type]
            self._registration.schedule()

    def _tell_store(self, message: m.Message, now: float) -> None:
        # Whoever started another server stops it.
        if isinstance(message, m.ObjectDelete | m.ClientGone | m.ObjectsGone):
            self._store.tell(message, now)
        elif self._store_child is not None:
            assert isinstance(message, m.Shutdown)
            self._store.tell(message, now)

    def _on_idle(self) -> None:
        """Set the timer to the core's deadline, or earlier if a queue waits to be sent, but no later than the longest sleep."""
        now = time.monotonic()
        wake_at = min(self._core.next_deadline(), now + LONGEST_SLEEP_SECONDS)
        if self._router.has_queued:
            self._router.flush()
            wake_at = min(wake_at, now + FLUSH_SECONDS)
        due = self._store.next_deadline()
        if due <= now:
            self._store.flush(now)
        wake_at = min(wake_at, max(now + FLUSH_SECONDS, due))
        # Nearly always a timer that is early enough is set. Keeping it costs less, even if it wakes once for nothing.
        if now <= self._timer_at <= wake_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wake_at
        self._timer = self._loop.call_later(max(0.0, wake_at - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer_at = float("-inf")
        self._is_tick_due = True
        self._registration.schedule()

    def _look(self) -> None:
        """Look at what nobody tells: changed keys, an object storage server that cannot be reached, memory that is free."""
        self._look_timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._store.watch(time.monotonic())
        self._refresh_keys()
        self._give_back_memory()
        if self._kept_jobs.lost:
            self._let_go_of_jobs(self._kept_jobs.lost)
        if self._kept_jobs.is_due:
            self._take_up_jobs()
        self._kept_jobs.look(time.monotonic())

    def _refresh_keys(self) -> None:
        if self._guard is None:
            return
        self._guard.doorkeeper.write_repeated()
        if self._security is not None:
            self._guard.doorkeeper.refresh(self._security)
            self._publisher.refresh_authorities()

    def _give_back_memory(self) -> None:
        """Return free memory to the system: after a large load, when no task is left, and what a load does not use again."""
        unfinished = self._core.unfinished_count
        if unfinished >= LARGE_LOAD_TASKS:
            self._was_loaded = True
        elif unfinished == 0 and self._was_loaded:
            self._was_loaded = False
            give_back_free_memory()
            return
        self._unused_memory.look()

    def _tick(self) -> events.Tick:
        now, unix_time = time.monotonic(), time.time()
        monitors, wants_events, joined = self._feed.update(now)
        if not monitors:
            return events.Tick()
        store_asked = False
        if self._feed.publish_own(self._core, now, unix_time, joined=joined):
            store_asked = self._store.ask_status(now, even_if_unanswered=joined)
        self._store.ask_objects(self._object_pages.requests(self._feed.objects(), now), now)
        cpu_seconds, elapsed = time.process_time(), max(now - self._cpu_read_at, 1e-3)
        cpu_percent = 100 * (cpu_seconds - self._cpu_seconds) / elapsed
        self._cpu_seconds, self._cpu_read_at = cpu_seconds, now
        outputs = self._feed.outputs()
        return events.Tick(
            cpu_percent,
            rss_bytes(),
            monitors,
            unix_time,
            wants_events,
            joined,
            store_asked,
            outputs,
            self._feed.profiles(),
        )

    def _on_journals(self, event: events.JournalsBehind | events.JournalsStored) -> None:
        self._core.handle(event, time.monotonic())
        self._registration.schedule()

    def _on_webhook(self, event: events.WebhookAnswered | events.WebhookFailed) -> None:
        self._core.handle(event, time.monotonic())
        self._registration.schedule()

    # --- stop

    def _on_stop_signal(self, event: events.StopAnnounced | events.StopRequested) -> None:
        self._perform(time.monotonic())
        self._core.handle(event, time.monotonic())
        self._perform(time.monotonic())

    async def _say_goodbye(self) -> None:
        """Send the last messages. Closing the sockets then waits for what the network has not taken yet."""
        if self._timer is not None:
            self._timer.cancel()
        frames = self._succession.last_words()
        if frames is not None and self._succession.standby is not None:
            self._router.send(self._succession.standby, frames)
        deadline = time.monotonic() + 1.0
        while self._router.has_queued and time.monotonic() < deadline:
            self._router.flush()
            await asyncio.sleep(FLUSH_SECONDS)


def _printable(identity: bytes) -> str:
    return identity[:40].decode("ascii", "backslashreplace")
