"""Map chunks: many calls of one function, run at the speed of the built-in `map`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from pickle import PickleBuffer
from typing import Any

from scaler_protocol.objects.large_bytes import make_bytes
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX
from scaler_protocol.payloads.values import STOP_TEXT, Outcome, Serializer, dump_pickle, serialized
from scaler_protocol.runtime.coroutines import awaiting, completed
from scaler_worker.processor.channel import AgentGoneError
from scaler_worker.processor.failures import FailureWriter, NotSerializableError
from scaler_worker.processor.forked import leave
from scaler_worker.processor.functions import Function
from scaler_worker.processor.running_task import RunningTask, TaskCanceled

APART_ITEMS_MAX = 16
"""Chunks of more items are looked at by nobody: where results are large, chunks have few."""

LoadArguments = Callable[[bytes, Sequence[bytes], Serializer | None], tuple[Sequence[Any], dict[str, Any]]]


class _Apart:
    """Large `bytes` on their way into a pickle: there they are a buffer that is not copied into it."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[..., bytes], tuple[PickleBuffer]]:
        return make_bytes, (PickleBuffer(self.value),)


def _with_large_bytes_apart(values: list[Any]) -> list[Any]:
    """Return `values` for pickling, without copies of large `bytes` among them; what occurs twice still is there once."""
    large = {id(value): _Apart(value) for value in values if type(value) is bytes and len(value) > INLINE_BYTES_MAX}
    return [large.get(id(value), value) for value in values] if large else values


class MapChunks:
    """Runs the items of a chunk one after another: one that fails keeps none of the others from running."""

    def __init__(self, running: RunningTask, failures: FailureWriter, load_arguments: LoadArguments) -> None:
        self._running = running
        self._failures = failures
        self._load_arguments = load_arguments
        self.failed_with: type[BaseException] = BaseException
        """What the item of this chunk raised that failed last."""
        self._items: Any = None
        """The iterator over the items of the chunk that runs."""

    def run(
        self,
        chunk: tuple[bool, Sequence[Any]] | list[bytes],
        function: Function,
        serializer: Serializer | None,
    ) -> tuple[list[Any], dict[int, bytes]]:
        """Return the values of all items and the failures by item."""
        failures: dict[int, bytes] = {}
        self.failed_with = BaseException
        if function.item_call is None:
            function.item_call = awaiting(function.call)
        call = function.item_call
        if isinstance(chunk, list):

            def call_item(payload: bytes) -> Any:
                args, kwargs = self._load_arguments(payload, (), serializer)
                value = call(*args, **kwargs)
                return value if serializer is None else serialized(value, serializer)

            return self._map_all(map, call_item, chunk, failures), failures
        star, items = chunk
        return self._map_all(itertools.starmap if star else map, call, items, failures), failures

    def _map_all(
        self,
        mapper: Callable[..., Iterable[Any]],
        call: Callable[..., Any],
        items: Sequence[Any],
        failures: dict[int, bytes],
    ) -> list[Any]:
        """Call for every item at the speed of the built-in `map`; where one fails, note it and go on with the next."""
        running = self._running
        values: list[Any] = []
        total = len(items)
        iterator = self._items = iter(items if type(items) in (list, tuple) else list(items))
        while len(values) < total:
            try:
                # Keeps what came before an exception.
                values.extend(mapper(call, iterator))
                if running.is_forked:
                    leave(None)
                if len(values) < total:
                    raise RuntimeError(STOP_TEXT)
            except (AgentGoneError, TaskCanceled) as error:
                if running.is_forked:
                    leave(error)
                raise
            except BaseException as error:
                if running.is_forked:
                    leave(error)
                self.failed_with = type(error)
                failures[len(values)] = self._failures.item(error, not failures)
                values.append(None)
                running.check_canceled()
        self._items = None
        return values

    def dump(self, values: list[Any], failures: dict[int, bytes], dump_outcome: Callable[[Any], Outcome]) -> Outcome:
        """Serialize what `run` has returned by `dump_outcome`. Items that cannot be pickled are added to the failures."""
        try:
            apart = _with_large_bytes_apart(values) if len(values) <= APART_ITEMS_MAX else values
            return dump_outcome((apart, failures))
        except TaskCanceled:
            raise
        except BaseException:
            # Find out which ones it is that cannot be pickled; the others are not to suffer.
            for index, value in enumerate(values):
                try:
                    # A plain function may return a coroutine.
                    values[index] = value = completed(value)
                except TaskCanceled:
                    raise
                except BaseException as error:
                    self.failed_with = type(error)
                    failures[index] = self._failures.payload(error)
                    values[index] = value = None
                try:
                    dump_pickle(value)
                except TaskCanceled:
                    raise
                except BaseException as error:
                    self.failed_with = NotSerializableError
                    failures[index] = self._failures.not_serializable(value, error)
                    values[index] = None
            return dump_outcome((values, failures))

    def abandon(self) -> None:
        """In a process forked from this one: it runs the item that it was forked in, and no further ones."""
        if self._items is not None:
            # Beyond its end: the built-in `map` would go on with the other items otherwise.
            self._items.__setstate__(sys.maxsize)
