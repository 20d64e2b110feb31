"""`scaler_cluster`: the process around the agent's core.

    scheduler ──DealerLink──▶ AgentCore ──effects──▶ processors (ProcessorPool), object storage (StorageLink), scheduler

One thread, one event loop. Whatever is ready is read, then handled in one turn, then everything that follows is sent: under
load many messages share a turn, and an idle agent handles a single task at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from scaler_protocol.address_list import AddressList
from scaler_protocol.capabilities import parse_capabilities
from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError, RefusedError, TransportError
from scaler_protocol.runtime.core import Core
from scaler_protocol.runtime.counted import counted
from scaler_protocol.runtime.memory_limit import memory_limit_bytes
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.service.errors import ConfigurationError, ServiceError
from scaler_protocol.service.module_path import task_path
from scaler_protocol.service.process import ServiceContext
from scaler_protocol.service.security_settings import peer_security
from scaler_protocol.transport import DealerLink
from scaler_protocol.transport.in_process import InProcessLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, decode_envelope, encode_envelope
from scaler_worker.core import AgentCore, AgentOptions, effects, events
from scaler_worker.fences.host import environment_filter, fences_for
from scaler_worker.fences.plan import Fences
from scaler_worker.host_resources import offered_resources
from scaler_worker.processor.kept_output import capacity_for
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.settings import ClusterSettings
from scaler_worker.shell.agent_log import AgentLog
from scaler_worker.shell.figures import ProcessMeter, free_bytes
from scaler_worker.shell.home_process import HomeProcess
from scaler_worker.shell.host_storage import HostStorage
from scaler_worker.shell.object_cache import make_object_folders
from scaler_worker.shell.pool import ProcessorPool
from scaler_worker.shell.start_up import StartUp
from scaler_worker.shell.template_process import TemplateProcess

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity
    from scaler_worker.shell.storage_gate import StorageGate

logger = logging.getLogger(__name__)

RECEIVE_MAX = 256
"""Messages taken in per turn, so that processors and timers have theirs under load."""

CONNECTION_SECONDS = 0.5
"""How often a connection that is lost is looked after, when nothing else wakes the agent."""

GRACE_SECONDS = 5.0
"""How long running tasks may go on when this process is asked to stop."""

SHARED_GRACE_SECONDS = 1.0
"""The same where the scheduler ends with this process: its clients wait to hear that the cluster has ended."""


async def serve(
    settings: ClusterSettings, addresses: AddressList, context: ServiceContext, template: TemplateProcess
) -> int:
    """Work for the first scheduler of those at `addresses` until stopped; return the exit status.

    Processors are forked from `template`. Raises ServiceError when there is no going on.
    """
    fences = fences_for(settings, settings.num_of_workers)
    template.filter_environment(environment_filter(settings))
    agent = Agent(settings, addresses, context, template, fences)
    with context.stop_signals(agent.on_stop_signal):
        try:
            stop = await agent.serve()
            if not stop.status:
                await agent.hand_over()
        finally:
            agent.close()
    if stop.status == ConfigurationError.exit_status:
        raise ConfigurationError(stop.reason)
    if stop.status:
        raise ServiceError(stop.reason)
    logger.info("workers stopped: %s", stop.reason)
    return 0


def _worker_names(settings: ClusterSettings, hostname: str) -> tuple[str, ...]:
    return settings.worker_names or tuple(f"{hostname}-{number}" for number in range(settings.num_of_workers))


def _open_gate(
    security: PeerSecurity | None, fences: Fences, is_processor: Callable[[int], bool]
) -> StorageGate | None:
    """Return what carries large values for clients inside tasks, where these may not read the worker's key."""
    if security is None or fences.account is None:
        return None
    # Imported late: it needs PyNaCl.
    from scaler_worker.shell.storage_gate import StorageGate

    try:
        return StorageGate(security, (fences.account.uid, fences.account.gid), is_processor)
    except (OSError, TransportError) as error:
        raise ServiceError(f"there is no socket for large values of clients inside tasks: {error}") from None


