"""Which asyncio event loop a service runs on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from scaler_protocol.runtime.freed_memory import keep_freed_memory
from scaler_protocol.service.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio

EventLoopName = Literal["builtin", "uvloop"]

Result = TypeVar("Result")

GARBAGE_THRESHOLDS = 5_000, 3, 2000
"""When the garbage collector runs: whenever there are 5,000 more objects, and for all of them at 15,000 more. Looking at
5,000 takes a millisecond, and nothing else happens meanwhile. With Python's defaults it would run every few tasks."""


def run(main: Callable[[], Coroutine[Any, Any, Result]], event_loop: EventLoopName = "builtin") -> Result:
    """Runs `main()` to its end on a new event loop of the named kind and returns its result.

    Raises `ConfigurationError` before anything is started if uvloop is chosen and not installed.
    """
    _collect_garbage_seldom()
    keep_freed_memory()
    # Imported late, because processes that only check flags need no event loop.
    import asyncio

    with asyncio.Runner(loop_factory=_loop_factory(event_loop)) as runner:
        return runner.run(main())


def _collect_garbage_seldom() -> None:
    """Keep the collector from examining imported objects. Services make no reference cycles while they handle tasks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _loop_factory(event_loop: EventLoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    import asyncio

    if event_loop == "builtin":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        raise ConfigurationError(
            "--event-loop: uvloop is not installed; `pip install uvloop`, or use builtin"
        ) from None
    return uvloop.new_event_loop
