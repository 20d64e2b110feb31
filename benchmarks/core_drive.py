"""Drives a scheduler core as its process would, with agents and a client around it that speak the session protocol.

Only what the core does is timed. The agents answer every task they hold in the order in which the tasks came, a host at a time,
as hosts of a real cluster do whose tasks take equally long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import psutil

from benchmarks.workload import WrongResult
from scaler_protocol import messages as m
from scaler_protocol.columns import Packed
from scaler_protocol.ids import content_id
from scaler_protocol.session import Connection, Received
from scaler_scheduler.core import Incoming, SchedulerConfig, SchedulerCore, Send

WORKERS_PER_HOST = 10
TASKS_PER_WORKER = 20
SUBMIT_BATCH = 1000
DRAIN_MESSAGES = 256
"""As many messages as the scheduler's process takes before it lets the core place."""

FUNCTION = content_id(b"benchmark")


def measure(workers: int, tasks: int) -> dict[str, float]:
    """Queue so many tasks, then let so many workers run them all; return microseconds and bytes per task."""
    drive = _Drive()
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
                capacity=WORKERS_PER_HOST * TASKS_PER_WORKER,
                queue_limit=1000,
            )
        )
        for index in range(max(1, workers // WORKERS_PER_HOST))
    ]
    connecting_s = drive.core_s
    drive.run_all(hosts)
    answered = sum(len(message.numbers) for message in client.received if isinstance(message, m.ResultBatch))
    if answered != tasks:
        raise WrongResult(f"{answered} of {tasks} tasks were answered")
    return {
        "us_per_task": 1e6 * drive.core_s / tasks,
        "placing_and_answering_us": 1e6 * (drive.core_s - connecting_s) / tasks,
        "bytes_per_task": memory / tasks,
    }


class _Peer:
    """The far end of one session."""

    def __init__(self, hello: m.Hello) -> None:
        self.id = hello.incarnation
        self.connection = Connection(hello)
        self.received: deque[m.Message] = deque()


class _Drive:
    def __init__(self) -> None:
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
        waiting = deque(host for host in hosts if host.received)
        listed = {host.id for host in waiting}
        while waiting:
            turn: list[_Peer] = []
            while waiting and len(turn) < DRAIN_MESSAGES:
                host = waiting.popleft()
                listed.discard(host.id)
                _answer(host)
                turn.append(host)
            for peer in self._exchange(turn):
                if peer.id not in listed and any(isinstance(message, m.TaskBatch) for message in peer.received):
                    listed.add(peer.id)
                    waiting.append(peer)

    def _exchange(self, senders: Sequence[_Peer]) -> list[_Peer]:
        """Deliver what these peers have to send, let the core place once, deliver its answers; return who got something."""
        incoming: list[Incoming] = []
        for peer in senders:
            outgoing, peer.connection.outgoing = peer.connection.outgoing, []
            incoming += [Incoming(peer.id, envelope, message) for envelope, message in outgoing]
        begin = time.perf_counter()
        for message in incoming:
            self._core.handle(message, self._now)
        self._core.place(self._now)
        effects = self._core.take_effects()
        self.core_s += time.perf_counter() - begin
        reached: dict[bytes, _Peer] = {}
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.peer, bytes):
                peer = self._peers[effect.peer]
                for event in peer.connection.receive(effect.envelope, effect.message, self._now):
                    if isinstance(event, Received):
                        peer.received.append(event.message)
                        reached[peer.id] = peer
        # Acknowledgements that are due; they get no answer.
        acknowledging = [peer for peer in reached.values() if peer.connection.outgoing]
        if acknowledging:
            self._exchange(acknowledging)
        return list(reached.values())


def _answer(host: _Peer) -> None:
    """Report success for everything the host holds."""
    while host.received:
        batch = host.received.popleft()
        if isinstance(batch, m.TaskBatch):
            host.connection.send(
                m.ResultBatch(
                    batch.client,
                    batch.numbers,
                    batch.attempts,
                    Packed.of([b"Presult"] * len(batch.numbers)),
                    capacity=WORKERS_PER_HOST * TASKS_PER_WORKER,
                )
            )


def _identity(name: str) -> bytes:
    return name.encode().ljust(16, b".")
