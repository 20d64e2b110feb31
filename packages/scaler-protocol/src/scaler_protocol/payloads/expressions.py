"""Expressions of graph rows to values: see `framing.Source.EXPRESSION`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scaler_protocol.payloads.framing import Call, InputReference


class CallFailedError(Exception):
    """A call of an expression has raised `error`: what the task is to raise, as nothing is wrong with its arguments."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class HoldsItselfError(Exception):
    """A container in which parts are to be replaced holds itself: it cannot be built anew."""

    def __init__(self, container: Any) -> None:
        super().__init__()
        self.container = container


OPEN: Any = object()
"""What a `resolve` returns for a value that is looked into."""


def rebuild(
    value: Any,
    resolve: Callable[[Any], Any],
    parts_of: Callable[[Any], Sequence[Any]],
    join: Callable[[Any, Sequence[Any], list[Any]], Any],
) -> Any:
    """Replace parts of nested containers, innermost first, from left to right. Raises HoldsItselfError.

    `resolve` says what stands for a value, or OPEN for a container; `parts_of` a container's parts; `join` makes the
    container anew of what stands for them. A container that occurs several times is built once, and stays one object;
    a `Call` is made wherever it occurs. Does not recurse: containers may be nested as deeply as pickles can be.
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
                # Where a container holds itself, it is found as it is.
                holds_itself.add(id(pending))
                result = pending
            else:
                result = known
        # Hand the result to the container it is for, then take the next part of the innermost that is not complete.
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
    """Return the parts of a list, a tuple or a dictionary in which something may stand for something else."""
    parts: Sequence[Any] = list(container.values()) if type(container) is dict else container
    return parts


def join_container(original: Any, parts: Sequence[Any], values: list[Any]) -> Any:
    """Return a container like `original` with these values; the original where nothing has changed.

    So what it shares with others stays shared.
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

    Raises CallFailedError where a call raises.
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
