"""Futures among the arguments of a call: where they are, and what stands for them.

They are looked for in the arguments themselves and in lists, tuples, sets, frozensets and the values of dictionaries, nested as
deeply as anybody likes, but not inside other objects: pickling these meets the future and refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from scaler.client.future import ScalerFuture
from scaler_protocol.payloads.expressions import OPEN, HoldsItselfError, join_container, parts_of_container, rebuild
from scaler_protocol.payloads.framing import Call, InputReference

SETS = (set, frozenset)
OPENED = frozenset((list, tuple, dict, *SETS))
"""Containers in which futures are looked for."""


class FutureInputs:
    """The futures in the arguments of one call, numbered as the payload names them."""

    def __init__(self) -> None:
        self.futures: list[ScalerFuture] = []
        """Those whose results the payload names, each once: input j is the j-th. They had no value here when it was made."""
        self.seen: dict[ScalerFuture, None] = {}
        """All of them."""
        self._indexes: dict[ScalerFuture, int] = {}

    def find(self, values: Sequence[Any]) -> bool:
        """Whether there are futures in any of these."""
        for value in values:
            with suppress(HoldsItselfError):
                # The call is refused when it is packed.
                self.expression(value)
        found = bool(self.seen)
        self.futures.clear()
        self._indexes.clear()
        return found

    def index_of(self, future: ScalerFuture) -> int | None:
        """Return which input a future is; None for one that has a value."""
        future.is_named = True
        self.seen[future] = None
        if future.has_value:
            return None
        return self._input(future)

    def _input(self, future: ScalerFuture) -> int:
        future.is_named = True
        self.seen[future] = None
        index = self._indexes.get(future)
        if index is None:
            index = self._indexes[future] = len(self.futures)
            self.futures.append(future)
        return index

    def expression(self, value: Any) -> Any:
        """Return `value` with what stands for the futures in it; `value` itself where there are none.

        Raises HoldsItselfError for a container that has futures and holds itself.
        """
        if type(value) not in OPENED and not isinstance(value, ScalerFuture):
            return value
        return rebuild(value, self._resolve, parts_of, _join)

    def _resolve(self, value: Any) -> Any:
        if type(value) in OPENED:
            return OPEN
        if not isinstance(value, ScalerFuture):
            return value
        index = self.index_of(value) if value.stored is None else self._input(value)
        return value.result() if index is None else InputReference(index)


def parts_of(container: Any) -> Sequence[Any]:
    """Return what a container in which futures are looked for holds, in an order that stays the same."""
    return list(container) if type(container) in SETS else parts_of_container(container)


def _join(original: Any, parts: Sequence[Any], values: list[Any]) -> Any:
    if type(original) not in SETS:
        return join_container(original, parts, values)
    if all(value is part for value, part in zip(values, parts, strict=True)):
        return original
    # Its elements are known on the worker only.
    return Call(type(original), (values,))
