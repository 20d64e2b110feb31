"""Several services in one process, one event loop and one thread, for a cluster on a single machine.

    python -m scaler_protocol.service.together MODULE ARGUMENTS... [-- MODULE ARGUMENTS...]...

Each is what `python -m MODULE ARGUMENTS...` would be. They start in this order, each when the one before is ready, and stop in
the opposite one; when one ends, all do. What travels between them needs no socket and wakes no process, which saves two of the
seven wake-ups of a task's round trip (benchmarks/NOTES.md). Services know nothing of each other: one of address `-` is told
where those before it answer. The first one's settings for logs and event loop hold for all.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.host import Host
from scaler_protocol.service.interrupts import quiet_interrupts

if TYPE_CHECKING:
    import asyncio
    import signal
    from contextlib import AbstractContextManager

    from scaler_protocol.address import Address
    from scaler_protocol.service.host import OnStop, Part
    from scaler_protocol.service.readiness import Readiness
    from scaler_protocol.service.turns import Turns
    from scaler_protocol.transport import RouterListener

SEPARATOR = "--"

USAGE = "usage: python -m scaler_protocol.service.together MODULE ARGUMENTS... [-- MODULE ARGUMENTS...]..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the services that these arguments name (default: those of this process); return the exit status."""
    named = _split(sys.argv[1:] if arguments is None else arguments)
    with ExitStack() as started:
        with quiet_interrupts():
            from scaler_protocol.service.child import die_with_parent
            from scaler_protocol.service.readiness import Readiness

            # First of all, because these take out of the environment what child processes must not inherit.
            die_with_parent()
            readiness = Readiness.from_environment()
            parts: list[Part] = []
            for module, _ in named:
                parts.append(importlib.import_module(f"{module}.main").part())
                started.callback(parts[-1].close)
            for part in parts:
                # So that all are imported.
                assert part.settings_class
            from scaler_protocol.service.command import tell
        try:
            return _run(parts, [rest for _, rest in named], readiness)
        except ServiceError as error:
            # What concerns all of them is in the first one's settings.
            return tell(parts[0].settings_class.command, error)
        except KeyboardInterrupt:
            return 130
    raise AssertionError("unreachable: what ends a service is not swallowed")


def _split(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return each service's module and arguments."""
    named: list[list[str]] = [[]]
    for argument in arguments:
        if argument == SEPARATOR:
            named.append([])
        else:
            named[-1].append(argument)
    if not all(named):
        sys.exit(USAGE)
    return [(module, rest) for module, *rest in named]


def _run(parts: Sequence[Part], arguments: Sequence[Sequence[str]], readiness: Readiness) -> int:
    from scaler_protocol.service import event_loop
    from scaler_protocol.service.command import set_up, tell

    settings: list[Any] = []
    status = 0
    for part, given in zip(parts, arguments, strict=True):
        try:
            settings.append(part.settings_class.from_command_line(given))
        except ServiceError as error:
            # All mistakes are told at once.
            status = tell(part.settings_class.command, error)
    if status:
        return status
    set_up(settings[0])
    for part, own in zip(parts, settings, strict=True):
        part.prepare(own, alone=False)
    members = [_Member(part, own) for part, own in zip(parts, settings, strict=True)]
    return event_loop.run(lambda: _Company(members, readiness).serve(), settings[0].event_loop)


class _Company:
    """Services that start and stop in order."""

    def __init__(self, members: Sequence[_Member], readiness: Readiness) -> None:
        self._members = members
        self._readiness = readiness
        self._signals = ExitStack()
        self._is_watching = False
        self._asked: signal.Signals | None = None

    async def serve(self) -> int:
        """Run until one of them ends or a signal comes; return the exit status."""
        import asyncio
        import signal

        from scaler_protocol.service.turns import Turns

        turns = Turns()
        keep_alive = asyncio.create_task(self._readiness.keep_alive())
        addresses: dict[str, Address] = {}
        listeners: dict[str, RouterListener] = {}
        running: list[asyncio.Task[int]] = []
        try:
            for member in self._members:
                host = _SharedHost(turns, addresses, listeners, self._watch_signals, member)
                member.task = asyncio.create_task(member.run(host))
                running.append(member.task)
                awaited: list[asyncio.Future[Any]] = [*running, host.is_ready]
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if self._asked is not None or any(task.done() for task in running):
                    break
            else:
                self._readiness.ready(addresses)
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if self._asked is None:
                self._readiness.stopping()
            for member in reversed(self._members[: len(running)]):
                await member.stop(self._asked or signal.SIGTERM)
            return max(0 if task.cancelled() else task.result() for task in running)
        finally:
            keep_alive.cancel()
            self._signals.close()
            turns.close()

    def _watch_signals(self) -> None:
        """From now on a signal means a clean end."""
        from scaler_protocol.service.signals import StopSignals

        if not self._is_watching:
            self._is_watching = True
            self._signals.enter_context(StopSignals(self._on_signal))

    def _on_signal(self, number: signal.Signals) -> None:
        self._asked = number
        self._readiness.stopping()
        # The others follow when this one has ended.
        for member in reversed(self._members):
            if member.task is not None:
                member.ask(number)
                return


class _Member:
    """One service, from its start to its end."""

    def __init__(self, part: Part, settings: Any) -> None:
        self._part = part
        self._settings = settings
        self.task: asyncio.Task[int] | None = None
        self.on_stop: OnStop | None = None
        self._is_asked = False

    async def run(self, host: Host) -> int:
        from scaler_protocol.service.command import tell

        try:
            return await self._part.serve(self._settings, host)
        except ServiceError as error:
            return tell(self._part.settings_class.command, error)

    def ask(self, number: signal.Signals) -> None:
        """Ask it to stop. One that listens to no signals yet has nothing to finish."""
        assert self.task is not None
        if not self._is_asked:
            self._is_asked = True
            if self.on_stop is None:
                self.task.cancel()
            else:
                self.on_stop(number)

    async def stop(self, number: signal.Signals) -> None:
        """Ask it to stop, and wait until it has."""
        import asyncio

        assert self.task is not None
        if not self.task.done():
            self.ask(number)
            await asyncio.wait([self.task])


class _SharedHost(Host):
    def __init__(
        self,
        turns: Turns,
        addresses: dict[str, Address],
        listeners: dict[str, RouterListener],
        watch_signals: Any,
        member: _Member,
    ) -> None:
        import asyncio

        super().__init__(turns, addresses, listeners)
        self._watch_signals = watch_signals
        self._member = member
        self.is_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ready(self, addresses: Mapping[str, Address] | None = None) -> None:
        if not self.is_ready.done():
            self.addresses.update(addresses or {})
            self.is_ready.set_result(None)

    def stopping(self) -> None:
        """The process stops when the first of its services is asked to, and says so then."""

    def stop_signals(self, on_stop: OnStop) -> AbstractContextManager[object]:
        return self._listening(on_stop)

    @contextmanager
    def _listening(self, on_stop: OnStop) -> Iterator[None]:
        self._watch_signals()
        self._member.on_stop = on_stop
        try:
            yield
        finally:
            self._member.on_stop = None


if __name__ == "__main__":
    sys.exit(main())
