"""Played peers. Each speaks the protocol as a real one does, with a session and a socket of its own, and runs no code.

An agent answers every task with the task's own payload, after the time that its workers would have needed. A client counts:
every task that it submits must be answered exactly once, and with the right payload.
"""

from __future__ import annotations

import os
import socket
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from math import ceil, inf

from scaler_protocol.ids import content_id
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.session import Connection, Established, HeartbeatDue, Received, RefusedByPeer
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import decode_envelope, encode_envelope

RECEIVE_MAX = 64
GIVE_UP_SECONDS = 600.0

FUNCTION_BODY = b"P" + b"a function that nobody runs" * 8
FUNCTION = content_id(FUNCTION_BODY)
FUNCTION_NAME = "benchmark.played"

HELD_SECONDS = 0.05
"""How much work agents want to hold for each worker, as real ones do."""

TASKS_PER_WORKER_MAX = 1000
"""How many tasks they ever hold for each worker."""

NO_FUNCTION = bytes(16)


class PlayedWrongly(Exception):
    """The scheduler has broken a rule, or a task was not answered exactly once."""


class PlayedPeer:
    """One connection to the scheduler, with its session."""

    def __init__(self, address: str, hello: m.Hello) -> None:
        self.id = hello.incarnation
        self.name = hello.name
        self.connection = Connection(hello, give_up_seconds=GIVE_UP_SECONDS)
        self.link = DealerLink(address, hello.name.encode() + hello.incarnation)
        self.wake_at = inf
        """When the stage wakes it; see `Stage`."""
        self.sessions = 0
        """How many sessions have begun."""

    def start(self, now: float) -> None:
        """Say hello."""
        self.connection.start(now)
        self._send()

    def on_readable(self, now: float) -> None:
        """Take in what has arrived, and answer."""
        more = True
        while more:
            for frames in self.link.receive(RECEIVE_MAX):
                session = self.connection.session
                for event in self.connection.receive(decode_envelope(frames[0]), decode(frames[1:]), now):
                    if isinstance(event, Received):
                        self.take(event.message, now)
                    elif isinstance(event, Established):
                        if not event.resumed:
                            self.sessions += 1
                            self.announce(session.unacknowledged(), now)
                    elif isinstance(event, RefusedByPeer):
                        raise PlayedWrongly(f"{self.name} was refused: {event.reason}")
            more = self.link.has_received
        self.settle(now)
        self._send()

    def tick(self, now: float) -> None:
        """Do what is due."""
        if not self.link.connected or self.link.has_queued:
            self.on_readable(now)
        for event in self.connection.tick(now):
            if isinstance(event, HeartbeatDue):
                self.connection.heartbeat(self.heartbeat(), now)
        self.settle(now)
        self._send()

    def next_deadline(self) -> float:
        """When to call `tick`."""
        deadline = min(self.connection.next_deadline(), self.own_deadline())
        if self.link.connected:
            return deadline
        return min(deadline, time.monotonic() + self.link.retry_seconds())

    def say_goodbye(self) -> None:
        """End the session."""
        self.connection.close("the play is over")
        self._send()

    def _send(self) -> None:
        outgoing = self.connection.outgoing
        if outgoing:
            self.connection.outgoing = []
            for envelope, message in outgoing:
                self.link.send([encode_envelope(envelope), *encode(message)])

    # --- what kinds of peers differ in

    def take(self, message: m.Message, now: float) -> None:
        """A message of the session has arrived."""
        raise NotImplementedError

    def announce(self, unacknowledged: list[m.Message], now: float) -> None:
        """A session has begun. `unacknowledged`: what the one before had not confirmed."""
        raise NotImplementedError

    def settle(self, now: float) -> None:
        """Send what follows from all that has arrived."""
        raise NotImplementedError

    def heartbeat(self) -> m.Heartbeat:
        """Return a heartbeat."""
        raise NotImplementedError

    def own_deadline(self) -> float:
        """When `settle` has something to do, apart from what arrives."""
        raise NotImplementedError


@dataclass(slots=True)
class _Work:
    """A batch of tasks at an agent."""

    client: bytes
    numbers: array[int]
    attempts: array[int]
    payloads: list[bytes]
    begins_at: float
    ends_at: float


