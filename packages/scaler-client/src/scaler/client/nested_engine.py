"""The engine of clients inside a task: all of one processor share it, and its messages travel through the agent.

Messages arrive on the processor's control thread. What tasks want, which may be interrupted anywhere, a thread of its own does
for them (see `scaler.client.steps`), and what time demands as well. Waking that one and waiting for it costs as much as a small
task: so the first few tasks that a task submits its own thread sends itself (see `scaler.client.sent_ahead`).
"""

from __future__ import annotations

import os
import socket
import threading
import time

# Not from `queue`, which may be a user's file beside the script.
from _queue import Empty, SimpleQueue
from functools import partial

from scaler.client.engine import WAIT_SECONDS, Engine
from scaler.client.sent_ahead import SentAhead, Submission
from scaler.client.steps import Start
from scaler.core.client_core import ClientCore
from scaler.serialization.arguments import Packer
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.task_context import TaskContext
from scaler_protocol.transport.dealer import Ahead
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.envelope import Frame, encode_envelope

TIMEOUT_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0

AHEAD_TASKS = 8
"""So many unanswered tasks leave one by one. Where there are more, they had better travel together."""

MODULE = "scaler.client.operations"
"""With this a process has all that a client inside a task needs."""

# The collector can run what makes a client anywhere.
_lock = threading.RLock()
_shared: NestedEngine | None = None


class NestedEngine(Engine):
    """One per processor; get it with `of`."""

    def __init__(self, context: TaskContext, object_address: str | None) -> None:
        hostname = socket.gethostname()
        hello = m.Hello(
            role=m.Role.CLIENT,
            name=f"nested|{hostname}|{os.getpid()}",
            incarnation=new_id(),
            hostname=hostname,
            pid=os.getpid(),
        )
        core = ClientCore(
            hello.incarnation,
            hello,
            address=context.scheduler_address,
            timeout_seconds=TIMEOUT_SECONDS,
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )
        super().__init__(
            core,
            hello,
            timeout_seconds=TIMEOUT_SECONDS,
            object_address=object_address,
        )
        self._context = context
        self._plain_packer = Packer(self)
        self._receiving_thread: int | None = None
        self._last_ahead: SentAhead | None = None
        """The last task that has left before its step was taken."""
        # Putting something in is one step, which nothing interrupts.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._steps.wake = partial(self._alarm.put, None)
        # Before anybody is told of it: who attends to it would find a session that has been silent for ever.
        core.start(time.monotonic())
        context.open_relay(self.client_id, self._on_frames, self._on_time, MODULE)
        self._steps.queue.append(self._send_effects)
        self._start = Start(threading.Thread(target=self._run, name="scaler-nested", daemon=True))
        self._start()

    def _storage_address(self) -> str:
        # The worker may be told of another one than clients are, and of another one later.
        return self._object_address or self._context.object_storage_address or super()._storage_address()

    @classmethod
    def of(cls, context: TaskContext, object_address: str | None) -> NestedEngine:
        """Return the engine all clients in this processor share, made when the first one needs it."""
        global _shared
        with _lock:
            if _shared is None or _shared._context is not context or _shared.forked or _shared._core.closed:
                _shared = cls(context, object_address)
            return _shared

    def packer(self, serializer: AnySerializer | None) -> Packer:
        # Each task that gets a client makes a new one: functions it has pickled before are not pickled again for that.
        return self._plain_packer if serializer is None else Packer(self, serializer)

    def must_not_wait(self) -> bool:
        return self._steps.is_owner or threading.get_ident() == self._receiving_thread

    _sends_several_ahead = True

    def _send_ahead(self, submission: Submission) -> bool:
        """Send a task from this thread where all steps before its own are such tasks as well.

        Nobody is woken for it: the control thread takes the steps when the first answer comes, which finds it awake anyway, and
        our thread does within a second.
        """
        lock, queue, core = self._lock, self._steps.queue, self._core
        if lock.held or self.must_not_wait():
            return False
        position = self._position(submission)
        if position is None or len(core.table.tasks) + position >= AHEAD_TASKS:
            return False
        number, _, task = submission
        # What is read here is right if the submission has still not been taken when the message leaves.
        found = core.message_ahead(number, task, position)
        if found is None:
            return False
        envelope, message = found
        try:
            prepared = self._context.prepare_relay(self.client_id, [encode_envelope(envelope), *encode(message)])
        except WireError:
            # Its step fails the task.
            return False
        if prepared is None:
            return False
        outlet, packet, flag = prepared
        ahead = Ahead(outlet, packet, flag)
        attempt, none = ahead.attempt, ()
        entry = SentAhead(submission, message, ahead, position)
        self._aheads.add(entry)
        try:
            # One expression: no other thread and no interrupt comes between its conditions and the call.
            ahead.taken.extend(
                attempt if not lock.held and queue and queue[-1] is submission and not outlet.pending else none
            )
        except OSError:
            ahead.failed = True
        except BaseException:
            ahead.failed = True
            raise
        if not ahead.taken:
            self._aheads.remove(entry)
        if not ahead.has_left:
            return False
        self._last_ahead = entry
        self._context.note_prepared()
        return True

    def _position(self, submission: Submission) -> int | None:
        """Return how many steps wait before this one, where all of them are tasks that have left, and none waits behind."""
        queue = self._steps.queue
        try:
            if queue[-1] is not submission:
                return None
            count = len(queue)
            if count == 1:
                return 0
            last = self._last_ahead
            if last is not None and queue[-2] is last.submission and last.position == count - 2:
                return count - 1
        except IndexError:
            # The owner has taken them meanwhile.
            pass
        return None

    def _has_left(self, entry: SentAhead) -> bool:
        # Preparing it has said that tasks are unanswered, whether it has left or not.
        self._told_unfinished = True
        # The system never keeps such a message waiting: one whose attempt does not end has failed, and its thread was interrupted
        # before it could say so.
        return entry.ahead.outcome() == entry.ahead.size_bytes

    def _transmit(self, frames: list[Frame]) -> None:
        self._context.relay(self.client_id, frames)

    def _run(self) -> None:
        """The thread: take steps, do what is due, sleep."""
        self._steps.owner_ident = threading.get_ident()
        while not (self.forked or self._core.closed):
            self._turn()
            self._steps.note_turn()
            seconds = max(0.0, min(WAIT_SECONDS, self._next_deadline() - time.monotonic()))
            try:
                self._alarm.get(timeout=seconds)
                while True:
                    self._alarm.get_nowait()
            except Empty:
                continue
        self._steps.close()

    def _next_deadline(self) -> float:
        deadline = self._known_deadline
        if deadline is None:
            with self._lock:
                deadline = self._known_deadline = self._core.next_deadline()
        return deadline

    def _turn(self) -> None:
        self._tick()
        self._perform_others()

    def _on_time(self) -> None:
        """Nobody may be waiting in the engine: a task can wait for its futures in any way it likes."""
        self._receiving_thread = threading.get_ident()
        # The agent may have told this process of another object storage server after the scheduler told the client.
        self._follow_storage()
        self._turn()

    def _on_frames(self, frames: list[Frame]) -> None:
        self._receiving_thread = threading.get_ident()
        self.on_messages([frames])
        # The scheduler asks now and then whether a quiet client still lives: this answers, while the task computes.
        self._turn()
