"""Computes the expressions of graph rows: see `framing.Source.EXPRESSION`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scaler_protocol.payloads.framing import Call, InputReference


class CallFailedError(Exception):
    """A call of an expression has raised `error`. The task raises it too, because its arguments themselves are right."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class HoldsItselfError(Exception):
    """A container with parts to replace contains itself, so it cannot be built again."""

    def __init__(self, container: Any) -> None:
        super().__init__()
        self.container = container


OPEN: Any = object()
"""Returned by `resolve` for a container whose parts must be resolved."""


def rebuild(
    value: Any,
    resolve: Callable[[Any], Any],
    parts_of: Callable[[Any], Sequence[Any]],
    join: Callable[[Any, Sequence[Any], list[Any]], Any],
) -> Any:
    """Replace parts of nested containers, innermost first, from left to right. Raises HoldsItselfError.

    `resolve` returns the replacement of a value, or OPEN for a container; `parts_of` returns a container's parts; `join`
    builds the container again from their replacements. A container that occurs several times is built once and stays one
    object. A `Call` is made each time it occurs. This does not recurse, so containers may be nested as deeply as in pickles.
    """
    finished: dict[int, Any] = {}
    holds_itself: set[int] = set()
    frames: list[tuple[Any, Sequence[Any], list[Any]]] = []
    pending = value
    while True:
        result = resolve(pending)
        if result is OPEN:
            known = finished.get(id(pending), frames)
            if known is frames or type(pending) is Call:
                finished[id(pending)] = OPEN
                frames.append((pending, parts_of(pending), []))
            elif known is OPEN:
                # A container that contains itself is found unchanged.
                holds_itself.add(id(pending))
                result = pending
            else:
                result = known
        # Give the result to its container, then take the next part of the innermost incomplete container.
        while True:
            if result is not OPEN:
                if not frames:
                    return result
                frames[-1][2].append(result)
            original, parts, values = frames[-1]
            if len(values) < len(parts):
                pending = parts[len(values)]
                break
            frames.pop()
            result = finished[id(original)] = join(original, parts, values)
            if holds_itself and result is not original and id(original) in holds_itself:
                raise HoldsItselfError(original)


def parts_of_container(container: Any) -> Sequence[Any]:
    """Return the parts of a list, a tuple or a dictionary that may have replacements."""
    parts: Sequence[Any] = list(container.values()) if type(container) is dict else container
    return parts


def join_container(original: Any, parts: Sequence[Any], values: list[Any]) -> Any:
    """Return a container like `original` with these values; the original if nothing has changed.

    So a container that others share stays shared.
    """
    if all(value is part for value, part in zip(values, parts, strict=True)):
        return original
    if type(original) is dict:
        return dict(zip(original, values, strict=True))
    return tuple(values) if type(original) is tuple else values


def evaluate(
    expression: Any,
    load_input: Callable[[int], Any],
    call: Callable[[Any, Sequence[Any]], Any],
) -> Any:
    """Fill in the inputs of an expression and make its calls with `call`, innermost first, from left to right.

    Raises CallFailedError if a call raises.
    """

    def resolve(value: Any) -> Any:
        kind = type(value)
        if kind is InputReference:
            return load_input(value.index)
        return OPEN if kind in _OPENED else value

    def join(original: Any, parts: Sequence[Any], values: list[Any]) -> Any:
        if type(original) is not Call:
            return join_container(original, parts, values)
        try:
            return call(original.function, values)
        except Exception as error:
            raise CallFailedError(error) from None

    return rebuild(expression, resolve, _parts_of, join)


_OPENED = frozenset((list, tuple, dict, Call))


def _parts_of(value: Any) -> Sequence[Any]:
    return value.arguments if type(value) is Call else parts_of_container(value)