class Agent:
    """Passes what arrives to the core as events, and performs the core's effects."""

    def __init__(
        self,
        settings: ClusterSettings,
        addresses: AddressList,
        context: ServiceContext,
        template: TemplateProcess,
        fences: Fences,
    ) -> None:
        self._log = AgentLog()
        logging.getLogger().addHandler(self._log)
        self._security = peer_security(settings, "worker")
        prefix = self._security.identity_prefix if self._security is not None else b""
        incarnation = new_id(prefix)
        self._link = self._connect(context, str(addresses.first), incarnation)
        hostname = socket.gethostname()
        try:
            host_folders, folders, cache_bytes = make_object_folders(fences.account)
        except OSError as error:
            raise ServiceError(f"there is no folder for the objects of tasks: {error}") from None
        names = _worker_names(settings, hostname)
        resources, devices = offered_resources(settings.resources, settings.gpu_devices)
        self._gate = _open_gate(self._security, fences, lambda pid: self._pool.is_processor(pid))
        storage_address = str(settings.object_storage_address) if settings.object_storage_address else ""
        self._name = f"{hostname}-{os.getpid()}"
        self._core: Core[events.Event, effects.Effect] = AgentCore(
            AgentOptions(
                name=self._name,
                incarnation=incarnation,
                worker_names=names,
                capabilities=tuple(sorted(parse_capabilities(settings.per_worker_capabilities).items())),
                resources=resources,
                devices=devices,
                enforces_memory=settings.enforce_memory,
                memory_bytes=memory_limit_bytes(),
                processor_limit_bytes=settings.processor_memory_limit_bytes,
                hostname=hostname,
                pid=os.getpid(),
                queue_limit=settings.per_worker_task_queue_size,
                heartbeat_seconds=settings.heartbeat_interval_seconds,
                task_timeout_seconds=settings.task_timeout_seconds,
                death_timeout_seconds=settings.death_timeout_seconds,
                scheduler_address=str(addresses),
                scheduler_addresses=tuple(map(str, addresses.addresses)),
                object_storage_address=storage_address,
                object_cache_bytes=cache_bytes,
                identity_prefix=prefix,
            )
        )
        self._incarnation = incarnation
        self._context = context
        self._folders = folders
        self._owner = (fences.account.uid, fences.account.gid) if fences.account else None
        self._figures_seconds = min(settings.heartbeat_interval_seconds, 2.0)
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[effects.Stop] = self._loop.create_future()
        self._ended = False
        self._events: list[events.Event] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        hello = m.Hello(role=m.Role.AGENT, name=self._name, incarnation=incarnation)
        home = HomeProcess(settings, addresses.first) if settings.object_storage else None
        self._storage = HostStorage(
            hello, folders, self._security, self._report, self._owner, home, copies_bytes_max=cache_bytes
        )
        self._link_trouble = ""
        self._meter = ProcessMeter(os.getpid())
        self._registration = context.reactor.register(self._turn, self._on_idle)
        self._start_up = StartUp(context, len(names), settings.preload or "", str(addresses))
        path = task_path()
        self._pool = ProcessorPool(
            ProcessorOptions(
                scheduler_address=str(addresses),
                host_folders=host_folders,
                object_folders=folders,
                preload=settings.preload or "",
                garbage_collect_interval_seconds=settings.garbage_collect_interval_seconds,
                trim_memory_threshold_bytes=settings.trim_memory_threshold_bytes,
                logging_level=settings.logging_level,
                logging_format=settings.logging_format,
                worker_names=names,
                task_path=path.entries,
                task_modules=path.modules,
                # It answers processes of its own user only.
                path_source="" if fences.account else path.source,
                fences=fences,
                enforce_memory=settings.enforce_memory,
                identity_prefix=prefix.hex(),
                security_dir=str(settings.security_dir.absolute()) if settings.security_dir and not self._gate else "",
                storage_gate=self._gate.address if self._gate is not None else "",
                kept_output_bytes=capacity_for(settings.task_output_bytes),
                hides_arguments=settings.hide_task_arguments,
            ),
            template,
            context.reactor,
            self._report,
            lambda reason: self._end(effects.Stop(reason, 1)),
            lambda: self._link.has_queued,
            self._log.note_stderr,
        )
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            effects.Send: self._send,
            effects.StartProcessor: lambda effect: self._pool.start(effect.processor, effect.slot),
            effects.SendTasks: self._send_tasks,
            effects.CancelTask: lambda effect: self._to(effect, lambda link: link.cancel(effect)),
            effects.TakeBack: lambda effect: self._to(effect, lambda link: link.take_back()),
            effects.KillProcessor: lambda effect: self._to(effect, lambda link: link.kill()),
            effects.EndEnvironment: lambda effect: self._to(effect, lambda link: link.end_environment(effect.client)),
            effects.StopProcessor: lambda effect: self._to(effect, lambda link: link.stop()),
            effects.DeliverRelay: lambda effect: self._to(
                effect, lambda link: link.deliver_relay(effect.client, effect.frames)
            ),
            effects.RefuseClient: self._refuse_client,
            effects.AnswerObject: lambda effect: self._to(effect, lambda link: link.answer_object(effect)),
            effects.UseStorage: self._use_storage,
            effects.FetchObject: self._storage.fetch,
            effects.PutObject: self._storage.put,
            effects.DropObject: lambda effect: self._folders.drop(effect.id),
            effects.MeasureMemory: self._pool.measure_memory,
            effects.Log: lambda effect: logger.log(effect.level, "%s", effect.text),
            effects.MoveLink: self._move_link,
            effects.SampleProcessors: lambda effect: self._pool.sample(effect.seconds, effect.rate),
            effects.Stop: self._end,
            effects.ReadOutput: self._read_output,
        }
        logger.info(
            "%s for %s: %s. Stop with Ctrl-C or 'kill %d'",
            counted(len(names), "worker"),
            addresses,
            ", ".join(names),
            os.getpid(),
        )
        if settings.hard_processor_suspend:
            logger.info(
                "--hard-processor-suspend has no effect: a suspended task could not receive the results it waits for"
            )

    async def serve(self) -> effects.Stop:
        """Run until the core says stop."""
        if isinstance(self._link, DealerLink):
            self._context.reactor.add_reader(self._link.fd, partial(self._receive, self._link))
        self._report(events.Start())
        self._measure()
        self._check_link()
        return await self._stopped

    def on_stop_signal(self, number: signal.Signals) -> None:
        """Begin to stop: take no new tasks, give running ones some seconds."""
        self._context.stopping()
        grace_seconds = SHARED_GRACE_SECONDS if isinstance(self._link, InProcessLink) else GRACE_SECONDS
        self._report(events.StopRequested(number.name, grace_seconds))

    async def hand_over(self) -> None:
        """Put what only the store of this host has into the object storage server of the cluster."""
        await self._storage.hand_over()

    def close(self) -> None:
        """Close all links and end all processors."""
        if self._timer is not None:
            self._timer.cancel()
        logging.getLogger().removeHandler(self._log)
        self._storage.close("the worker stops")
        self._pool.close()
        if self._gate is not None:
            self._gate.close()
        if isinstance(self._link, DealerLink):
            self._context.reactor.remove_reader(self._link.fd)
        self._link.close()
        self._context.reactor.unregister(self._registration)

    def _connect(self, context: ServiceContext, address: str, identity: bytes) -> DealerLink | InProcessLink:
        listener = context.listeners.get(address)
        if listener is not None and self._security is None:
            return InProcessLink(listener, identity, self._take)
        try:
            link = DealerLink(address, identity, self._security)
        except TransportError as error:
            raise ServiceError(f"ADDRESS: {error}") from None
        link.on_refused = self._on_refused
        return link

    # --- in

    def _report(self, event: events.Event) -> None:
        """Keep an event for the next turn."""
        self._events.append(event)
        if not self._registration.is_due:
            self._registration.schedule()

    def _receive(self, link: DealerLink) -> None:
        for frames in link.receive(RECEIVE_MAX):
            self._take(frames)
        if link.has_received:
            self._loop.call_soon(self._receive, link)

    def _take(self, frames: Sequence[Frame]) -> None:
        """Keep a message from the scheduler for the next turn."""
        try:
            event = new_tuple(events.Incoming, (decode_envelope(frames[0]), decode(frames[1:])))
        except (MalformedMessageError, MessageTooLargeError) as error:
            # Sent again, it would be the same.
            self._end(effects.Stop(f"the scheduler sent a message that cannot be read: {error}", 1))
            return
        self._events.append(event)
        if not self._registration.is_due:
            self._registration.schedule()

    def _turn(self) -> None:
        """Handle all events that have come, then perform all effects."""
        if self._ended:
            return
        now = time.monotonic()
        core, performers = self._core, self._performers
        arrived, self._events = self._events, []
        try:
            for event in arrived:
                core.handle(event, now)
                if type(event) is events.ProcessorReady:
                    self._on_started(event)
            for effect in core.take_effects():
                performers[type(effect)](effect)
        except Exception as error:
            logger.exception("the agent failed")
            self._end(effects.Stop(f"the agent failed: {type(error).__name__}: {error}", 1))

    def _on_idle(self) -> None:
        """Set the timer for the core's deadline."""
        if self._ended:
            return
        deadline = self._core.next_deadline()
        if self._timer is not None:
            # A timer that fires too early costs less than a new timer for every turn.
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline != float("inf"):
            self._timer_at = deadline
            # Not at a time of the loop's own clock: uvloop's stands still while a turn lasts.
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._core.next_deadline() <= time.monotonic():
            self._report(events.Tick())
        else:
            self._on_idle()

    def _measure(self) -> None:
        cpu_percent, rss_bytes = self._meter.read()
        self._report(events.Figures(cpu_percent, rss_bytes, free_bytes(), self._pool.figures()))
        self._pool.give_back_idle()
        if not self._ended:
            self._loop.call_later(self._figures_seconds, self._measure)

    def _check_link(self) -> None:
        """Send what waits and look for errors of the connection, when nothing else does."""
        if self._ended:
            return
        self._link.flush()
        if isinstance(self._link, DealerLink) and self._link.trouble:
            self._on_link_trouble(self._link)
        self._loop.call_later(min(CONNECTION_SECONDS, self._link.retry_seconds()), self._check_link)

    def _on_link_trouble(self, link: DealerLink) -> None:
        """Log what is wrong with the connection whenever that changes. Give up if it can never be made."""
        if self._start_up.registered or link.trouble == self._link_trouble:
            return
        self._link_trouble = link.trouble
        if link.refusal is not None:
            self._end(effects.Stop(f"ADDRESS: no way to work for {link.address}: {link.trouble}", 2))
        elif link.misdirected and link.has_answered:
            self._end(effects.Stop(f"ADDRESS: {link.address} is not the address of a scheduler: {link.trouble}", 2))
        else:
            logger.warning("no scheduler answers at %s yet; waiting for it: %s", link.address, link.trouble)

    def _on_refused(self, error: RefusedError) -> None:
        if self._start_up.registered:
            self._report(events.LinkRefused(str(error)))

    def _on_started(self, event: events.ProcessorReady) -> None:
        link = self._pool.find(event.processor)
        if link is not None:
            self._start_up.on_worker_started(link.slot)
            logger.info("Worker[%d] started: processor %d", link.slot, event.pid)

    # --- out

    def _to(self, effect: Any, perform: Callable[[Any], None]) -> None:
        link = self._pool.find(effect.processor)
        # A processor that has just died is reported in the next turn.
        if link is not None:
            perform(link)

    def _send_tasks(self, effect: effects.SendTasks) -> None:
        link = self._pool.find(effect.processor)
        if link is not None:
            link.send_tasks(effect)

    def _refuse_client(self, effect: effects.RefuseClient) -> None:
        frames = [encode_envelope(UNSEQUENCED), *encode(m.Refused(effect.reason))]
        self._to(effect, lambda link: link.deliver_relay(effect.client, frames))

    def _send(self, effect: effects.Send) -> None:
        self._link.send([encode_envelope(effect.envelope), *encode(effect.message)])

    def _read_output(self, effect: effects.ReadOutput) -> None:
        data = self._pool.output_of(effect.number, effect.client) if effect.number else self._log.answer()
        self._report(events.OutputRead(effect.request, data))

    def _move_link(self, effect: effects.MoveLink) -> None:
        assert isinstance(self._link, DealerLink), "there is one scheduler in this process"
        self._link.move(effect.address)

    def _use_storage(self, effect: effects.UseStorage) -> None:
        self._start_up.on_registered()
        if self._storage.address == effect.address:
            return
        self._pool.tell_storage_address(effect.address)
        if self._gate is not None:
            self._gate.follow(effect.address)
        self._storage.use_centre(effect.address)

    def _end(self, stop: effects.Stop) -> None:
        if not self._ended:
            self._ended = True
            self._stopped.set_result(stop)
