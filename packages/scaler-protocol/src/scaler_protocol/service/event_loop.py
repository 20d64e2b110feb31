"""Which asyncio event loop a service runs on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from scaler_protocol.service.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio

EventLoopName = Literal["builtin", "uvloop"]

Result = TypeVar("Result")

GARBAGE_THRESHOLD = 50_000
"""New objects after which the collector looks at them; Python's own 700 means every few tasks."""


def run(main: Callable[[], Coroutine[Any, Any, Result]], event_loop: EventLoopName = "builtin") -> Result:
    """Runs `main()` to its end on a new event loop of the named kind and returns its result.

    Raises `ConfigurationError`, before anything is started, when uvloop is asked for and not installed.
    """
    _collect_garbage_seldom()
    # Imported late: flags are read, and refused, by processes that never come to have an event loop.
    import asyncio

    with asyncio.Runner(loop_factory=_loop_factory(event_loop)) as runner:
        return runner.run(main())


def _collect_garbage_seldom() -> None:
    """Services make no cycles on the way of a task: what their imports left need not be looked through again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)


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
