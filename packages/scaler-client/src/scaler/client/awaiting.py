"""What `AsyncClient` needs of asyncio: a thread for what blocks, and what it is told of a task that raised StopIteration.

A coroutine cannot be given that exception, for it would mean the coroutine's own end. Before Python 3.12 asyncio's futures
refuse it: `asyncio.wrap_future` then fails inside a callback of the event loop, and whoever awaits waits for ever. Later
versions make a RuntimeError of it, as is done here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")

_ASYNCIO_REFUSES = sys.version_info < (3, 12)


def for_asyncio(error: BaseException | None) -> BaseException | None:
    """Return `error`, as a future's `exception()` should if asyncio called it. Call it from there."""
    if not _ASYNCIO_REFUSES or error is None or not issubclass(type(error), StopIteration):
        return error
    if sys._getframe(2).f_globals.get("__name__") != "asyncio.futures":
        return error
    refused = RuntimeError("the task raised StopIteration, which cannot be raised into a coroutine")
    refused.__cause__ = error
    return refused


async def in_thread(call: Callable[[], V]) -> V:
    """Call what blocks, in a thread."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, call)
