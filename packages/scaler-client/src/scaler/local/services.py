"""Starting services with the settings of their commands as keyword arguments."""

from __future__ import annotations

import atexit
import importlib.util
import operator
import os
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from scaler.local.path_source import PathSource
    from scaler_protocol.address import Address
    from scaler_protocol.service.child import ChildService

START_SECONDS = 60.0
"""How long a service may take to start, apart from what a preload takes."""

PRELOAD_SECONDS = 600.0
"""How much longer where every worker runs a preload first."""

STOP_SECONDS = 10.0

SCHEDULER = "scaler_scheduler"
OBJECT_STORAGE = "scaler_objstore"
WORKER = "scaler_worker"
WEB = "scaler_ui.web"

ON_INPUT = "-"
"""As an address: the service reads it from its standard input, see `Service.give_address`."""

_DISTRIBUTIONS = {SCHEDULER: "scaler-scheduler", OBJECT_STORAGE: "scaler-objstore", WORKER: "scaler-worker"}


def require(modules: Iterable[str]) -> None:
    """Raise OSError where none can run, ImportError that names the distributions which are not installed."""
    # First: nothing that can be installed would help.
    if sys.platform != "linux":
        raise OSError("schedulers and workers run on Linux only; here, connect a Client to one")
    if WEB in modules and importlib.util.find_spec(WEB.partition(".")[0]) is None:
        raise ImportError("a dashboard needs scaler-ui, not installed here: pip install scaler-ui")
    modules = [module for module in modules if module != WEB]
    missing = [_DISTRIBUTIONS[module] for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(
            f"a local cluster needs {', '.join(missing)}, not installed here: pip install 'scaler-client[local]'"
        )


def require_worker_count(count: Any, least: int) -> None:
    """Raise TypeError or ValueError for what is no number of workers; None leaves it to the command."""
    from scaler_protocol.service.worker_count import check_worker_count

    if count is None:
        return
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"n_workers must be a whole number, not {count!r}")
    try:
        check_worker_count(operator.index(count), least)
    except ValueError as error:
        raise ValueError(f"n_workers {error}") from None


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


def _capability(name: str, amount: int | float | str) -> str:
    return name if amount == -1 else f"{name}={amount}"


class Service:
    """One child process, from `start` to `terminate`. It ends with this process, whatever happens."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        name: str | None = None,
        runs_tasks: bool = False,
        preloads: bool = False,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """`arguments`: those of the module's command. `name`: what errors call it, the module by default.

        `runs_tasks`: its tasks look for modules where this process does. `preloads`: it is ready only when a preload, which
        may take long, is done. `stop_seconds`: how long it may take to end before it is killed.
        """
        self.module = module
        self.arguments = list(arguments)
        self.addresses: dict[str, Address] = {}
        """Where it answers, by role, once it is ready."""
        self._name = name or module
        self._runs_tasks = runs_tasks
        self._start_seconds = START_SECONDS + (PRELOAD_SECONDS if preloads else 0.0)
        self._path_source: PathSource | None = None
        self._stop_seconds = stop_seconds
        self._owner_pid = os.getpid()
        self._child: ChildService | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.is_running

    def start(self, listener: int | None = None) -> None:
        """Start the process; `wait_ready` says when it can be used. Raises RuntimeError when it runs already.

        `listener`: the descriptor of a listening socket for it.
        """
        if self._child is not None:
            raise RuntimeError(f"{self._name} is started already")
        from scaler_protocol.service.child import ChildService
        from scaler_protocol.service.module_path import TASK_PATH_VARIABLE, TaskPath, program_modules, program_path

        environment = {}
        if self._runs_tasks:
            from scaler.local.path_source import PathSource

            self._path_source = PathSource()
            path = TaskPath(tuple(program_path()), self._path_source.name, program_modules())
            environment[TASK_PATH_VARIABLE] = path.to_variable()
        self._child = ChildService.start(
            self.module,
            self.arguments,
            name=self._name,
            environment=environment,
            late_address=self.arguments[:1] == [ON_INPUT],
            listener=listener,
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
            self.addresses = self._child.wait_ready(self._start_seconds)
        except BaseException:
            self.terminate()
            raise
        return self.addresses

    def wait_started(self) -> None:
        """Wait until everything of the service runs that does not need another service. Raises as `wait_ready`."""
        assert self._child is not None
        try:
            self._child.wait_started(self._start_seconds)
        except BaseException:
            self.terminate()
            raise

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
        if self._path_source is not None:
            self._path_source.close()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process ends by itself. Raises TimeoutError after `timeout` seconds."""
        if self._child is not None:
            self._child.join(timeout)
            # What was there for it goes, too.
            self.terminate()


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
        """Whether its process runs."""
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
