"""Dask's callbacks (`dask.callbacks.Callback`), such as its progress bar, told of a computation on a cluster.

A task's beginning is not reported by the cluster: the callback for it is called right before the one for its end.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from dask._task_spec import Alias, DataNode
from dask.callbacks import unpack_callbacks

from scaler.dask.kept import KeptNode
from scaler.dask.rows import Rows

WORKER = "scaler"
"""What callbacks are told as the worker that ran a task."""


class Callbacks:
    """The callbacks of one computation, and the state that they are shown."""

    def __init__(self, callbacks: Collection[Any], rows: Rows) -> None:
        self._each = list(callbacks)
        _, self._on_started, self._on_begun, self._on_finished, _ = unpack_callbacks(callbacks)
        self._nodes = rows.nodes
        self.pending = [key for key in rows.computations if type(rows.nodes[key]) not in (Alias, DataNode, KeptNode)]
        """The keys of all tasks, at first."""
        self._state: dict[str, Any] = {
            "waiting": {key: set(rows.nodes[key].dependencies) for key in self.pending},
            "ready": [],
            "running": set(),
            "finished": set(),
            "released": set(),
            "cache": dict(rows.values),
            "dependencies": {key: set(rows.nodes[key].dependencies) for key in rows.computations},
        }

    @property
    def want_values(self) -> bool:
        """Whether they want to see the values of tasks, so that all of these must come here."""
        return bool(self._on_finished)

    @contextmanager
    def computation(self) -> Iterator[None]:
        """Tell them of its start, and of its end, in whatever it ends."""
        started = []
        failed = True
        try:
            for callback in self._each:
                if callback[0]:
                    callback[0](self._nodes)
                started.append(callback)
            for on_started in self._on_started:
                on_started(self._nodes, self._state)
            yield
            failed = False
        finally:
            for callback in started:
                if callback[4]:
                    callback[4](self._nodes, self._state, failed)

    def finished(self, key: Hashable, value: Any) -> None:
        """A task is done."""
        state = self._state
        del state["waiting"][key]
        state["running"].add(key)
        for on_begun in self._on_begun:
            on_begun(key, self._nodes, state)
        state["running"].discard(key)
        state["finished"].add(key)
        for on_finished in self._on_finished:
            on_finished(key, value, self._nodes, state, WORKER)
