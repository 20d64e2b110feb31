"""Coroutine functions as tasks: their caller wants the result, and a coroutine itself cannot be sent."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import CoroutineType
from typing import Any

_running: dict[int, Callable[[], object]] = {}
"""By thread: the function that cancels the coroutine that runs there."""


def is_coroutine(value: Any) -> bool:
    """Whether a value is a coroutine, those of other compilers included."""
    return type(value) is CoroutineType or isinstance(value, Coroutine)


def runs_function_of(kind: Callable[[Any], bool], function: Any) -> bool:
    """Whether a call of `function` runs a function of this `kind`. Looks through partials and callable objects."""
    try:
        while isinstance(function, functools.partial):
            function = function.func
        # The function of a callable object is in its class.
        return kind(function) or kind(getattr(type(function), "__call__", None))  # noqa: B004
    except Exception:
        # Some callable objects raise when they are asked for attributes.
        return False


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that awaits the result if `function` is a coroutine function; else `function` itself."""
    if not runs_function_of(inspect.iscoroutinefunction, function):
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        return completed(function(*args, **kwargs))

    return call


def completed(value: Any) -> Any:
    """Return the result of a coroutine, run in a new event loop; return any other value as it is.

    Afterwards all other tasks of the loop are cancelled, also if an exception from outside ends the coroutine.
    """
    if not is_coroutine(value):
        return value
    import asyncio

    # Not `asyncio.run`: it would leave this thread without an event loop, which later tasks may ask for.
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

    An exception raised inside the loop's own code would be treated as one of a callback, and only be logged.
    """
    cancel = _running.get(thread)
    if cancel is not None:
        cancel()
    return cancel is not None


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception says that a coroutine was cancelled."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and issubclass(type(error), asyncio.CancelledError)
