"""One call on every worker: submitted as a task for each, and gathered by the workers' names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, wait
from typing import Any

from scaler import errors
from scaler.client.future import ScalerFuture
from scaler.client.seconds import checked_timeout

RUN_SECONDS = 60.0
"""How long `Client.run` waits."""


class WorkerRun:
    """The tasks of one call, by the names of the workers, and until when they have time."""

    __slots__ = ("_cancel", "deadline", "futures", "seconds")

    def __init__(
        self, futures: dict[str, ScalerFuture], seconds: float, began: float, cancel: Callable[..., None]
    ) -> None:
        self.futures = futures
        self.seconds = seconds
        self.deadline = began + seconds
        self._cancel = cancel

    def remaining(self) -> float:
        """Return how many seconds are left."""
        return max(0.0, self.deadline - time.monotonic())

    def cancel_rest(self) -> None:
        """Stop the tasks that are not done."""
        pending = [future for future in self.futures.values() if not future.done()]
        if pending:
            self._cancel(pending, None)

    def wait(self) -> None:
        """Wait until all are done, or their time is over."""
        try:
            wait(self.futures.values(), self.remaining())
        except BaseException:
            self.cancel_rest()
            raise

    def outcomes(self, return_exceptions: bool) -> dict[str, Any]:
        """Return what there is from each worker, and stop the tasks that are not done. See `Client.run_verbose`."""
        late = [name for name, future in self.futures.items() if not future.done()]
        self.cancel_rest()
        results: dict[str, Any] = {}
        failed: dict[str, BaseException] = {}
        for name, future in self.futures.items():
            if name in late:
                failed[name] = TimeoutError(f"worker {name} has not answered within {self.seconds:g} s")
                continue
            try:
                results[name] = future.result()
            except CancelledError as error:
                failed[name] = error
            except Exception as error:
                failed[name] = error
        if return_exceptions:
            return {name: failed[name] if name in failed else results[name] for name in self.futures}
        if failed:
            raise errors.WorkerRunError(results, failed) from next(iter(failed.values()))
        return results


def checked_run_seconds(timeout: Any) -> float:
    """Return how long to wait for all workers. Raises TypeError and ValueError for what is no number of seconds."""
    seconds = checked_timeout(timeout)
    if seconds is None or seconds < 0:
        raise ValueError(f"timeout must be a number of seconds, not {timeout!r}: a worker may be busy without end")
    return seconds


def submitted_everywhere(
    workers: Mapping[str, Any], submit: Callable[[Any], ScalerFuture], cancel: Callable[..., None]
) -> dict[str, ScalerFuture]:
    """Submit a task for each worker. Raises what `submit` raises: then none goes on."""
    futures: dict[str, ScalerFuture] = {}
    try:
        for name, pin in workers.items():
            futures[name] = future = submit(pin)
            # Else those that are large would be fetched one after the other.
            future.is_wanted = True
    except BaseException:
        if futures:
            cancel(list(futures.values()), None)
        raise
    return futures
