"""A service and the process it runs in: alone there (`run_alone`), or beside others (`service.together`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from scaler_protocol.service.interrupts import quiet_interrupts

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


class Host:
    """What a service has from its process, and what it has to tell it."""

    def __init__(self, turns: Turns, addresses: dict[str, Address], listeners: dict[str, RouterListener]) -> None:
        self.turns = turns
        self.addresses = addresses
        """Where the services before it in this process answer, by role."""
        self.listeners = listeners
        """Those of this process, by address: an `InsideLink` reaches them."""

    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        """Say, once, that the service answers on these addresses, given by role."""
        raise NotImplementedError

    def stopping(self) -> None:
        """Say that a graceful end has begun."""
        raise NotImplementedError

    def stop_signals(self, on_stop: OnStop) -> AbstractContextManager[object]:
        """While entered, `on_stop` is called when the service is to stop."""
        raise NotImplementedError


class _OwnProcess(Host):
    def __init__(self, turns: Turns, readiness: Readiness) -> None:
        super().__init__(turns, {}, {})
        self._readiness = readiness

    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        self._readiness.ready(addresses)

    def stopping(self) -> None:
        self._readiness.stopping()

    def stop_signals(self, on_stop: OnStop) -> AbstractContextManager[object]:
        from scaler_protocol.service.signals import StopSignals

        return StopSignals(on_stop)


def run_alone(make_part: Callable[[], Part], arguments: Sequence[str] | None = None) -> int:
    """Run a service as the command that it is, with these arguments (default: those of this process); return its exit status."""
    with ExitStack() as started:
        with quiet_interrupts():
            from scaler_protocol.service.child import die_with_parent
            from scaler_protocol.service.readiness import Readiness

            # First of all, because these take out of the environment what child processes must not inherit.
            die_with_parent()
            readiness = Readiness.from_environment()
            part = make_part()
            started.callback(part.close)
            from scaler_protocol.service.command import run_command

            settings_class = part.settings_class

        def run(settings: EventLoopSettings) -> int:
            from scaler_protocol.service import event_loop

            part.prepare(settings, alone=True)
            return event_loop.run(lambda: _serve_alone(part, settings, readiness), settings.event_loop)

        return run_command(settings_class, run, arguments)


async def _serve_alone(part: Part, settings: EventLoopSettings, readiness: Readiness) -> int:
    import asyncio

    from scaler_protocol.service.turns import Turns

    turns = Turns()
    keep_alive = asyncio.create_task(readiness.keep_alive())
    try:
        return await part.serve(settings, _OwnProcess(turns, readiness))
    finally:
        keep_alive.cancel()
        turns.close()
