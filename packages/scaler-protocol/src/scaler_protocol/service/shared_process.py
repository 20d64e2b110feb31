"""Several services in one process, one event loop and one thread, for a cluster on a single machine.

    python -m scaler_protocol.service.shared_process MODULE ARGUMENTS... [-- MODULE ARGUMENTS...]...

Each runs as `python -m MODULE ARGUMENTS...` would. They start in this order, each when the one before is ready, and stop in
the opposite order. If one ends, all do. Messages between them need no socket and wake no process, which saves two of the seven
wake-ups of a task's round trip (benchmarks/NOTES.md). Services know nothing of each other: one with the address `-` gets the
addresses of those before it. The first one's settings for logs and event loop hold for all.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.process import ServiceContext, make_services, running_reactor
from scaler_protocol.service.process_start import importing

if TYPE_CHECKING:
    import asyncio
    import signal

    from scaler_protocol.address import Address
    from scaler_protocol.service.process import OnStop, Service
    from scaler_protocol.service.reactor import Reactor
    from scaler_protocol.service.readiness import Readiness
    from scaler_protocol.transport import RouterListener

MODULE = "scaler_protocol.service.shared_process"

_SEPARATOR = "--"

USAGE = "usage: python -m scaler_protocol.service.shared_process MODULE ARGUMENTS... [-- MODULE ARGUMENTS...]..."


def join_command_lines(command_lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the arguments that run these services. Each is a module and its arguments."""
    arguments = list(command_lines[0])
    for command_line in command_lines[1:]:
        arguments += [_SEPARATOR, *command_line]
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the services that the arguments name (default: those of this process); return the exit status."""
    command_lines = _split(sys.argv[1:] if arguments is None else arguments)
    with ExitStack() as started:
        readiness, services = make_services([_maker(module) for module, *_ in command_lines], started)
        from scaler_protocol.service.command import status_of

        # Settings that concern all of them are taken from the first one.
        return status_of(
            services[0].settings_class.command,
            lambda: _run(services, [arguments for _, *arguments in command_lines], readiness),
        )


def _split(arguments: Sequence[str]) -> list[list[str]]:
    """Undo `join_command_lines`. Exit with the usage if a module is missing."""
    command_lines: list[list[str]] = [[]]
    for argument in arguments:
        if argument == _SEPARATOR:
            command_lines.append([])
        else:
            command_lines[-1].append(argument)
    if not all(command_lines):
        sys.exit(USAGE)
    return command_lines


def _maker(module: str) -> Callable[[], Service]:
    def make_service() -> Service:
        service: Service = importlib.import_module(f"{module}.main").service()
        return service

    return make_service


def _run(services: Sequence[Service], arguments: Sequence[Sequence[str]], readiness: Readiness) -> int:
    from scaler_protocol.service import event_loop
    from scaler_protocol.service.command import set_up, tell

    settings: list[Any] = []
    status = 0
    for service, given in zip(services, arguments, strict=True):
        try:
            settings.append(service.settings_class.from_command_line(given))
        except ServiceError as error:
            # All errors are reported at once.
            status = tell(service.settings_class.command, error)
    if status:
        return status
    set_up(settings[0])
    with importing():
        for service, own in zip(services, settings, strict=True):
            service.prepare(own, alone=False)
    return event_loop.run(
        lambda: _ServiceGroup(readiness).serve(list(zip(services, settings, strict=True))), settings[0].event_loop
    )


class _ServiceGroup:
    """Services that start and stop in order."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._members: list[_SharedService] = []
        self._signals: ExitStack | None = None
        self._asked: signal.Signals | None = None

    async def serve(self, services: Sequence[tuple[Service, Any]]) -> int:
        """Run them, each with its settings, until one of them ends or a signal comes; return the exit status."""
        import asyncio
        import signal

        addresses: dict[str, Address] = {}
        listeners: dict[str, RouterListener] = {}
        tasks: list[asyncio.Task[int]] = []
        async with running_reactor(self._readiness) as reactor:
            try:
                for service, settings in services:
                    member = _SharedService(
                        service, settings, reactor, self._readiness, addresses, listeners, self._watch_signals
                    )
                    self._members.append(member)
                    tasks.append(member.task)
                    awaited: list[asyncio.Future[Any]] = [*tasks, member.is_ready]
                    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                    if self._asked is not None or any(task.done() for task in tasks):
                        break
                else:
                    self._readiness.ready(addresses)
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if self._asked is None:
                    self._readiness.stopping()
                    self._announce(signal.SIGTERM)
                for member in reversed(self._members):
                    member.ask(self._asked or signal.SIGTERM)
                    await asyncio.wait([member.task])
                return max(0 if task.cancelled() else task.result() for task in tasks)
            finally:
                if self._signals is not None:
                    self._signals.close()

    def _watch_signals(self) -> None:
        """From now on a signal causes an orderly stop."""
        from scaler_protocol.service.signals import StopSignals

        if self._signals is None:
            self._signals = ExitStack()
            self._signals.enter_context(StopSignals(self._on_signal))

    def _on_signal(self, number: signal.Signals) -> None:
        self._asked = number
        self._readiness.stopping()
        self._announce(number)
        # The others are stopped when this one has ended.
        self._members[-1].ask(number)

    def _announce(self, number: signal.Signals) -> None:
        """Announce to all services that they will be stopped, each when those after it have ended."""
        for member in self._members:
            member.announce(number)


class _SharedService(ServiceContext):
    """One service of the process."""

    def __init__(
        self,
        service: Service,
        settings: Any,
        reactor: Reactor,
        readiness: Readiness,
        addresses: dict[str, Address],
        listeners: dict[str, RouterListener],
        watch_signals: Callable[[], None],
    ) -> None:
        import asyncio

        super().__init__(reactor, readiness, addresses, listeners)
        self._watch_signals = watch_signals
        self._on_stop: OnStop | None = None
        self._on_announced: OnStop | None = None
        self._is_asked = False
        self.is_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[int] = asyncio.create_task(self._serve(service, settings))

    async def _serve(self, service: Service, settings: Any) -> int:
        from scaler_protocol.service.command import tell

        try:
            return await service.serve(settings, self)
        except ServiceError as error:
            return tell(service.settings_class.command, error)

    def announce(self, number: signal.Signals) -> None:
        """Announce to it that it will be stopped."""
        if self._on_announced is not None and not self.task.done():
            self._on_announced(number)

    def ask(self, number: signal.Signals) -> None:
        """Stop it, once. A service that handles no signals yet has nothing to finish."""
        if self._is_asked or self.task.done():
            return
        self._is_asked = True
        if self._on_stop is None:
            self.task.cancel()
        else:
            self._on_stop(number)

    # --- for the service

    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        if not self.is_ready.done():
            self.addresses.update(addresses or {})
            self.is_ready.set_result(None)

    def started(self) -> None:
        """Do nothing: the parent is told when all services of the process are ready."""

    def stopping(self) -> None:
        """Do nothing: the process reports its orderly stop when the first service is stopped."""

    @contextmanager
    def stop_signals(self, on_stop: OnStop, on_announced: OnStop | None = None) -> Iterator[None]:
        self._watch_signals()
        self._on_stop, self._on_announced = on_stop, on_announced
        try:
            yield
        finally:
            self._on_stop = self._on_announced = None


if __name__ == "__main__":
    sys.exit(main())
