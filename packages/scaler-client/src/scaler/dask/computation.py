"""A scheduler function for Dask: computes some keys of a graph on a cluster, and tells Dask's callbacks how far it is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from functools import partial
from typing import Any

import dask
from dask.callbacks import local_callbacks
from dask.sizeof import sizeof

from scaler.client.client import Client
from scaler.client.future import ScalerFuture
from scaler.client.kept_future import KeptFuture
from scaler.dask.callbacks import Callbacks
from scaler.dask.kept import KeptNode
from scaler.dask.rows import Rows
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX
from scaler_protocol.payloads.mapped_calls import nothing


class Computation:
    """See `scaler.dask.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, dsk: Any, keys: Any, *, callbacks: Any = None, **_: Any) -> Any:
        """Compute `keys` of `dsk`; for nested lists of keys, nested tuples of values. Raises what the first failing task raised.

        Options that only concern processes and threads of Dask's own have no effect.
        """
        return self._run(dsk, keys, callbacks, keep=False)

    def persist(self, collections: Sequence[Any], *, optimize_graph: bool = True, **options: Any) -> Sequence[Any]:
        """Compute collections, and return others with the values in place of the graphs. `dask.persist` calls this.

        Values that are objects in storage stay there for as long as there is a collection that needs them, and tasks get them
        from there. Small ones come here. Waits until all are computed; raises as a call does.
        """
        # Without `persist` of its own, so that Dask does what it does for functions.
        schedule = partial(self._run, keep=True)
        persisted: Sequence[Any] = dask.persist(
            *collections, traverse=False, optimize_graph=optimize_graph, scheduler=schedule, **options
        )
        return persisted

    def _run(self, dsk: Any, keys: Any, callbacks: Any = None, *, keep: bool, **_: Any) -> Any:
        """See `__call__`. With `keep`, values that stay on the cluster are nodes that stand for them."""
        rows = Rows(dsk, _flat(keys), keep=keep)
        # Those of the outermost computation only: one inside of it is part of the same work.
        with local_callbacks(callbacks) as active:
            told = Callbacks(active, rows) if active else None
            values = self._compute(rows, keep) if told is None else self._compute_and_tell(rows, told, keep)
        given = {key: self._sent(key, value) for key, value in rows.values.items()} if keep else rows.values
        return _nested({**given, **values}, keys)

    def _sent(self, key: Hashable, value: Any) -> Any:
        """Return a node in place of a large value, which is sent to storage; a small one is returned as it is."""
        if isinstance(value, KeptNode) or sizeof(value) <= INLINE_BYTES_MAX:
            return value
        return KeptNode(key, self._client.send_object(value), self._client)

    def _submit(self, rows: Rows, graph: dict[Hashable, Any], keys: list[Hashable], keep: bool) -> dict[Hashable, Any]:
        client = self._client
        if keep:
            options = client.options_of("get", {})
            return client.operations.get_kept(client.source, graph, keys, rows.capabilities, options)
        return client.get(graph, keys, block=False, capabilities=rows.capabilities)

    def _compute(self, rows: Rows, keep: bool) -> dict[Hashable, Any]:
        futures = self._submit(rows, rows.computations, rows.wanted, keep)
        values = {}
        for key, future in self._finished(futures):
            values[key] = self._value(key, future)
        return values

    def _compute_and_tell(self, rows: Rows, callbacks: Callbacks, keep: bool) -> dict[Hashable, Any]:
        with callbacks.computation():
            computed = callbacks.pending
            if callbacks.want_values:
                asked: list[Hashable] = [*dict.fromkeys([*rows.wanted, *computed])]
                futures = self._submit(rows, rows.computations, asked, keep)
                marks = {key: key for key in computed}
            else:
                # What is only waited for stays on the cluster.
                marks = {_Mark(key): key for key in computed}
                graph = {**rows.computations, **{mark: (nothing, key) for mark, key in marks.items()}}
                futures = self._submit(rows, graph, [*rows.wanted, *marks], keep)
            values = {}
            for asked_key, future in self._finished(futures):
                value = self._value(asked_key, future)
                if asked_key in marks:
                    callbacks.finished(marks[asked_key], value)
                if not isinstance(asked_key, _Mark):
                    values[asked_key] = value
            return {key: values[key] for key in rows.wanted}

    def _value(self, key: Hashable, future: Future[Any]) -> Any:
        value = future.result()
        is_kept = isinstance(future, KeptFuture) and future.is_kept
        return KeptNode(key, value, self._client) if is_kept else value

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
