"""Looking after all peers a few at a time: with thousands of them, nobody else's messages must wait for a whole round."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scaler_scheduler.core.events import Peer
from scaler_scheduler.core.records import PeerRecord

WORK_MAX = 256
"""How much is done at once: looking at a peer that goes on is 1."""

REMOVAL_WORK = 32
"""Removing a peer is so much more, and as much again as it has tasks."""


class PeerRounds:
    """Goes round all peers, again and again."""

    def __init__(
        self, peers: Mapping[Peer, PeerRecord], look_after: Callable[[PeerRecord, float], bool], round_seconds: float
    ) -> None:
        """`look_after` returns whether the peer goes on. `round_seconds`: how often each is looked after."""
        self._peers = peers
        self._look_after = look_after
        self._round_seconds = round_seconds
        self._left: list[PeerRecord] = []
        self._pause_seconds = round_seconds

    def go_on(self, now: float) -> tuple[float, bool]:
        """Look after the next peers. Return when to go on, and whether a round is over."""
        left = self._left
        if not left:
            left = self._left = list(self._peers.values())
            self._pause_seconds = self._round_seconds / (1 + len(left) // WORK_MAX)
        work, someone_left = 0, False
        while left and work < WORK_MAX:
            record = left.pop()
            if self._peers.get(record.peer) is record:
                tasks = len(record.tasks)
                work += 1
                if not self._look_after(record, now):
                    work += REMOVAL_WORK + tasks
                    someone_left = True
        if left and someone_left:
            # Where many are lost together, the tasks of all should soon go elsewhere.
            return now, False
        return now + self._pause_seconds, not left
