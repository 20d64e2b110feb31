"""A scheduler function for Dask: computes some keys of a graph on a cluster, and tells Dask's callbacks how far it is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from typing import Any

from dask.callbacks import local_callbacks

from scaler.client.client import Client
from scaler.client.future import ScalerFuture
from scaler.dask.callbacks import Callbacks
from scaler.dask.rows import Rows
from scaler_protocol.payloads.mapped_calls import nothing


class Computation:
    """See `scaler.dask.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, dsk: Any, keys: Any, *, callbacks: Any = None, **_: Any) -> Any:
        """Compute `keys` of `dsk`; for nested lists of keys, nested tuples of values. Raises what the first failing task raised.

        Options that only concern processes and threads of Dask's own have no effect.
        """
        rows = Rows(dsk, _flat(keys))
        # Those of the outermost computation only: one inside of it is part of the same work.
        with local_callbacks(callbacks) as active:
            values = self._compute_and_tell(rows, Callbacks(active, rows)) if active else self._compute(rows)
        return _nested({**rows.values, **values}, keys)

    def _compute(self, rows: Rows) -> dict[Hashable, Any]:
        futures = self._client.get(rows.computations, rows.wanted, block=False, capabilities=rows.capabilities)
        values = {}
        for key, future in self._finished(futures):
            values[key] = future.result()
        return values

    def _compute_and_tell(self, rows: Rows, callbacks: Callbacks) -> dict[Hashable, Any]:
        with callbacks.computation():
            computed = callbacks.pending
            if callbacks.want_values:
                asked: list[Hashable] = [*dict.fromkeys([*rows.wanted, *computed])]
                futures = self._client.get(rows.computations, asked, block=False, capabilities=rows.capabilities)
                marks = {key: key for key in computed}
            else:
                # What is only waited for stays on the cluster.
                marks = {_Mark(key): key for key in computed}
                graph = {**rows.computations, **{mark: (nothing, key) for mark, key in marks.items()}}
                wanted = [*rows.wanted, *marks]
                futures = self._client.get(graph, wanted, block=False, capabilities=rows.capabilities)
            values = {}
            for asked_key, future in self._finished(futures):
                value = future.result()
                if asked_key in marks:
                    callbacks.finished(marks[asked_key], value)
                if not isinstance(asked_key, _Mark):
                    values[asked_key] = value
            return {key: values[key] for key in rows.wanted}

    def _finished(self, futures: dict[Hashable, ScalerFuture]) -> Iterator[tuple[Hashable, Future[Any]]]:
        """Yield keys and futures as they finish. Whatever ends this early cancels the others."""
        # Names of one node share a future.
        keys: dict[Future[Any], list[Hashable]] = {}
        for key, future in futures.items():
            keys.setdefault(future, []).append(key)
        futures.clear()
        try:
            for done in as_completed(keys):
                for key in keys.pop(done):
                    yield key, done
        finally:
            for unfinished in keys:
                unfinished.cancel()


class _Mark:
    """The key of a row that is done when the node of `key` is."""

    __slots__ = ("key",)

    def __init__(self, key: Hashable) -> None:
        self.key = key


def _flat(keys: Any) -> Iterator[Hashable]:
    if isinstance(keys, list):
        for part in keys:
            yield from _flat(part)
    else:
        yield keys


def _nested(values: dict[Hashable, Any], keys: Any) -> Any:
    if isinstance(keys, list):
        parts: Sequence[Any] = keys
        return tuple([_nested(values, part) for part in parts])
    return values[keys]