class PlayedAgent(PlayedPeer):
    """A host with some workers, which are busy with every task for `task_seconds`; 0: it answers at once."""

    def __init__(self, address: str, number: int, workers: int, task_seconds: float) -> None:
        self._workers = workers
        self._task_seconds = task_seconds
        held = TASKS_PER_WORKER_MAX if not task_seconds else ceil(HELD_SECONDS / task_seconds) + 1
        self._capacity = workers * min(held, TASKS_PER_WORKER_MAX)
        name = f"host-{number}"
        super().__init__(
            address,
            m.Hello(
                m.Role.AGENT,
                name,
                new_id(),
                hostname=name,
                pid=os.getpid(),
                worker_names=tuple(f"{name}-{worker}" for worker in range(workers)),
                capacity=self._capacity,
                queue_limit=TASKS_PER_WORKER_MAX,
                takes_chains=True,
            ),
        )
        self._functions: set[bytes] = set()
        self._held: deque[_Work] = deque()
        self.ran = 0
        """How many tasks it has answered."""

    def take(self, message: m.Message, now: float) -> None:
        if isinstance(message, m.TaskBatch):
            self._accept(message, now)
        elif isinstance(message, m.FunctionDefine):
            self._functions.update(message.ids)
        elif isinstance(message, m.TaskCancel):
            self._drop(message.client, dict(zip(message.numbers, message.attempts, strict=True)))
        elif isinstance(message, m.TaskRecall):
            self._give_back(message.count, now)

    def announce(self, unacknowledged: list[m.Message], now: float) -> None:
        held: dict[bytes, tuple[array[int], array[int]]] = {}
        for work in self._held:
            numbers, attempts = held.setdefault(work.client, (array("Q"), array("H")))
            numbers.extend(work.numbers)
            attempts.extend(work.attempts)
        for client, (numbers, attempts) in held.items():
            states = [m.HeldState.QUEUED] * len(numbers)
            self.connection.send(m.Inventory(client, numbers, attempts, states))
        for message in unacknowledged:
            if isinstance(message, m.ResultBatch):
                self.connection.send(message)

    def settle(self, now: float) -> None:
        if not self.connection.established:
            return
        done: dict[bytes, tuple[list[int], list[int], list[bytes]]] = {}
        while self._held and self._held[0].ends_at <= now:
            work = self._held.popleft()
            numbers, attempts, payloads = done.setdefault(work.client, ([], [], []))
            numbers.extend(work.numbers)
            attempts.extend(work.attempts)
            payloads.extend(work.payloads)
        microseconds = int(self._task_seconds * 1e6)
        for client, (numbers, attempts, payloads) in done.items():
            self.ran += len(numbers)
            self.connection.send(
                m.ResultBatch(
                    client,
                    numbers,
                    attempts,
                    Packed.of(payloads),
                    durations=[microseconds] * len(numbers),
                    capacity=self._capacity,
                    slots=[0] * len(numbers),
                )
            )

    def heartbeat(self) -> m.Heartbeat:
        workers = self._workers
        return m.Heartbeat(
            capacity=self._capacity,
            queued=sum(len(work.numbers) for work in self._held),
            latency_seconds=self.connection.latency_seconds,
            processor_pids=range(1, workers + 1),
            processor_cpu_percents=[0] * workers,
            processor_rss_bytes=[0] * workers,
            processor_states=[m.ProcessorState.IDLE] * workers,
            processor_tasks=[0] * workers,
            processor_functions=(NO_FUNCTION,) * workers,
            processor_milliseconds=[0] * workers,
        )

    def own_deadline(self) -> float:
        return self._held[0].ends_at if self._held and self.connection.established else inf

    def _accept(self, batch: m.TaskBatch, now: float) -> None:
        if not self._functions.issuperset(batch.functions):
            raise PlayedWrongly(f"{self.name} was given tasks without their function")
        rows = len(batch.numbers)
        attempts = array("H", batch.attempts) if len(batch.attempts) else array("H", [1]) * rows
        begins_at = max(now, self._held[-1].ends_at) if self._held else now
        ends_at = begins_at + ceil(rows / self._workers) * self._task_seconds
        self._held.append(
            _Work(batch.client, array("Q", batch.numbers), attempts, batch.payloads.split(), begins_at, ends_at)
        )

    def _drop(self, client: bytes, dropped: dict[int, int]) -> None:
        for work in self._held:
            if work.client == client:
                kept = [row for row in range(len(work.numbers)) if dropped.get(work.numbers[row]) != work.attempts[row]]
                work.numbers = array("Q", [work.numbers[row] for row in kept])
                work.attempts = array("H", [work.attempts[row] for row in kept])
                work.payloads = [work.payloads[row] for row in kept]

    def _give_back(self, count: int, now: float) -> None:
        """Give back what came last and has not begun."""
        while count > 0 and self._held and self._held[-1].begins_at > now:
            work = self._held.pop()
            count -= len(work.numbers)
            self.connection.send(m.TaskReturn(work.client, work.numbers, work.attempts))


