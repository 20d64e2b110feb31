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
