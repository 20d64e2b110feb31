"""Tasks that a task submits: the task's thread sends them itself, before the owner of the client's state takes their steps.

It holds them back until the task waits: mostly it submits a few and waits for them at once, and they leave together. Where it
does not wait, the owner takes their steps after some milliseconds. Each has a message of its own: for a single task there are
short forms on all of its way, which cost far less than one message for two.

That thread changes nothing but one entry in a dictionary. It sends by one operation, which nothing interrupts, in the same
expression that checks whether it still may send. The owner's thread takes the steps later, and finds here whether the tasks
have left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    """Tasks that have left together before their steps were taken, or are about to, with their messages."""

    __slots__ = ("ahead", "messages", "submissions")

    def __init__(self, submissions: Sequence[Submission], messages: Sequence[m.TaskBatch], ahead: Ahead) -> None:
        self.submissions = submissions
        """They stand one behind another in the queue of steps."""
        self.messages = messages
        self.ahead = ahead


class DirectRoad(CoreOwner, Protocol):
    """An engine whose messages a task's thread can send itself."""

    def may_hold(self, count: int) -> bool:
        """Whether this thread may hold back tasks, if so many steps wait then: their steps are taken soon in any case."""

    def prepare_ahead(self, messages: list[list[Frame]]) -> Ahead | None:
        """Prepare to send messages together; None where others would go before them, or they are too large."""

    def on_sent_ahead(self) -> None:
        """Messages that were prepared have left."""

    def has_left(self, entry: SentAhead) -> bool:
        """Whether the messages of an attempt have been sent. With the lock held, where no attempt begins any more."""


class SentAheads:
    """Those whose steps were not taken, by the number of the first of each that left together."""

    __slots__ = ("_last", "_road", "entries")

    def __init__(self, road: DirectRoad) -> None:
        self._road = road
        self.entries: dict[int, SentAhead] = {}
        """Read by others only to see whether there are any."""
        self._last = (0, 0)
        """Number of the last task that has left before its step was taken, and how many have.

        Not its entry: that refers to the task's future and so to the client, which would then never be forgotten.
        """

    # --- from any thread

    def hold(self) -> bool:
        """Whether a task whose step was appended just now may leave later, with others. Where not, its step must be taken."""
        return self._road.may_hold(len(self._road.steps.queue))

    def send_held(self) -> None:
        """Send the tasks that are held back, now that their thread waits. Where that is not possible, their steps do it."""
        steps = self._road.steps
        if steps.queue and not self._send_held():
            steps.wake()

    def _send_held(self) -> bool:
        """Return whether nothing that waits needs the owner."""
        road = self._road
        lock, queue = road.lock, road.steps.queue
        if lock.held:
            return False
        try:
            steps = tuple(queue)
        except RuntimeError:
            # What the collector ran meanwhile appended to it.
            return False
        number, count = self._last
        if not (count and len(steps) >= count and type(steps[count - 1]) is tuple and steps[count - 1][0] == number):
            count = 0
        held: tuple[Submission, ...] = steps[count:]
        if not held:
            return count > 0
        ahead, messages = self._prepare(held, count)
        if ahead is None:
            return False
        first, last = held[0][0], held[-1]
        self.entries[first] = SentAhead(held, messages, ahead)
        outlet, attempt, none = ahead.stream, ahead.attempt, ()
        try:
            # One expression: no other thread and no interrupt comes between its conditions and the call.
            ahead.taken.extend(
                attempt if not lock.held and queue and queue[-1] is last and not outlet.pending else none
            )
        except OSError:
            ahead.failed = True
        except BaseException:
            # A signal's handler, called by the system call in place of sending.
            ahead.failed = True
            raise
        if not ahead.taken:
            self.entries.pop(first, None)
        if not ahead.has_left:
            return False
        self._last = (last[0], len(steps))
        road.on_sent_ahead()
        return True

    def _prepare(self, held: Sequence[Submission], position: int) -> tuple[Ahead | None, list[m.TaskBatch]]:
        """Prepare to send these; None where something goes before one of them."""
        road = self._road
        messages: list[m.TaskBatch] = []
        framed: list[list[Frame]] = []
        for step in held:
            # What is read here is right if the owner of the core is still not at it when the messages leave.
            found = None
            if type(step) is tuple and not step[2].objects:
                found = road.core.message_ahead(step[0], step[2], position + len(messages))
            if found is None:
                return None, messages
            envelope, message = found
            try:
                framed.append([encode_envelope(envelope), *encode(message)])
            except WireError:
                # Its step fails the task.
                return None, messages
            messages.append(message)
        return road.prepare_ahead(framed), messages

    # --- the owner's

    def take(self, submission: Submission) -> SentAhead | None:
        """Return what has left of which this submission, taken out of the queue just now, was the first; None if it has not."""
        entry = self.entries.pop(submission[0], None)
        if entry is not None and self._road.has_left(entry):
            return entry
        self._forget_stale()
        return None

    def _forget_stale(self) -> None:
        """Drop those that an interrupt kept their threads from removing."""
        waiting = {id(step) for step in self._road.steps.queue.copy()}
        for number, entry in list(self.entries.items()):
            if id(entry.submissions[0]) not in waiting:
                self.entries.pop(number, None)
