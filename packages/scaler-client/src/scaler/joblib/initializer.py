"""What joblib calls an initializer: a function that each process calls before its first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaler.client.client import Client
from scaler.client.worker_calls import WorkerPlugin

NAME = "joblib initializer"


class Initializer(WorkerPlugin):
    """A worker plugin that calls the initializer."""

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._call = call
        self._args = args

    def setup(self, worker: object) -> object:
        """See `WorkerPlugin`. What it returns, if it is a coroutine, is awaited."""
        return self._call(*self._args)


def checked_initializer(call: Any, args: Any) -> Initializer | None:
    """Return the initializer of these settings; None for none. Raises TypeError."""
    if call is None:
        return None
    if not callable(call):
        raise TypeError(f"initializer must be callable, not {call!r}")
    return Initializer(call, tuple(args))


def initialize(client: Client, initializer: Initializer) -> None:
    """Have the processes call it before the client's next tasks; one that it has had before does not count any more.

    Raises WorkerRunError where it fails on a worker.
    """
    client.register_worker_plugin(initializer, name=NAME)
