"""A service and the process it runs in: alone there (`run_alone`), or beside others (`service.together`)."""

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
    from scaler_protocol.service.readiness import Readiness
    from scaler_protocol.service.turns import Turns
    from scaler_protocol.transport import RouterListener

    OnStop = Callable[[signal.Signals], None]


class Part(Protocol):
    """A service, from the start of its process. It is made before anything large is imported, and closed whatever happens."""

    @property
    def settings_class(self) -> type[EventLoopSettings]:
        """Its settings; importing them is what takes long."""

    def prepare(self, settings: Any, *, alone: bool) -> None:
        """Do what is to be done before there is an event loop, a socket or a thread: fork, wait for standard input when alone."""

    async def serve(self, settings: Any, host: Host) -> int:
        """Run until stopped; return the exit status. Raises ServiceError when there is no starting or going on."""

    def close(self) -> None:
        """End what was started, be it in `prepare` or when this was made."""


class Host(ABC):
    """What a service has from its process, and what it has to tell it."""

    def __init__(
        self,
        turns: Turns,
        readiness: Readiness,
        addresses: dict[str, Address],
        listeners: dict[str, RouterListener],
    ) -> None:
        self.turns = turns
        self._readiness = readiness
        self.addresses = addresses
        """Where the services before it in this process answer, by role."""
        self.listeners = listeners
        """Those of this process, by address: an `InsideLink` reaches them."""

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


class _OwnProcess(Host):
    def __init__(self, turns: Turns, readiness: Readiness) -> None:
        super().__init__(turns, readiness, {}, {})

    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        self._readiness.ready(addresses)

    def started(self) -> None:
        self._readiness.started()

    def stopping(self) -> None:
        self._readiness.stopping()

    def stop_signals(self, on_stop: OnStop, on_announced: OnStop | None = None) -> AbstractContextManager[object]:
        from scaler_protocol.service.signals import StopSignals

        return StopSignals(on_stop)


def begin(make_parts: Sequence[Callable[[], Part]], started: ExitStack) -> tuple[Readiness, list[Part]]:
    """Make the parts of this process, and import what their settings need; leaving `started` closes them."""
    with starting():
        from scaler_protocol.service.child import die_with_parent
        from scaler_protocol.service.readiness import Readiness

        # First of all, because these take out of the environment what child processes must not inherit.
        die_with_parent()
        readiness = Readiness.from_environment()
        parts = []
        for make_part in make_parts:
            parts.append(make_part())
            started.callback(parts[-1].close)
        # All of them have begun what goes on beside this.
        for part in parts:
            _ = part.settings_class
    return readiness, parts


@asynccontextmanager
async def turns_of(readiness: Readiness) -> AsyncIterator[Turns]:
    """The turns of the running event loop, which gives signs of life meanwhile."""
    import asyncio

    from scaler_protocol.service.turns import Turns

    turns = Turns()
    keep_alive = asyncio.create_task(readiness.keep_alive())
    try:
        yield turns
    finally:
        keep_alive.cancel()
        turns.close()


def run_alone(make_part: Callable[[], Part], arguments: Sequence[str] | None = None) -> int:
    """Run a service as the command that it is, with these arguments (default: those of this process); return its exit status."""
    with ExitStack() as started:
        readiness, (part,) = begin([make_part], started)
        from scaler_protocol.service import event_loop
        from scaler_protocol.service.command import run_command

        async def serve(settings: EventLoopSettings) -> int:
            async with turns_of(readiness) as turns:
                return await part.serve(settings, _OwnProcess(turns, readiness))

        def run(settings: EventLoopSettings) -> int:
            part.prepare(settings, alone=True)
            return event_loop.run(lambda: serve(settings), settings.event_loop)

        return run_command(part.settings_class, run, arguments)
