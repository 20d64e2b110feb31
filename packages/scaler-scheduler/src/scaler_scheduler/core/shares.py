"""How much work each client has been given, in seconds: those who wait take turns of equal length, not of equal number.

Time is *virtual* (start-time fair queueing): it stands where the turn that was served last began. A client that waits is served
by when its turn would end. So a client with little to do goes ahead of the backlogs of others, and whoever was away gets no more
for it than the next turn. A turn is long enough for a batch to stay a batch.
"""

from __future__ import annotations

from scaler_protocol.wire.columns import Column

TURN_SECONDS = 0.004
"""Work of one client that is placed before others have their turn."""

LAG_SECONDS = 0.1
"""A client whose tasks no worker could take for a while gets at most so much more than others afterwards."""

UNKNOWN_SECONDS = 0.001
"""How long the tasks of a client take of which none has ended: long enough that few go in a turn."""

OVERHEAD_SECONDS = 5e-6
"""What a task costs a worker besides its function."""

MEAN_KEPT = 0.8
"""How much of a mean is left after one more task; a batch of n tasks leaves the n-th power."""


class Share:
    """What one client was given. `served_until` is in virtual time, `mean_seconds` an average over its recent tasks."""

    __slots__ = ("mean_seconds", "served_until")

    def __init__(self) -> None:
        self.served_until = 0.0
        self.mean_seconds: float | None = None

    @property
    def task_seconds(self) -> float:
        """How long one of its tasks will probably take."""
        return UNKNOWN_SECONDS if self.mean_seconds is None else self.mean_seconds

    def tasks_left(self, begins: float) -> int:
        """How many of its tasks are left of a turn that begins then; 0: it has had that much, here or elsewhere."""
        seconds = begins + TURN_SECONDS - max(begins, self.served_until)
        return max(1, int(seconds / self.task_seconds)) if seconds > 0 else 0


class ClientShares:
    """The shares of all clients that have had tasks, and the virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._by_client: dict[bytes, Share] = {}

    def of(self, client_id: bytes) -> Share:
        """Return a client's share. A new one has had as much as everybody else who waits for the next turn."""
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

    def charge(self, share: Share, begins: float, tasks: int, alone: bool) -> None:
        """Tasks of a turn that begins then are placed. `alone`: nobody else waits, so that the client owes nobody anything."""
        served, now, mean = share.served_until, self.now, share.mean_seconds
        seconds = tasks * (UNKNOWN_SECONDS if mean is None else mean)
        if alone:
            share.served_until = self.now = (served if served > now else now) + seconds
            return
        share.served_until = max(begins, served, now - LAG_SECONDS) + seconds
        if begins > now:
            self.now = begins

    def forget(self, client_id: bytes) -> None:
        """The client is gone."""
        self._by_client.pop(client_id, None)
