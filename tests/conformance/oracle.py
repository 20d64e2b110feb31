"""What the oracle says: `ProcessPoolExecutor`, and this process itself."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cloudpickle

from tests.conformance.describing import Description
from tests.conformance.interruptions import Story
from tests.conformance.outcomes import outcome_of, raised_text, settled
from tests.conformance.roads import Call, submitted


class Oracle:
    """A pool of forked processes, made before this process has threads. A broken pool is replaced."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(2, self._context)

    def close(self) -> None:
        self._pool.shutdown()

    def answers(self, calls: list[Call]) -> list[Description]:
        """Return what each call comes to in the pool."""
        outcomes = submitted(calls, lambda call: self._pool.submit(call.function, *call.args, **call.kwargs))
        if any(map(_is_broken, outcomes)):
            # One of them broke the pool for all: those that are not answered get a pool each.
            self._pool.shutdown()
            self._pool = ProcessPoolExecutor(2, self._context)
            for position, outcome in enumerate(outcomes):
                if _is_broken(outcome):
                    outcomes[position] = self._alone(calls[position])
        return outcomes

    def _alone(self, call: Call) -> Description:
        with ProcessPoolExecutor(1, self._context) as pool:
            (outcome,) = settled([pool.submit(call.function, *call.args, **call.kwargs)])
            return outcome

    def tells(self, story: Story) -> Any:
        """Return what a story comes to with a pool of its own."""
        with (
            ProcessPoolExecutor(2, self._context) as pool,
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        ):
            return story(pool, Path(folder))


def _is_broken(outcome: Description) -> bool:
    return raised_text(outcome).startswith(BrokenProcessPool.__name__)


def in_this_process(call: Call) -> Description:
    """Return what a copy of a call comes to here."""

    def run() -> Any:
        function, args, kwargs = cloudpickle.loads(cloudpickle.dumps(tuple(call)))
        return function(*args, **kwargs)

    return outcome_of(run)
