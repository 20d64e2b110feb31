"""The engine of clients inside a task: all of one processor share it, and its messages travel through the agent.

Messages arrive on the processor's control thread. What tasks want, which may be interrupted anywhere, a thread of its own does
for them (see `scaler.client.steps`), and what time demands as well.
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
from scaler.client.steps import Start
from scaler.core.client_core import ClientCore
from scaler_protocol import messages as m
from scaler_protocol.random_ids import new_id
from scaler_protocol.task_context import TaskContext
from scaler_protocol.wire import Frame

TIMEOUT_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0

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
            object_address=object_address or context.object_storage_address or None,
        )
        self._context = context
        self._receiving_thread: int | None = None
        # Putting something in is one step, which nothing interrupts.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._steps.wake = partial(self._alarm.put, None)
        # Before anybody is told of it: who attends to it would find a session that has been silent for ever.
        core.start(time.monotonic())
        context.open_relay(self.client_id, self._on_frames, self._on_time, MODULE)
        self._steps.queue.append(self._send_effects)
        self._start = Start(threading.Thread(target=self._run, name="scaler-nested", daemon=True))
        self._start()

    @classmethod
    def of(cls, context: TaskContext, object_address: str | None) -> NestedEngine:
        """Return the engine all clients in this processor share, made when the first one needs it."""
        global _shared
        with _lock:
            if _shared is None or _shared._context is not context or _shared.forked or _shared._core.closed:
                _shared = cls(context, object_address)
            return _shared

    def must_not_wait(self) -> bool:
        return self._steps.is_owner or threading.get_ident() == self._receiving_thread

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
        with self._lock:
            return self._core.next_deadline()

    def _turn(self) -> None:
        self._tick()
        self._perform_others()

    def _on_time(self) -> None:
        """Nobody may be waiting in the engine: a task can wait for its futures in any way it likes."""
        self._receiving_thread = threading.get_ident()
        self._turn()

    def _on_frames(self, frames: list[Frame]) -> None:
        self._receiving_thread = threading.get_ident()
        self.on_messages([frames])
        # The scheduler asks now and then whether a quiet client still lives: this answers, while the task computes.
        self._turn()
