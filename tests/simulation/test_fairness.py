"""The watch over the scheduler's queues: it is content with turns of equal time, and with nothing else."""

from __future__ import annotations

from random import Random

import pytest

from scaler_protocol.session import Session
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.ready import ReadyQueues
from scaler_scheduler.core.records import ClientRecord, Task, TaskState
from scaler_scheduler.core.shares import Share
from scaler_scheduler.core.storage_pressure import StoragePressure
from simulation.fairness import FairnessWatch
from simulation.ledger import SimulationError

CLIENTS = 6
DURATIONS_US = (0, 50, 1000, 3000, 20_000, 400_000)


class Queued:
    """Clients that fill one scheduler's queues, at random."""

    def __init__(self, seed: int, depths: int = 1) -> None:
        self.random = Random(seed)
        self.depths = depths
        self.ready = ReadyQueues(StoragePressure())
        self.watch = FairnessWatch(self.ready)
        self.clients = [self._client(number) for number in range(CLIENTS)]
        self.durations = [self.random.choice(DURATIONS_US) for _ in self.clients]

    def _client(self, number: int) -> ClientRecord:
        client_id = bytes([number]) * 16
        return ClientRecord(client_id, m.Hello(m.Role.CLIENT, f"client-{number}", client_id), Session(), 0.0)

    def submit(self, number: int, count: int) -> None:
        client = self.clients[number]
        options = client.options_for(self.random.randrange(self.depths), 0, 0, (), b"", True)
        tasks = [Task(self.random.getrandbits(60), b"f" * 16, b"P", options) for _ in range(count)]
        client.tasks.update((task.number, task) for task in tasks)
        self.ready.add_all(tasks)

    def serve(self, limit: int) -> None:
        for queue in self.ready.non_empty():
            if queue.has_newcomer() and self.random.random() < 0.3:
                task = self.ready.take_newcomer(queue)
                self._run([task] if task is not None else [])
            else:
                self._run(self.ready.take(queue, limit))

    def _run(self, tasks: list[Task]) -> None:
        for task in tasks:
            task.state = TaskState.ASSIGNED
            client = task.options.client
            del client.tasks[task.number]
            self.ready.shares.observe(client.id, [self.durations[self.clients.index(client)]])

    def cancel_some(self) -> None:
        for queue in self.ready.non_empty():
            for task in [*queue.tasks()][:2]:
                self.ready.withdraw(task)
                task.state = TaskState.DROPPED

    def run(self) -> None:
        for _ in range(300):
            self._step()

    def _step(self) -> None:
        draw = self.random.random()
        if draw < 0.4:
            self.submit(self.random.randrange(CLIENTS), self.random.choice((1, 1, 3, 40, 400)))
        elif draw < 0.9:
            self.serve(self.random.choice((1, 2, 16, 300)))
        elif draw < 0.98:
            self.cancel_some()
        else:
            self.ready.drop_client(self.random.choice(self.clients).id)


@pytest.mark.parametrize("depths", [1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_nobody_who_waits_falls_behind(seed: int, depths: int) -> None:
    queued = Queued(seed, depths)
    queued.run()
    assert queued.watch.compared > 50


def test_turns_of_equal_number_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Share, "tasks_in", lambda _, seconds: 100 if seconds > 0 else 0)
    queued = Queued(1)
    with pytest.raises(SimulationError, match="s of work behind client"):
        queued.run()
