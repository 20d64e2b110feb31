"""`AsyncClient.lock` and `semaphore`: as those of `Client`, where only the coroutine waits.

No thread waits for it: there may be any number of coroutines that do, and as many threads would have to be there for the holders
to come to their end.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Self

from scaler.client.async_future import LoopEvent
from scaler.client.locks import ASKED, GIVEN_BACK, LOOK_SECONDS, Hold, LockUse
from scaler_protocol.wire import messages as m


class AsyncNamedLock(LockUse):
    """A lock or semaphore for `async with`. One object serves one block at a time; it may be used again afterwards."""

    async def __aenter__(self) -> Self:
        """Wait until it is held. Raises as `NamedLock`; where the coroutine is cancelled, it is given back."""
        event = LoopEvent(asyncio.get_running_loop())
        hold = self._begin(event.set)
        try:
            self._ask(hold)
            await self._wait(hold, ASKED, event, self._timeout)
            self._require_held(hold)
            return self
        except BaseException:
            self._withdraw()
            raise

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        """Give it back. Raises as `NamedLock`."""
        if kind is not None:
            self._withdraw()
            return
        event = LoopEvent(asyncio.get_running_loop())
        hold = self._require_block()
        try:
            hold.wake = event.set
            self._give_back(hold)
            await self._wait(hold, GIVEN_BACK, event, self._engine.timeout_seconds)
        except BaseException:
            self._withdraw()
            raise
        self._require_released(hold)

    async def _wait(self, hold: Hold, states: frozenset[m.LockState | None], event: LoopEvent, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        settled = partial(self._is_settled, hold, states)
        while not settled() and (remaining := deadline - time.monotonic()) > 0:
            await event.wait(min(remaining, LOOK_SECONDS))
