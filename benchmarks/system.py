"""What a system must offer to be measured. One file in `benchmarks/systems` for each, with a `SYSTEM` in it.

These files are imported by the runner, too, where the system is not installed: import it inside `load` and later.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

Graph = Mapping[str, Any]
"""Dask's convention: key to literal or to (function, key or literal, …). A node's dependencies come before the node."""


class NotSupported(Exception):
    """The system has no public way to do this; the table shows a dash. The text says what is missing."""


class Cluster(ABC):
    """A running local cluster and the client that speaks to it."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Submit one task; return what `gather` takes."""

    @abstractmethod
    def gather(self, handles: Sequence[Any]) -> list[Any]:
        """Wait for submitted tasks; return their results in order."""

    @abstractmethod
    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The system's own way to apply a function to many items; results in order."""

    @abstractmethod
    def close(self) -> None:
        """Stop everything that `System.start` started."""

    def get(self, graph: Graph, key: str) -> Any:
        """Run a graph; return the value of one node."""
        raise NotSupported("it runs no graphs")

    def prepared(self, graph: Graph, key: str, node_seconds: float | None) -> Callable[[], Any]:
        """Prepare a graph that runs often; return what runs it and returns the value of one node.

        `node_seconds`: about how long each node takes; None says nothing of it.
        """
        raise NotSupported("it prepares no graphs")

    def computes_dask(self) -> AbstractContextManager[object]:
        """Return a context in which Dask's collections compute here."""
        raise NotSupported("Dask's collections do not compute on it")

    def read_shared(self, function: Callable[[Any, int], Any], value: Any, count: int) -> list[Any]:
        """Hand one large value over once; return function(value, i) for i in range(count)."""
        raise NotSupported("it cannot hand a value over once for many tasks")

    def fibonacci(self, n: int) -> int:
        """Compute by tasks that submit tasks and wait for them: 2 * fib(n + 1) - 1 tasks in all."""
        raise NotSupported("its tasks cannot submit tasks and wait for them")

    def scheduler_pid(self) -> int:
        """The process that decides where tasks run."""
        raise NotSupported("it has no scheduler process of its own")

    def address(self) -> str:
        """Where further clients connect to."""
        raise NotSupported("it takes no further clients")

    def add_host(self) -> None:
        """Let one more host with one worker join, played by this machine."""
        raise NotSupported("it has no hosts")

    def profiled(self) -> Cluster:
        """Connect one more client, which is told of each task's times and memory; closing it leaves the cluster alone."""
        raise NotSupported("it measures no single tasks")

    def monitor_address(self) -> str:
        """Where scaler_ui and scaler_top connect to."""
        raise NotSupported("this repository's monitors do not speak its protocol")


class System(ABC):
    """How to install, import and start one engine."""

    name: ClassVar[str]
    """As given to `--system`."""
    title: ClassVar[str]
    """As shown."""
    requirements: ClassVar[tuple[str, ...] | None]
    """What pip installs in its environment, beside numpy and psutil. None: it runs in the environment of the runner."""
    distributions: ClassVar[tuple[str, ...]]
    """The distributions whose versions are recorded."""
    environment: ClassVar[Mapping[str, str]] = {}
    """Environment variables that it needs."""
    client_modules: ClassVar[tuple[str, ...]] = ()
    """What a program that connects imports, and may import before it is forked."""
    clients_max: ClassVar[int] = 1
    """How many programs can use one cluster at a time, on a machine of the usual size."""
    hosts_max: ClassVar[int] = 1
    """How many hosts this machine can play."""
    remarks: ClassVar[str] = ""
    """What a reader of the figures must know."""

    @abstractmethod
    def load(self) -> None:
        """Import the library. Timed apart from `start`."""

    @abstractmethod
    def start(self, workers: int) -> Cluster:
        """Start a cluster on this machine that runs so many tasks at once; return when it takes tasks."""

    def start_apart(self, workers: int) -> Cluster:
        """As `start`, with a scheduler that shares its process with nothing else, where there is a choice."""
        return self.start(workers)

    def connect(self, address: str) -> Cluster:
        """Connect one more program to the cluster that another process has started; closing it leaves the cluster alone."""
        raise NotSupported("it takes no further clients")


def free_ports(count: int) -> int:
    """Return the first of `count` adjoining TCP ports on the loopback interface that are free now."""
    while True:
        sockets: list[socket.socket] = []
        try:
            first = socket.socket()
            sockets.append(first)
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            for offset in range(1, count):
                following = socket.socket()
                sockets.append(following)
                following.bind(("127.0.0.1", port + offset))
        except (OSError, OverflowError):
            continue
        else:
            return port
        finally:
            for opened in sockets:
                opened.close()