@dataclass(slots=True)
class Tally:
    """What clients count together."""

    submitted: int = 0
    answered: int = 0
    lone_seconds: list[float] = field(default_factory=list)
    """How long each single task took, there and back."""


class PlayedClient(PlayedPeer):
    """Submits batches of equal size, each when the one before is answered and `period` is over; no more once `stopped`."""

    def __init__(self, address: str, number: int, batch: int, tally: Tally) -> None:
        name = f"client-{number}"
        super().__init__(
            address, m.Hello(m.Role.CLIENT, name, new_id(), hostname=socket.gethostname(), pid=os.getpid())
        )
        self.batch = batch
        self.tally = tally
        self.stopped = True
        self.period = 0.0
        """Seconds from one batch to the next, at least."""
        self.unanswered: dict[int, float] = {}
        """When each was submitted, by number."""
        self._last_number = 0
        self._next_at = 0.0

    def begin(self, now: float, period: float, delay: float) -> None:
        """Submit from now on, the first batch after `delay` seconds."""
        self.stopped = False
        self.period = period
        self._next_at = now + delay

    def take(self, message: m.Message, now: float) -> None:
        if not isinstance(message, m.ResultBatch):
            return
        if len(message.statuses):
            raise PlayedWrongly(f"tasks of {self.name} failed: {list(message.statuses)}")
        for number, payload in zip(message.numbers, message.payloads.split(), strict=True):
            submitted_at = self.unanswered.pop(number, None)
            if submitted_at is None:
                raise PlayedWrongly(f"task {number} of {self.name} was answered twice")
            if payload != _payload(number):
                raise PlayedWrongly(f"task {number} of {self.name} was answered with another one's result")
            if self.batch == 1:
                self.tally.lone_seconds.append(now - submitted_at)
        self.tally.answered += len(message.numbers)

    def announce(self, unacknowledged: list[m.Message], now: float) -> None:
        self.connection.send(m.FunctionDefine(self.id, (FUNCTION,), Packed.of([FUNCTION_BODY]), (FUNCTION_NAME,)))
        if self.unanswered:
            self._submit(list(self.unanswered), m.TaskFlag.REANNOUNCED)

    def settle(self, now: float) -> None:
        if self.stopped or self.unanswered or now < self._next_at or not self.connection.established:
            return
        first = self._last_number + 1
        self._last_number += self.batch
        numbers = range(first, first + self.batch)
        self.unanswered = dict.fromkeys(numbers, now)
        self.tally.submitted += self.batch
        # Batches that are late do not make the next ones come sooner.
        self._next_at = now + self.period
        self._submit(numbers, 0)

    def heartbeat(self) -> m.Heartbeat:
        return m.Heartbeat(latency_seconds=self.connection.latency_seconds)

    def own_deadline(self) -> float:
        if self.stopped or self.unanswered or not self.connection.established:
            return inf
        return self._next_at

    def _submit(self, numbers: range | list[int], flags: int) -> None:
        payloads = Packed.of([_payload(number) for number in numbers])
        self.connection.send(m.TaskBatch(self.id, numbers, (FUNCTION,), payloads, flags=flags))


def _payload(number: int) -> bytes:
    return b"P%020d" % number
