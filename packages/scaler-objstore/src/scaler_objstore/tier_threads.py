"""Performs what the core asks of the tier below memory, in threads: a slow store never holds up the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from scaler_objstore.core import effects, events
from scaler_objstore.core.tiering import LOADS_MAX, SPILLS_MAX
from scaler_objstore.tiers.disk import MappedRecord
from scaler_objstore.tiers.port import DamagedError, NotStoredError, Tier, TierError

logger = logging.getLogger(__name__)

DISCARD_RETRY_SECONDS = 5.0
"""How long to wait before deleting again what could not be deleted."""

THREAD_NAME = "scaler-tier"
"""With what the names of all threads begin that use a tier."""

LEAVE_SECONDS = 2.0
"""How long a process that ends waits for requests to a tier that are under way."""

CLOSE_SECONDS = 5.0
"""How long to wait at the end for what is being deleted."""


class TierThreads:
    """Threads for one tier. The core bounds what is written and read at a time; one more thread deletes."""

    def __init__(self, tier: Tier, report: Callable[[events.TierEvent], None]) -> None:
        """`report` is called on the running event loop with each outcome."""
        self._tier = tier
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(SPILLS_MAX + LOADS_MAX + 1, THREAD_NAME)
        self._discarded: list[str] = []
        self._discarding: asyncio.Future[None] | None = None
        self._told_of_discards = False

    def perform(self, effect: effects.Spill | effects.Load | effects.Discard) -> None:
        """Begin what the core wants done."""
        if isinstance(effect, effects.Discard):
            self._discarded += effect.names
            self._discard()
        else:
            self._executor.submit(self._run, effect)

    async def close(self) -> None:
        """Wait for what is being deleted, and end the threads. What is being written is finished."""
        if self._discarding is not None:
            await asyncio.wait([self._discarding], timeout=CLOSE_SECONDS)
        self._executor.shutdown(wait=False, cancel_futures=True)

    # --- in threads

    def _run(self, effect: effects.Spill | effects.Load) -> None:
        event = self._write(effect) if isinstance(effect, effects.Spill) else self._read(effect)
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._report, event)

    def _write(self, effect: effects.Spill) -> events.TierEvent:
        try:
            self._tier.write(effect.name, effect.header, effect.buffers)
        except TierError as error:
            return events.SpillFailed(effect.name, str(error))
        except Exception as error:
            logger.exception("writing record %s failed", effect.name)
            return events.SpillFailed(effect.name, repr(error))
        return events.Spilled(effect.name)

    def _read(self, effect: effects.Load) -> events.TierEvent:
        try:
            record = self._tier.read(effect.name)
        except (NotStoredError, DamagedError) as error:
            return events.LoadFailed(effect.name, str(error), is_lost=True)
        except TierError as error:
            return events.LoadFailed(effect.name, str(error), is_lost=False)
        except Exception as error:
            logger.exception("reading record %s failed", effect.name)
            return events.LoadFailed(effect.name, repr(error), is_lost=False)
        place = record.place if isinstance(record, MappedRecord) else b""
        return events.Loaded(effect.name, record.buffers, place)

    # --- on the loop

    def _discard(self) -> None:
        """Delete what is due, unless that is going on already."""
        if self._discarding is not None or not self._discarded:
            return
        names, self._discarded = self._discarded, []
        self._discarding = self._loop.run_in_executor(self._executor, self._tier.delete, names)
        self._discarding.add_done_callback(lambda done: self._on_discarded(done, names))

    def _on_discarded(self, done: asyncio.Future[None], names: list[str]) -> None:
        self._discarding = None
        error = None if done.cancelled() else done.exception()
        if error is None:
            self._told_of_discards = False
            self._discard()
            return
        if not self._told_of_discards:
            logger.error("what nobody needs stays in the storage below memory for now: %s", error)
            self._told_of_discards = True
        self._discarded += names
        self._loop.call_later(DISCARD_RETRY_SECONDS, self._discard)


def leave_threads_that_hang(status: int) -> None:
    """End the process with `status` at once if requests to a tier are still under way after a moment.

    Python waits for such threads before it ends, and a store that hangs would hold it up for as long as its time limit. What they
    write is not needed any more: a record that was not finished is not there.
    """
    deadline = time.monotonic() + LEAVE_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_NAME):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.warning("the storage below memory does not answer: leaving without it")
                logging.shutdown()
                os._exit(status)
