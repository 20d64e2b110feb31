"""Tasks that a task submits: the task's thread sends them itself, before the owner of the client's state takes their steps.

That thread changes nothing but one entry in a dictionary. It sends by one operation, which nothing interrupts, in the same
expression that checks whether it still may send. The owner's thread takes the step later, and finds here whether the task
has left.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import Protocol

from scaler.client.core_owner import CoreOwner
from scaler.core.client_core import Submission
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.task_context import Outlet
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.envelope import Frame, encode_envelope

SPIN_SECONDS = 0.00005
"""Pause between two looks whether an attempt has ended."""

UNDER_WAY_SECONDS = 1.0
"""If a system call seems to last longer, its message counts as lost."""


class Ahead:
    """A message that a thread sends without a lock, while the owner of the client's state sleeps.

    The thread may be interrupted anywhere, by code that waits for threads which hold a lock. So it takes no lock. It calls
    `taken.extend(attempt)` in the same expression that checks whether it still may send, so nothing comes between the two.
    This is one operation. It leaves nothing in `taken` before it begins, one element while it runs, and two afterwards.
    """

    __slots__ = ("attempt", "failed", "size_bytes", "stream", "taken")

    def __init__(self, stream: Outlet, data: bytes, *flags: int) -> None:
        self.stream = stream
        self.size_bytes = len(data)
        self.taken: list[int] = []
        self.attempt = chain((0,), map(stream.write, (data,), *zip(flags)))
        self.failed = False
        """Set by the thread if the attempt raised; nothing has left then."""

    @property
    def has_left(self) -> bool:
        """Whether all of it was sent."""
        return len(self.taken) == 2 and self.taken[1] == self.size_bytes

    def outcome(self) -> int | None:
        """Return how many bytes have left, after waiting for a running attempt; None if that is unknown.

        No attempt may begin meanwhile.
        """
        deadline = time.monotonic() + UNDER_WAY_SECONDS
        while len(self.taken) == 1 and not self.failed:
            # The system call never waits, so this takes microseconds.
            if time.monotonic() > deadline:
                return None
            time.sleep(SPIN_SECONDS)
        return self.taken[1] if len(self.taken) == 2 else 0


class SentAhead:
    """One task that has left before its step was taken, or is about to, with the message it leaves in."""

    __slots__ = ("ahead", "message", "position", "submission")

    def __init__(self, submission: Submission, message: m.TaskBatch, ahead: Ahead, position: int) -> None:
        self.submission = submission
        self.message = message
        self.ahead = ahead
        self.position = position
        """How many such tasks are before it in the queue."""


class DirectRoad(CoreOwner, Protocol):
    """An engine whose messages a task's thread can send itself."""

    def may_send_ahead(self, position: int) -> bool:
        """Whether this thread may send a task, behind so many others that were sent so and whose steps still wait."""

    def prepare_ahead(self, frames: list[Frame]) -> Ahead | None:
        """Prepare to send one message; None where others would go before it. Raises WireError where it cannot be sent."""

    def on_sent_ahead(self) -> None:
        """A message that was prepared has left."""

    def has_left(self, entry: SentAhead) -> bool:
        """Whether the message of an attempt has been sent. With the lock held, where no attempt begins any more."""


class SentAheads:
    """Those whose steps were not taken, by number."""

    __slots__ = ("_last", "_road", "entries")

    def __init__(self, road: DirectRoad) -> None:
        self._road = road
        self.entries: dict[int, SentAhead] = {}
        """Read by others only to see whether there are any."""
        self._last = (0, 0)
        """Number and position of the last task that has left before its step was taken.

        Not its entry: that refers to the task's future and so to the client, which would then never be forgotten.
        """

    # --- from any thread

    def send(self, submission: Submission) -> bool:
        """Send a task whose step was appended just now, if nothing goes before it. Where not, its step does it."""
        road = self._road
        lock, queue = road.lock, road.steps.queue
        position = None if lock.held else self._position(submission)
        if position is None or not road.may_send_ahead(position):
            return False
        number, _, task = submission
        # What is read here is right if the owner of the core is still not at it when the message leaves.
        found = road.core.message_ahead(number, task, position)
        if found is None:
            return False
        envelope, message = found
        try:
            ahead = road.prepare_ahead([encode_envelope(envelope), *encode(message)])
        except WireError:
            # Its step fails the task.
            return False
        if ahead is None:
            return False
        self.entries[number] = SentAhead(submission, message, ahead, position)
        outlet, attempt, none = ahead.stream, ahead.attempt, ()
        try:
            # One expression: no other thread and no interrupt comes between its conditions and the call.
            ahead.taken.extend(
                attempt if not lock.held and queue and queue[-1] is submission and not outlet.pending else none
            )
        except OSError:
            ahead.failed = True
        except BaseException:
            # A signal's handler, called by the system call in place of sending.
            ahead.failed = True
            raise
        if not ahead.taken:
            self.entries.pop(number, None)
        if not ahead.has_left:
            return False
        self._last = (number, position)
        road.on_sent_ahead()
        return True

    def _position(self, submission: Submission) -> int | None:
        """Return how many steps wait before this one, where all of them are tasks that have left, and none waits behind."""
        queue = self._road.steps.queue
        try:
            if queue[-1] is not submission:
                return None
            count = len(queue)
            if count == 1:
                return 0
            previous = queue[-2]
            if type(previous) is tuple and (previous[0], count - 2) == self._last:
                return count - 1
        except IndexError:
            # The owner has taken them meanwhile.
            pass
        return None

    # --- the owner's

    def take(self, submission: Submission) -> m.TaskBatch | None:
        """Return the message in which a submission has left that was taken out of the queue just now; None where it has not."""
        entry = self.entries.pop(submission[0], None)
        if entry is not None and self._road.has_left(entry):
            return entry.message
        self._forget_stale()
        return None

    def _forget_stale(self) -> None:
        """Drop those that an interrupt kept their threads from removing."""
        waiting = {id(step) for step in self._road.steps.queue.copy()}
        for number, entry in list(self.entries.items()):
            if id(entry.submission) not in waiting:
                self.entries.pop(number, None)
