"""Coroutine functions as tasks: whoever calls one wants what it comes to, and a coroutine itself cannot travel."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from types import CoroutineType
from typing import Any

_running: dict[int, Callable[[], object]] = {}
"""By thread: what cancels the coroutine that runs there."""


def is_coroutine(value: Any) -> bool:
    """Whether a value is a coroutine, those of other compilers included."""
    return type(value) is CoroutineType or isinstance(value, Coroutine)


def runs_function_of(kind: Callable[[Any], bool], function: Any) -> bool:
    """Whether a call of `function` runs a function that is of a `kind`, looking through partials and objects that are called."""
    try:
        while isinstance(function, functools.partial):
            function = function.func
        # Of an object that is called, its class has the function.
        return kind(function) or kind(getattr(type(function), "__call__", None))  # noqa: B004
    except Exception:
        # Some objects answer no question of this kind; they can be called nevertheless.
        return False


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that awaits what `function` makes where that is a coroutine function; else `function` itself."""
    if not runs_function_of(inspect.iscoroutinefunction, function):
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        return completed(function(*args, **kwargs))

    return call


def call_and_complete(function: Any, arguments: Sequence[Any]) -> Any:
    """Call a function, and await what it returns where that is a coroutine."""
    return completed(function(*arguments))


def completed(value: Any) -> Any:
    """Return what a coroutine comes to, run in an event loop of its own; any other value as it is.

    Whatever is still going on in the loop is cancelled then, also where an exception ends the coroutine from outside.
    """
    if not is_coroutine(value):
        return value
    import asyncio

    # Not `asyncio.run`: afterwards this thread would have no event loop of its own, which later tasks may ask for.
    loop = asyncio.new_event_loop()
    thread = threading.get_ident()
    outer = _running.get(thread)
    try:
        task = loop.create_task(value)
        _running[thread] = partial(loop.call_soon_threadsafe, task.cancel)
        return loop.run_until_complete(task)
    finally:
        if outer is None:
            _running.pop(thread, None)
        else:
            _running[thread] = outer
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def cancel_running(thread: int) -> bool:
    """Cancel the coroutine that `completed` runs in a thread; return whether there is one. For signal handlers.

    An exception raised in the middle of a loop's own work would be taken for that of a callback, and only be logged.
    """
    cancel = _running.get(thread)
    if cancel is not None:
        cancel()
    return cancel is not None


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception says that a coroutine was cancelled."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and issubclass(type(error), asyncio.CancelledError)
