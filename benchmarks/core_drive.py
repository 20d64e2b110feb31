"""Drives a scheduler core as its process would, with agents and a client around it that speak the session protocol.

Only what the core does is timed. Hosts answer in the order in which they were given tasks, as if all tasks took equally long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil

from benchmarks.workload import WrongResult
from scaler_protocol.ids import content_id
from scaler_protocol.session import Connection, Received
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events

WORKERS_PER_HOST = 10
SUBMIT_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Pace:
    """How work comes and goes."""

    tasks_per_worker: int
    """How many tasks a host wants to hold for each of its workers."""
    rows_per_result: int
    """How many tasks a host answers in one message."""
    messages_per_turn: int
    """How many messages the scheduler finds waiting when it looks."""


SHORT_TASKS = Pace(tasks_per_worker=20, rows_per_result=200, messages_per_turn=256)
"""Everything is under load: hosts answer all they hold at once, and the scheduler always finds full hands."""

LONG_TASKS = Pace(tasks_per_worker=2, rows_per_result=1, messages_per_turn=1)
"""Results trickle in, so the scheduler looks at its hosts again for every single one."""

FUNCTION = content_id(b"Pbody")


def measure(workers: int, tasks: int, pace: Pace) -> dict[str, float]:
    """Queue so many tasks, then let so many workers run them all.

    Returns microseconds and bytes per task; of the microseconds also those since all workers were busy.
    """
    drive = _Drive(pace)
    client = drive.connect(m.Hello(m.Role.CLIENT, "client", _identity("client")))
    drive.send(client, [m.FunctionDefine(client.id, (FUNCTION,), Packed.of([b"Pbody"]), ("benchmark.identity",))])
    memory_before = psutil.Process().memory_info().rss
    for first in range(1, tasks + 1, SUBMIT_BATCH):
        numbers = list(range(first, min(first + SUBMIT_BATCH, tasks + 1)))
        payloads = Packed.of([b"P%040d" % number for number in numbers])
        drive.send(client, [m.TaskBatch(client.id, numbers, (FUNCTION,), payloads)])
    memory = psutil.Process().memory_info().rss - memory_before
    hosts = [
        drive.connect(
            m.Hello(
                m.Role.AGENT,
                f"host-{index}",
                _identity(f"host-{index}"),
                worker_names=tuple(f"host-{index}-{slot}" for slot in range(WORKERS_PER_HOST)),
                capacity=WORKERS_PER_HOST * pace.tasks_per_worker,
                queue_limit=1000,
            )
        )
        for index in range(max(1, workers // WORKERS_PER_HOST))
    ]
    before = drive.core_s
    drive.run_all(hosts)
    if client.answered != tasks:
        raise WrongResult(f"{client.answered} of {tasks} tasks were answered")
    return {
        "us_per_task": 1e6 * drive.core_s / tasks,
        "us_when_busy": 1e6 * (drive.core_s - before) / tasks,
        "bytes_per_task": memory / tasks,
    }


class _Peer:
    """The far end of one session."""

    def __init__(self, hello: m.Hello) -> None:
        self.id = hello.incarnation
        self.connection = Connection(hello)
        self.batches: deque[m.TaskBatch] = deque()
        """What a host was given and has not answered."""
        self.answered = 0
        """How many tasks a client has the results of."""

    def take(self, message: m.Message) -> None:
        if isinstance(message, m.TaskBatch):
            self.batches.append(message)
        elif isinstance(message, m.ResultBatch):
            self.answered += len(message.numbers)


class _Drive:
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.core_s = 0.0
        self._now = 1000.0
        self._core = SchedulerCore(SchedulerConfig(incarnation=_identity("scheduler")), self._now)
        self._peers: dict[object, _Peer] = {}

    def connect(self, hello: m.Hello) -> _Peer:
        peer = _Peer(hello)
        self._peers[peer.id] = peer
        peer.connection.start(self._now)
        self._exchange([peer])
        return peer

    def send(self, peer: _Peer, messages: Sequence[m.Message]) -> None:
        for message in messages:
            peer.connection.send(message)
        self._exchange([peer])

    def run_all(self, hosts: Sequence[_Peer]) -> None:
        """Have the hosts answer whatever they are given, until nobody is given anything any more."""
        waiting = deque(host for host in hosts if host.batches)
        listed = {host.id for host in waiting}
        while waiting:
            turn: list[_Peer] = []
            while waiting and len(turn) < self._pace.messages_per_turn:
                host = waiting.popleft()
                self._answer(host)
                turn.append(host)
                if host.batches:
                    waiting.append(host)
                else:
                    listed.discard(host.id)
            for peer in self._exchange(turn):
                if peer.batches and peer.id not in listed:
                    listed.add(peer.id)
                    waiting.append(peer)

    def _answer(self, host: _Peer) -> None:
        """Report success, in one message, for the tasks that the host has held longest."""
        numbers: list[int] = []
        attempts: list[int] = []
        client = host.batches[0].client
        while host.batches and len(numbers) < self._pace.rows_per_result:
            batch = host.batches.popleft()
            room = self._pace.rows_per_result - len(numbers)
            numbers += batch.numbers[:room]
            attempts += batch.attempts[:room]
            if len(batch.numbers) > room:
                host.batches.appendleft(replace(batch, numbers=batch.numbers[room:], attempts=batch.attempts[room:]))
        host.connection.send(
            m.ResultBatch(
                client,
                numbers,
                attempts,
                Packed.of([b"Presult"] * len(numbers)),
                capacity=WORKERS_PER_HOST * self._pace.tasks_per_worker,
            )
        )

    def _exchange(self, senders: Sequence[_Peer]) -> list[_Peer]:
        """Deliver what these peers have to send, let the core place once, deliver its answers; return who got something."""
        incoming: list[events.Incoming] = []
        for peer in senders:
            outgoing, peer.connection.outgoing = peer.connection.outgoing, []
            incoming += [events.Incoming(peer.id, envelope, message) for envelope, message in outgoing]
        # Processor time: what else the machine does must not show.
        begin = time.thread_time()
        for message in incoming:
            self._core.handle(message, self._now)
        due = self._core.take_effects()
        while self._core.has_more:
            due += self._core.take_effects()
        self.core_s += time.thread_time() - begin
        reached: dict[bytes, _Peer] = {}
        for effect in due:
            if isinstance(effect, effects.Send) and isinstance(effect.peer, bytes):
                peer = self._peers[effect.peer]
                for event in peer.connection.receive(effect.envelope, effect.message, self._now):
                    if isinstance(event, Received):
                        peer.take(event.message)
                        reached[peer.id] = peer
        # Acknowledgements that are due; they get no answer.
        acknowledging = [peer for peer in reached.values() if peer.connection.outgoing]
        if acknowledging:
            self._exchange(acknowledging)
        return list(reached.values())


def _identity(name: str) -> bytes:
    return name.encode().ljust(16, b".")
