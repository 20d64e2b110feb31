"""How long each client's tasks take, and how much work it has been given, in seconds.

Clients that wait take turns of equal length, not of equal number (see `ready`). A turn is long enough for a batch to stay a
batch.
"""

from __future__ import annotations

from scaler_protocol.wire.columns import Column

TURN_SECONDS = 0.004
"""Work of one client that is placed before others have their turn."""

LAG_SECONDS = 0.1
"""A client that is given work in several queues at once waits in each of them for so much of the work of others, at most."""

UNKNOWN_SECONDS = 0.001
"""How long the tasks of a client take of which none has ended: long enough that few go in a turn."""

OVERHEAD_SECONDS = 5e-6
"""What a task costs a worker besides its function."""

MEAN_KEPT = 0.8
"""How much of a mean is left after one more task; a batch of n tasks leaves the n-th power."""


class Share:
    """What one client was given: `given_seconds` of work in all. `mean_seconds` is an average over its recent tasks."""

    __slots__ = ("given_seconds", "mean_seconds")

    def __init__(self) -> None:
        self.given_seconds = 0.0
        self.mean_seconds: float | None = None

    @property
    def task_seconds(self) -> float:
        """How long one of its tasks will probably take."""
        return UNKNOWN_SECONDS if self.mean_seconds is None else self.mean_seconds

    def tasks_in(self, seconds: float) -> int:
        """How many of its tasks are begun in that time; 0 if nothing is left of it."""
        return max(1, int(seconds / self.task_seconds)) if seconds > 0 else 0

    def give(self, tasks: int) -> float:
        """So many of its tasks are placed. Returns how long they will probably take."""
        mean = self.mean_seconds
        seconds = tasks * (UNKNOWN_SECONDS if mean is None else mean)
        self.given_seconds += seconds
        return seconds


class ClientShares:
    """The shares of all clients that have had tasks."""

    def __init__(self) -> None:
        self._by_client: dict[bytes, Share] = {}

    def of(self, client_id: bytes) -> Share:
        """Return a client's share."""
        share = self._by_client.get(client_id)
        if share is None:
            share = self._by_client[client_id] = Share()
        return share

    def observe(self, client_id: bytes, durations: Column) -> None:
        """Take in how long some tasks of a client took, in microseconds."""
        count = len(durations)
        if not count:
            return
        share = self.of(client_id)
        mean, average = share.mean_seconds, sum(durations) / count * 1e-6 + OVERHEAD_SECONDS
        share.mean_seconds = average if mean is None else average + MEAN_KEPT**count * (mean - average)

    def forget(self, client_id: bytes) -> None:
        """The client is gone."""
        self._by_client.pop(client_id, None)
