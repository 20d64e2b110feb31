"""Large arguments that several calls of joblib have in common: each is sent once, and then named."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from scaler.client.object_reference import ObjectReference
from scaler_protocol.payloads.batched_calls import Batch, Place

if TYPE_CHECKING:
    from scaler.client.client import Client

SENT_BYTES_MIN = 48 * 1024
"""Smaller values travel with their batch. As for the arguments of tasks that have a large one in common."""

_SPARSE_PARTS = ("data", "indices", "indptr", "row", "col", "offsets")


class SentBatch(NamedTuple):
    """A batch without its large arguments, and where these go."""

    batch: Batch
    places: tuple[Place, ...]
    values: list[ObjectReference]


class SentValues:
    """The values that were sent in one call of `joblib.Parallel`, by their identity.

    What the program does to a value while that call lasts is not seen by tasks, as with joblib's own memory maps. A value is
    given up when the program does so.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[int, tuple[weakref.ref[Any], ObjectReference]] = {}

    def take_out(self, batch: Batch) -> SentBatch:
        """Return `batch` with references in place of its large arguments. Raises what `Client.send_object` raises."""
        places: list[Place] = []
        values: dict[int, tuple[int, ObjectReference]] = {}
        for call, (_, positional, keyword) in enumerate(batch.items):
            arguments: Iterable[tuple[int | str, Any]] = (*enumerate(positional), *keyword.items())
            for key, value in arguments:
                if id(value) not in values:
                    if size_of(value) < SENT_BYTES_MIN:
                        continue
                    values[id(value)] = len(values), self._reference_to(value)
                places.append(Place(call, key, values[id(value)][0]))
        if places:
            batch = copy.copy(batch)
            for call, key, _ in places:
                function, positional, keyword = batch.items[call]
                if isinstance(key, int):
                    positional = (*positional[:key], None, *positional[key + 1 :])
                else:
                    keyword = {**keyword, key: None}
                batch.items[call] = function, positional, keyword
        return SentBatch(batch, tuple(places), [reference for _, reference in values.values()])

    def _reference_to(self, value: Any) -> ObjectReference:
        key, known = id(value), self._known
        entry = known.get(key)
        if entry is not None and entry[0]() is value:
            return entry[1]
        reference = self._client.send_object(value, type(value).__name__)

        # A reference of its own would make a cycle, and keep the objects until the garbage collector runs.
        owner = weakref.ref(self)

        def forget(dead: weakref.ref[Any]) -> None:
            values = owner()
            entry = None if values is None else values._known.get(key)
            if values is not None and entry is not None and entry[0] is dead:
                values._known.pop(key, None)

        known[key] = weakref.ref(value, forget), reference
        return reference


def size_of(value: Any) -> int:
    """Return how many bytes an array, a frame or a sparse matrix has; 0 for anything else.

    Lists and their like are none of these: a program that fills one while it makes calls expects each call to get it as it was.
    """
    if type(value).__module__ == "builtins":
        return 0
    try:
        # What has none cannot be recognized.
        weakref.ref(value)
        size = getattr(value, "nbytes", None)
        if isinstance(size, int):
            return size
        if hasattr(value, "nnz"):
            return sum(getattr(value, name).nbytes for name in _SPARSE_PARTS if hasattr(value, name))
        if hasattr(value, "estimated_size"):
            return int(value.estimated_size())
        if hasattr(value, "memory_usage") and hasattr(value, "columns"):
            return int(value.memory_usage(index=True, deep=False).sum())
    except Exception:
        # Users' types may do anything.
        return 0
    return 0
