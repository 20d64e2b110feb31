"""The engine of clients inside a task: all of one processor share it, and its messages travel through the agent.

Messages arrive on the processor's control thread. What tasks want, which may be interrupted anywhere, a thread of its own does
for them (see `scaler.client.steps`), and what time demands as well. Waking that one and waiting for it costs as much as a small
task: so the first few tasks that a task submits its own thread sends itself, when it waits (see `scaler.client.sent_ahead`).
"""

from __future__ import annotations

import os
import socket
import threading
import time

# Not from `queue`, which may be a user's file beside the script.
from _queue import Empty, SimpleQueue
from functools import partial
from typing import TYPE_CHECKING

from scaler.client.engine import Engine
from scaler.client.security import read_keys
from scaler.client.sent_ahead import Ahead, SentAhead, SentAheads
from scaler.client.steps import Start
from scaler.client.waiting import WAIT_SECONDS, HoldingWaiting, Waiting
from scaler.core.client_core import ClientCore
from scaler.serialization.arguments import Packer
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.address_list import split_addresses
from scaler_protocol.runtime.names import user_name
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.task_context import TaskContext
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

TIMEOUT_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0

AHEAD_TASKS = 8
"""So many unanswered tasks are held back until their thread waits. Further ones leave while it submits."""

PACKERS_MAX = 8
"""Packers that are kept, each for the tasks of one environment."""

MODULE = "scaler.client.operations"
"""With this a process has all that a client inside a task needs."""

# The collector can run what makes a client anywhere.
_lock = threading.RLock()
_shared: dict[bool, NestedEngine] = {}
"""The engines of this process: of detached clients, and of the others."""


