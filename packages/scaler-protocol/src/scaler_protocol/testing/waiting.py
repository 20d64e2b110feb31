"""Wait for what a test expects, with a deadline: the only place of the tests that sleeps in the hope that something happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

DEADLINE_SECONDS = 30.0
"""Far more than anything takes that a test waits for, also where other tests keep a small machine busy."""

PAUSE_SECONDS = 0.002


def wait_until(
    condition: Callable[[], Value],
    seconds: float = DEADLINE_SECONDS,
    *,
    what: Callable[[], object] | str = "it did not happen in time",
    step: Callable[[], object] | None = None,
    pause_seconds: float = PAUSE_SECONDS,
) -> Value:
    """Return what `condition` returns, once that is true. Raises AssertionError with `what` after so many seconds.

    `step` is done between two looks, to serve a socket for example. `what` is a text, or is called for one.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        if step is not None:
            step()
        time.sleep(pause_seconds)
    return value


async def wait_until_async(
    condition: Callable[[], Value], seconds: float = DEADLINE_SECONDS, *, what: str = "it did not happen in time"
) -> Value:
    """As `wait_until`, while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(PAUSE_SECONDS)
    return value
