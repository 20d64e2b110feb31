"""A service, and the context that its process gives it. A process has one service (`run_alone`) or several (`shared_process`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from scaler_protocol.service.process_start import importing, starting

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
    """A service. It is made before anything large is imported, and closed in any case."""

    @property
    def settings_class(self) -> type[EventLoopSettings]:
        """Return the class of its settings. Importing it takes long."""

    def prepare(self, settings: Any, *, alone: bool) -> None:
        """Do everything that must happen before there are event loops, sockets or threads: fork, read standard input if alone."""

    async def serve(self, settings: Any, context: ServiceContext) -> int:
        """Run until stopped; return the exit status. Raises ServiceError if the service cannot start or go on."""

    def close(self) -> None:
        """End everything that the constructor or `prepare` has started."""


class ServiceContext(ABC):
    """What a process gives to its service, and what the service reports to it."""

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
        """The addresses of the services before it in this process, by role."""
        self.listeners = listeners
        """The listeners of this process by address, for `InProcessLink`."""

    @abstractmethod
    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        """Report once that the service answers on these addresses, given by role."""

    @abstractmethod
    def started(self) -> None:
        """Report that all parts of the service run that need no other service."""

    def status(self, text: str) -> None:
        """Report what the service waits for before it is ready."""
        self._readiness.status(text)

    @abstractmethod
    def stopping(self) -> None:
        """Report that an orderly stop has begun."""

    @abstractmethod
    def stop_signals(self, on_stop: OnStop, on_announced: OnStop | None = None) -> AbstractContextManager[object]:
        """While this is entered, `on_stop` is called when the service must stop.

        If other services of the process stop first, which may take a while, `on_announced` is called before that.
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
    """Make the services of this process and import their settings. Leaving `started` closes them."""
    with starting():
        from scaler_protocol.service.child import die_with_parent
        from scaler_protocol.service.readiness import Readiness

        # First, because these remove variables from the environment that child processes must not inherit.
        die_with_parent()
        readiness = Readiness.from_environment()
        services = []
        for make_service in factories:
            services.append(make_service())
            started.callback(services[-1].close)
        # Every service has started its background work, which goes on during these imports.
        for service in services:
            _ = service.settings_class
    return readiness, services


@asynccontextmanager
async def running_reactor(readiness: Readiness) -> AsyncIterator[Reactor]:
    """A reactor for the running event loop. While it exists, signs of life are sent to systemd."""
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
    """Run a service as a command with these arguments (default: those of this process); return its exit status."""
    with ExitStack() as started:
        readiness, (service,) = make_services([make_service], started)
        from scaler_protocol.service import event_loop
        from scaler_protocol.service.command import run_command

        async def serve(settings: EventLoopSettings) -> int:
            async with running_reactor(readiness) as reactor:
                return await service.serve(settings, _OwnProcess(reactor, readiness))

        def run(settings: EventLoopSettings) -> int:
            with importing():
                service.prepare(settings, alone=True)
            return event_loop.run(lambda: serve(settings), settings.event_loop)

        return run_command(service.settings_class, run, arguments)
