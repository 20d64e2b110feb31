"""Calls of objects that take their inputs as one mapping, such as the nodes of Dask's graphs.

Workers need no Dask for this module; they need it to restore the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from scaler_protocol.payloads.framing import identity


class Opaque:
    """Stands for a value on its way into a task: nothing looks for keys or tasks in it. It arrives as the value itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return identity, (self.value,)


class CallsInTurn:
    """One call made of several. Each gets the values by name that there are then, and the last one's value is that of all.

    `steps`: of each call the name of its value, the call, and the names whose values no later one needs.
    """

    __slots__ = ("steps",)

    def __init__(
        self, steps: Sequence[tuple[Hashable, Callable[[Mapping[Any, Any]], Any], Sequence[Hashable]]]
    ) -> None:
        self.steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return CallsInTurn, (self.steps,)

    def __call__(self, inputs: Mapping[Any, Any]) -> Any:
        """Return the value of the last call."""
        values = dict(inputs)
        value = None
        for name, call, last in self.steps:
            value = values[name] = call(values)
            for needed in last:
                # Else they would stay in memory until all is done.
                del values[needed]
        return value


def call_with_inputs(call: Callable[[Mapping[Any, Any]], Any], names: Sequence[Hashable], *inputs: Any) -> Any:
    """Return what `call` makes of its inputs by name."""
    return call(dict(zip(names, inputs, strict=True)))


def call_with_retries(
    retries: int, call: Callable[[Mapping[Any, Any]], Any], names: Sequence[Hashable], *inputs: Any
) -> Any:
    """As `call_with_inputs`; where that raises an Exception, up to `retries` times more, in the same process."""
    for _ in range(retries):
        try:
            return call_with_inputs(call, names, *inputs)
        except Exception:
            # The user's function: its last failure is the one that counts.
            continue
    return call_with_inputs(call, names, *inputs)


def nothing(*_: Any) -> None:
    """Return None, whatever comes: a task that only shows that its inputs are there."""
