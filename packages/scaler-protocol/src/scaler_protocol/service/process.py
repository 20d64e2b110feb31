"""A service and what it has from its process, which it has to itself (`run_alone`) or shares (`service.shared_process`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from scaler_protocol.service.process_start import starting

if TYPE_CHECKING:
    import signal
    from contextlib import AbstractContextManager

    from scaler_protocol.address import Address
    from scaler_protocol.service.command import EventLoopSettings
    from scaler_protocol.service.reactor import Reactor
    from scaler_protocol.service.readiness import Readiness
    from scaler_protocol.transport import RouterListener

    OnStop = Callable[[signal.Signals], None]


class Service(Protocol):
    """A service, from the start of its process. It is made before anything large is imported, and closed whatever happens."""

    @property
    def settings_class(self) -> type[EventLoopSettings]:
        """Its settings; importing them is what takes long."""

    def prepare(self, settings: Any, *, alone: bool) -> None:
        """Do what is to be done before there is an event loop, a socket or a thread: fork, wait for standard input when alone."""

    async def serve(self, settings: Any, context: ServiceContext) -> int:
        """Run until stopped; return the exit status. Raises ServiceError when there is no starting or going on."""

    def close(self) -> None:
        """End what was started, be it in `prepare` or when this was made."""


class ServiceContext(ABC):
    """What a service is given by its process, and what it has to tell it."""

    def __init__(
        self,
        reactor: Reactor,
        readiness: Readiness,
        addresses: dict[str, Address],
        listeners: dict[str, RouterListener],
    ) -> None:
        self.reactor = reactor
        self._readiness = readiness
        self.addresses = addresses
        """Where the services before it in this process answer, by role."""
        self.listeners = listeners
        """Those of this process, by address: an `InProcessLink` reaches them."""

    @abstractmethod
    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        """Say, once, that the service answers on these addresses, given by role."""

    @abstractmethod
    def started(self) -> None:
        """Say that everything of this service runs that does not need another one."""

    def status(self, text: str) -> None:
        """Say what the service waits for before it is ready."""
        self._readiness.status(text)

    @abstractmethod
    def stopping(self) -> None:
        """Say that a graceful end has begun."""

    @abstractmethod
    def stop_signals(self, on_stop: OnStop, on_announced: OnStop | None = None) -> AbstractContextManager[object]:
        """While entered, `on_stop` is called when the service is to stop.

        `on_announced` is called before, where other services of the process stop first, which may take a while.
        """


class _OwnProcess(ServiceContext):
    def __init__(self, reactor: Reactor, readiness: Readiness) -> None:
        super().__init__(reactor, readiness, {}, {})

    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        self._readiness.ready(addresses)

    def started(self) -> None:
        self._readiness.started()

    def stopping(self) -> None:
        self._readiness.stopping()

    def stop_signals(self, on_stop: OnStop, on_announced: OnStop | None = None) -> AbstractContextManager[object]:
        from scaler_protocol.service.signals import StopSignals

        return StopSignals(on_stop)


def make_services(factories: Sequence[Callable[[], Service]], started: ExitStack) -> tuple[Readiness, list[Service]]:
    """Make the services of this process, and import what their settings need; leaving `started` closes them."""
    with starting():
        from scaler_protocol.service.child import die_with_parent
        from scaler_protocol.service.readiness import Readiness

        # First of all, because these take out of the environment what child processes must not inherit.
        die_with_parent()
        readiness = Readiness.from_environment()
        services = []
        for make_service in factories:
            services.append(make_service())
            started.callback(services[-1].close)
        # By now every service has started its background work, which goes on during these imports.
        for service in services:
            _ = service.settings_class
    return readiness, services


@asynccontextmanager
async def running_reactor(readiness: Readiness) -> AsyncIterator[Reactor]:
    """A reactor for the running event loop. Meanwhile, whoever waits for this process is told that it is alive."""
    import asyncio

    from scaler_protocol.service.reactor import Reactor

    reactor = Reactor()
    keep_alive = asyncio.create_task(readiness.keep_alive())
    try:
        yield reactor
    finally:
        keep_alive.cancel()
        reactor.close()


def run_alone(make_service: Callable[[], Service], arguments: Sequence[str] | None = None) -> int:
    """Run a service as the command that it is, with these arguments (default: those of this process); return its exit status."""
    with ExitStack() as started:
        readiness, (service,) = make_services([make_service], started)
        from scaler_protocol.service import event_loop
        from scaler_protocol.service.command import run_command

        async def serve(settings: EventLoopSettings) -> int:
            async with running_reactor(readiness) as reactor:
                return await service.serve(settings, _OwnProcess(reactor, readiness))

        def run(settings: EventLoopSettings) -> int:
            service.prepare(settings, alone=True)
            return event_loop.run(lambda: serve(settings), settings.event_loop)

        return run_command(service.settings_class, run, arguments)
