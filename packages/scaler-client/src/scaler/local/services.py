"""Starting services with the settings of their commands as keyword arguments."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from scaler_protocol.address import Address
    from scaler_protocol.service.child import ChildService

START_SECONDS = 60.0
STOP_SECONDS = 10.0

SCHEDULER = "scaler_scheduler"
OBJECT_STORAGE = "scaler_objstore"
WORKER = "scaler_worker"

ON_INPUT = "-"
"""As an address: the service reads it from its standard input, see `Service.give_address`."""

_DISTRIBUTIONS = {SCHEDULER: "scaler-scheduler", OBJECT_STORAGE: "scaler-objstore", WORKER: "scaler-worker"}


def require(modules: Iterable[str]) -> None:
    """Raise ImportError that names the distributions which are not installed, OSError where none can run."""
    missing = [_DISTRIBUTIONS[module] for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(
            f"a local cluster needs {' and '.join(missing)}, not installed here: pip install 'scaler-client[local]'"
        )
    if sys.platform == "win32":
        raise OSError("schedulers and workers run on Linux; on Windows connect a Client to one")


def command_line(settings: Mapping[str, Any]) -> list[str]:
    """Return the flags that say the same as these settings; None leaves a setting to the command."""
    flags = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, Mapping):
            flags.append(f"{flag}={','.join(_capability(name, amount) for name, amount in value.items())}")
        elif isinstance(value, list | tuple):
            flags.append(f"{flag}={','.join(map(str, value))}")
        else:
            flags.append(f"{flag}={value}")
    return flags


def _capability(name: str, amount: int) -> str:
    return name if amount == -1 else f"{name}={amount}"


class Service:
    """One child process, from `start` to `terminate`. It ends with this process, whatever happens."""

    def __init__(
        self, module: str, arguments: Sequence[str], *, name: str | None = None, stop_seconds: float = STOP_SECONDS
    ) -> None:
        """`arguments`: those of the module's command. `name`: what errors call it, the module by default.

        `stop_seconds`: how long it may take to end before it is killed.
        """
        self.module = module
        self.arguments = list(arguments)
        self.addresses: dict[str, Address] = {}
        """Where it answers, by role, once it is ready."""
        self._name = name or module
        self._stop_seconds = stop_seconds
        self._owner_pid = os.getpid()
        self._child: ChildService | None = None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    def start(self) -> None:
        """Start the process; `wait_ready` says when it can be used. Raises RuntimeError when it runs already."""
        if self._child is not None:
            raise RuntimeError(f"{self._name} is started already")
        from scaler_protocol.service.child import ChildService

        self._child = ChildService.start(
            self.module, self.arguments, name=self._name, late_address=self.arguments[:1] == [ON_INPUT]
        )
        _running.add(self)

    def give_address(self, address: str) -> None:
        """Tell a service that was started with `ON_INPUT` what its address is."""
        assert self._child is not None
        self._child.give_address(address)

    def wait_ready(self) -> dict[str, Address]:
        """Wait until the service answers; return its addresses by role.

        Raises scaler_protocol.service.errors.ServiceError when it ends before, or takes too long. Whatever keeps it from
        becoming ready, it is ended then.
        """
        assert self._child is not None
        try:
            self.addresses = self._child.wait_ready(START_SECONDS)
        except BaseException:
            self.terminate()
            raise
        return self.addresses

    def address_of(self, role: str) -> str:
        """Return where it answers in that role. Raises RuntimeError before it is ready."""
        if role not in self.addresses:
            raise RuntimeError(f"{self._name} is not started")
        return str(self.addresses[role])

    def terminate(self) -> None:
        """End the process, gently first. Idempotent."""
        _running.discard(self)
        # A forked child has a copy of this object, and no right to end what its parent needs.
        if self._child is not None and os.getpid() == self._owner_pid:
            self._child.terminate(self._stop_seconds)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process ends by itself. Raises TimeoutError after `timeout` seconds."""
        if self._child is not None:
            self._child.join(timeout)


class LocalService:
    """What can be done with a service of this machine, whichever it is."""

    _service: Service

    @property
    def command_line(self) -> list[str]:
        """What it is started with: the module and its arguments."""
        return [self._service.module, *self._service.arguments]

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process without waiting; `wait_ready` does that."""
        self._service.start()

    def wait_ready(self) -> None:
        """Wait until the process is ready."""
        self._service.wait_ready()

    def terminate(self) -> None:
        """End the process. Idempotent."""
        self._service.terminate()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process ends by itself. Raises TimeoutError after `timeout` seconds."""
        self._service.join(timeout)

    @property
    def is_running(self) -> bool:
        return self._service.is_running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()


_running: weakref.WeakSet[Service] = weakref.WeakSet()


@atexit.register
def _terminate_all() -> None:
    # Workers before what they are connected to.
    for service in sorted(_running, key=lambda service: service.module != WORKER):
        service.terminate()