class NestedEngine(Engine):
    """One per processor; get it with `of`."""

    def __init__(self, context: TaskContext, object_address: str | None, *, detached: bool) -> None:
        hostname = socket.gethostname()
        hello = m.Hello(
            role=m.Role.CLIENT,
            name=f"nested|{hostname}|{os.getpid()}",
            incarnation=new_id(context.identity_prefix),
            hostname=hostname,
            pid=os.getpid(),
            parent=context.client,
            user=user_name(),
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
        self._parent: int | None = None if detached else -1
        """The task that submits; None where tasks do not end with the one that has submitted them."""
        self._first_child = 0
        """The tasks that it submits have this number, or greater ones."""
        self._plain_packers = {b"": super().packer(None)}
        """By the environment."""
        self._receiving_thread: int | None = None
        # Putting something in is one step, which nothing interrupts.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self.steps.wake = partial(self._alarm.put, None)
        # Before anybody is told of it: who attends to it would find a session that has been silent for ever.
        core.start(time.monotonic())
        context.open_relay(self.client_id, self._on_frames, self._on_time, MODULE)
        if not detached:
            context.on_canceled(self.client_id, self._on_canceled)
        self.steps.queue.append(self._send_effects)
        self._start = Start(threading.Thread(target=self._run, name="scaler-nested", daemon=True))
        self._start()

    def _storage_address(self) -> str:
        # The worker may be told of another one than clients are, and of another one later.
        address = self._object_address or self._context.object_storage_address or super()._storage_address()
        return (self._context.storage_gate or address) if address else ""

    def storage_security(self) -> PeerSecurity | None:
        """See `Engine`."""
        # Read when a large value first needs it, which most processes never see. At the agent's gate there are no keys.
        return read_keys(self._context.security_dir or None, "worker")

    @classmethod
    def of(cls, context: TaskContext, object_address: str | None, *, detached: bool = False) -> NestedEngine:
        """Return the engine that clients in this processor share, made when the first one needs it.

        `detached`: the one whose tasks do not end with the task that has submitted them.
        """
        with _lock:
            engine = _shared.get(detached)
            if engine is None or engine._context is not context or engine.forked or engine.core.closed:
                engine = _shared[detached] = cls(context, object_address, detached=detached)
            return engine

    def note_parent(self) -> None:
        """See `Engine`."""
        if self._parent is not None:
            index = self._context.task_index
            if index != self._parent:
                # A number that no task gets: those of the next ones are greater.
                self._first_child = self.core.take_number()
                self._parent = index

    def _on_canceled(self) -> None:
        """The running task was cancelled: so is what it has submitted. Whoever has it run ends in the same way what that has."""
        if self._parent == self._context.task_index:
            self.steps.do(partial(self.core.cancel_from, self._first_child))

    def packer(self, serializer: AnySerializer | None, environment: bytes = b"") -> Packer:
        """See `Engine`."""
        if serializer is not None:
            return super().packer(serializer, environment)
        # Each task that gets a client makes a new one: functions it has pickled before are not pickled again for that.
        packer = self._plain_packers.get(environment)
        if packer is None:
            if len(self._plain_packers) >= PACKERS_MAX:
                self._plain_packers.pop(next(iter(self._plain_packers)), None)
            packer = self._plain_packers[environment] = super().packer(None, environment)
        return packer

    @property
    def address_in_use(self) -> str:
        """See `Engine`. Its agent knows which one is used; the first one stands for all."""
        return split_addresses(self._context.scheduler_address)[0]

    def must_not_wait(self) -> bool:
        """See `Engine`."""
        return self.steps.is_owner or threading.get_ident() == self._receiving_thread

    def _make_aheads(self) -> SentAheads:
        return SentAheads(self)

    def _make_waiting(self) -> Waiting:
        return HoldingWaiting(self, self._send_held)

    def _send_held(self) -> None:
        if self.aheads is not None:
            self.aheads.send_held()

    def may_hold(self, count: int) -> bool:
        """Nobody is woken for such tasks.

        The control thread takes their steps when the first answer comes, which finds it awake anyway, or in some milliseconds,
        and our thread does within a second.
        """
        return self.core.unanswered_count + count <= AHEAD_TASKS and self._context.put_off()

    def prepare_ahead(self, messages: list[list[Frame]]) -> Ahead | None:
        """See `sent_ahead.DirectRoad`."""
        prepared = self._context.prepare_relay(self.client_id, messages)
        if prepared is None:
            return None
        outlet, packet, flag = prepared
        return Ahead(outlet, packet, flag)

    def on_sent_ahead(self) -> None:
        """See `sent_ahead.DirectRoad`."""
        self._context.note_prepared()

    def has_left(self, entry: SentAhead) -> bool:
        """See `sent_ahead.DirectRoad`."""
        # Preparing it has said that tasks are unanswered, whether it has left or not.
        self._told_unfinished = True
        # The system never keeps such a message waiting: one whose attempt does not end has failed, and its thread was interrupted
        # before it could say so.
        return entry.ahead.outcome() == entry.ahead.size_bytes

    def _transmit(self, frames: list[Frame]) -> None:
        self._context.relay(self.client_id, frames)

    def _run(self) -> None:
        """The thread: take steps, do what is due, sleep."""
        self.steps.owner_ident = threading.get_ident()
        while not (self.forked or self.core.closed):
            deadline = self._turn()
            self.steps.note_turn()
            seconds = max(0.0, min(WAIT_SECONDS, deadline - time.monotonic()))
            try:
                self._alarm.get(timeout=seconds)
                while True:
                    self._alarm.get_nowait()
            except Empty:
                continue
        self.steps.close()

    def _turn(self) -> float:
        """Do all that is to be done now; return when to come back."""
        deadline = self._tick()
        self._perform_later()
        return self.objects.look_before(deadline)

    def _on_time(self) -> None:
        """Nobody may be waiting in the engine: a task can wait for its futures in any way it likes."""
        self._receiving_thread = threading.get_ident()
        # The agent may have told this process of another object storage server after the scheduler told the client.
        self.objects.follow_storage()
        self._turn()

    def _on_frames(self, frames: list[Frame]) -> None:
        self._receiving_thread = threading.get_ident()
        self.on_messages([frames])
        # The scheduler asks now and then whether a quiet client still lives: this answers, while the task computes.
        self._turn()
