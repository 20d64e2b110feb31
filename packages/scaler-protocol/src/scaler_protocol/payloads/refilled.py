"""Functions that a program makes anew for each call: closures, and functions whose defaults are what a loop has reached.

What all of one `def` or `lambda` have in common travels once, as a function whose closure is empty. What each of them has
captured travels with its arguments, before the first one.
"""

from __future__ import annotations

from types import CellType, FunctionType
from typing import Any

CapturedValues = tuple[tuple[Any, ...], tuple[Any, ...] | None]
"""The contents of a function's cells, and its defaults."""


class RefilledFunction:
    """Calls a function with other cells and defaults each time. The first argument has them."""

    __slots__ = ("__wrapped__",)

    def __init__(self, function: FunctionType) -> None:
        self.__wrapped__ = function

    def __call__(self, captured: CapturedValues, /, *args: Any, **kwargs: Any) -> Any:
        """Return what a function with these cells and defaults returns."""
        cells, defaults = captured
        function = self.__wrapped__
        made = FunctionType(
            function.__code__, function.__globals__, function.__name__, defaults, tuple(map(CellType, cells))
        )
        return made(*args, **kwargs)


def emptied(function: FunctionType) -> FunctionType:
    """Return a function as `function`, but with empty cells and without defaults."""
    cells = tuple([CellType() for _ in function.__code__.co_freevars])
    empty = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    empty.__qualname__ = function.__qualname__
    empty.__module__ = function.__module__
    empty.__doc__ = function.__doc__
    return empty
