"""The limit on groups at one time. Groups that are being started count too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from scaler_adapters.adapter import NoCapacityError


class Room:
    """Holds an adapter to its limit of workers, and prevents starts after it was closed. Thread-safe.

    A group is counted once, by its id, whether it is being started or exists already, because an adapter may list a group
    before its start has returned.
    """

    def __init__(self, max_workers: int, workers_per_group: int) -> None:
        """`max_workers` is -1 for no limit."""
        self._max_workers = max_workers
        self.workers_per_group = workers_per_group
        self.groups_max = -1 if max_workers < 0 else max_workers // workers_per_group
        self._lock = threading.Lock()
        self._starting: set[str] = set()
        self.closed = False

    @contextmanager
    def for_group(self, group_id: str, existing: Callable[[], Iterable[str]]) -> Iterator[None]:
        """Return a context in which to start a group. `existing` lists the ids of the groups. Raises NoCapacityError."""
        with self._lock:
            if self.closed:
                raise NoCapacityError("this adapter is stopping")
            if self.groups_max >= 0 and len({group_id, *self._starting, *existing()}) > self.groups_max:
                raise NoCapacityError(f"this adapter may have {self._max_workers} workers at one time")
            self._starting.add(group_id)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(group_id)

    def close(self) -> None:
        """Prevent all further starts."""
        with self._lock:
            self.closed = True
