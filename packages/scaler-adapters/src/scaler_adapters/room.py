"""How many groups there may be at one time, those that are just being started included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from scaler_adapters.adapter import NoCapacityError


class Room:
    """Keeps an adapter to its limit of workers, and from starting anything once it is closed. Thread-safe.

    A group is counted once, by its id, whether it is being started or exists already: whoever is asked for a group may list it
    before he has answered.
    """

    def __init__(self, max_workers: int, workers_per_group: int) -> None:
        """`max_workers` -1 stands for no limit."""
        self._max_workers = max_workers
        self.workers_per_group = workers_per_group
        self.groups_max = -1 if max_workers < 0 else max_workers // workers_per_group
        self._lock = threading.Lock()
        self._starting: set[str] = set()
        self.closed = False

    @contextmanager
    def for_group(self, group_id: str, existing: Callable[[], Iterable[str]]) -> Iterator[None]:
        """Start a group inside this; `existing` lists the ids of those that exist. Raises NoCapacityError."""
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
        """From now on nothing is started."""
        with self._lock:
            self.closed = True
