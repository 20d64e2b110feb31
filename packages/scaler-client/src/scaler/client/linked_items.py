"""Items of a map that are futures or have some inside: each is a task of its own, which the scheduler holds back.

Only a chunk that cannot be pickled is looked through for futures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.linked_calls import require_own, submit_linked
from scaler.core.tasks import TaskGroup
from scaler.errors import SerializationError
from scaler.serialization.arguments import Packer
from scaler.serialization.future_arguments import FutureInputs
from scaler_protocol.wire.batch_rows import Carried


class LinkedItem(NamedTuple):
    """One item that has futures."""

    item: Any


class LinkedItems:
    """See the module. Of one call of `map` or `starmap`."""

    def __init__(
        self, engine: Engine, packer: Packer, client: FutureSource, group: TaskGroup, carried: Carried, *, star: bool
    ) -> None:
        """`group`: that of the single calls."""
        self._engine = engine
        self._packer = packer
        self._client = client
        self._group = group
        self._carried = carried
        self._star = star

    def split(self, items: Sequence[Any]) -> list[list[Any] | LinkedItem]:
        """Return items with futures apart, and between them the others, in order. Empty where there are none."""
        parts: list[list[Any] | LinkedItem] = []
        found = False
        for item in items:
            if FutureInputs().find(self._arguments(item)):
                found = True
                parts.append(LinkedItem(item))
            elif parts and isinstance(parts[-1], list):
                parts[-1].append(item)
            else:
                parts.append([item])
        return parts if found else []

    def submit(self, function: Callable[..., Any], item: Any, number: int) -> ScalerFuture:
        """Submit the call with this item, the one of this number. Raises SerializationError, and TypeError for the first."""
        packer, args = self._packer, self._arguments(item)
        called = packer.called_function(function)
        objects = called.objects
        try:
            if called.check is not None and not number:
                # What a later one raises comes in its turn.
                called.check(*args)
            packed = called.pack(function, args, {})
            objects = (*packed.objects, *objects)
            if packed.inputs is not None:
                require_own(self._client, called, packed.inputs)
        except SerializationError as error:
            self._engine.objects.release(objects)
            raise SerializationError(f"item {number}: {error}") from error
        except BaseException:
            self._engine.objects.release(objects)
            raise
        return submit_linked(self._engine, packer, self._client, self._group, called, packed, objects, self._carried)

    def _arguments(self, item: Any) -> tuple[Any, ...]:
        return tuple(item) if self._star else (item,)
