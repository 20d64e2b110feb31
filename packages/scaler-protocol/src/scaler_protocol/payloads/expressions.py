"""Expressions of graph rows to values: see `framing.Source.EXPRESSION`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scaler_protocol.payloads.framing import Call, InputReference


class CallFailedError(Exception):
    """A call of an expression has raised `error`: what the task is to raise, as nothing is wrong with its arguments."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Frame(NamedTuple):
    """A container or a call whose parts are being evaluated, one after another."""

    original: Any
    parts: Sequence[Any]
    values: list[Any]


_OPEN: Any = object()


def evaluate(
    expression: Any,
    load_input: Callable[[int], Any],
    call: Callable[[Any, Sequence[Any]], Any],
) -> Any:
    """Fill in the inputs of an expression and make its calls with `call`, innermost first, from left to right.

    Raises CallFailedError where a call raises.

    A container that occurs several times is evaluated once, and stays one object. Does not recurse: expressions may be
    nested as deeply as pickles can be.
    """
    finished: dict[int, Any] = {}
    frames: list[_Frame] = []
    pending = expression
    while True:
        kind = type(pending)
        if kind is InputReference:
            result = load_input(pending.index)
        elif kind is Call:
            frames.append(_Frame(pending, pending.arguments, []))
            result = _OPEN
        elif kind is list or kind is tuple or kind is dict:
            result = finished.get(id(pending), _OPEN)
            if result is _OPEN:
                # Where a container holds itself it names nothing, and is found here as it is until it is complete.
                finished[id(pending)] = pending
                frames.append(_Frame(pending, list(pending.values()) if kind is dict else pending, []))
        else:
            result = pending
        while True:
            if result is not _OPEN:
                if not frames:
                    return result
                frames[-1].values.append(result)
            frame = frames[-1]
            if len(frame.values) < len(frame.parts):
                pending = frame.parts[len(frame.values)]
                break
            frames.pop()
            original = frame.original
            if type(original) is Call:
                try:
                    result = call(original.function, frame.values)
                except Exception as error:
                    raise CallFailedError(error) from None
            else:
                result = finished[id(original)] = _rebuilt(original, frame)


def _rebuilt(original: Any, frame: _Frame) -> Any:
    # What nothing was filled into stays itself, so that what it shares with others stays shared.
    if all(value is part for value, part in zip(frame.values, frame.parts, strict=True)):
        return original
    if type(original) is dict:
        return dict(zip(original, frame.values, strict=True))
    return tuple(frame.values) if type(original) is tuple else frame.values
