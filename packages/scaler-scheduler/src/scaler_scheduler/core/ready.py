"""Tasks that wait for a worker: by capability signature, then depth (deeper first), then fairly by client.

Tasks that no worker can run delay no others. Within a signature and depth, clients take turns: a client with a million tasks
delays the single task of another client by a part of one placement pass. A cancelled or claimed task is not searched for in its
queue. Its entry stays and is skipped when its turn comes.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from itertools import islice

from scaler_scheduler.core.records import Task, TaskState

_READY = TaskState.READY

SIGNATURES_KEPT = 64
"""Number of queues above which empty ones are deleted. Most are filled again at once."""


class _ClientTurns:
    """Tasks of one depth: a queue per client, and whose turn it is."""

    __slots__ = ("queues", "turns")

    def __init__(self) -> None:
        self.queues: dict[bytes, deque[Task]] = {}
        self.turns: deque[bytes] = deque()

    def queue_of(self, client_id: bytes) -> deque[Task]:
        queue = self.queues.get(client_id)
        if queue is None:
            queue = self.queues[client_id] = deque()
            self.turns.append(client_id)
        return queue

    def take(self, limit: int, taken: list[Task]) -> None:
        """Move up to `limit` ready tasks into `taken`, an equal share per client and turn."""
        turns = self.turns
        while limit > 0 and turns:
            share = max(1, limit // len(turns))
            client_id = turns[0]
            queue = self.queues[client_id]
            while share > 0 and queue:
                task = queue.popleft()
                if task.state is _READY:
                    taken.append(task)
                    share -= 1
                    limit -= 1
            if queue:
                turns.rotate(-1)
            else:
                turns.popleft()
                del self.queues[client_id]


class SignatureQueue:
    """All ready tasks that need the same capabilities."""

    __slots__ = ("_depths", "_turns", "count", "signature", "unservable_since")

    def __init__(self, signature: frozenset[str]) -> None:
        self.signature = signature
        self.count = 0
        """Tasks in here that are still ready."""
        self.unservable_since: float | None = None
        self._depths: list[int] = []
        self._turns: dict[int, _ClientTurns] = {}

    def turns_at(self, depth: int) -> _ClientTurns:
        """Return the queues of one depth; make them if there are none."""
        turns = self._turns.get(depth)
        if turns is None:
            turns = self._turns[depth] = _ClientTurns()
            insort(self._depths, depth)
        return turns

    @property
    def deepest(self) -> int:
        """The greatest depth of the tasks in here; -1: there are none."""
        return self._depths[-1] if self._depths else -1

    def take(self, limit: int) -> list[Task]:
        """Remove and return up to `limit` tasks, deepest first."""
        taken: list[Task] = []
        while len(taken) < limit and self._depths:
            depth = self._depths[-1]
            turns = self._turns[depth]
            turns.take(limit - len(taken), taken)
            if not turns.turns:
                del self._turns[depth]
                self._depths.pop()
        self.count -= len(taken)
        return taken

    def drop_client(self, client_id: bytes) -> None:
        """Remove all tasks of a client."""
        for turns in self._turns.values():
            queue = turns.queues.pop(client_id, None)
            if queue is not None:
                turns.turns.remove(client_id)
                self.count -= sum(1 for task in queue if task.state is _READY)

    def tasks(self) -> Iterator[Task]:
        """Iterate over all ready tasks, for checks and reports."""
        for turns in self._turns.values():
            for queue in turns.queues.values():
                yield from (task for task in queue if task.state is _READY)

    def front(self, limit: int) -> Iterator[Task]:
        """Iterate over up to `limit` tasks that are assigned next: an equal share per client, deepest first."""
        queues = [queue for depth in reversed(self._depths) for queue in self._turns[depth].queues.values()][:limit]
        for queue in queues:
            yield from (task for task in islice(queue, max(1, limit // len(queues))) if task.state is _READY)

    def client_ids(self) -> set[bytes]:
        """Return the clients that have tasks in here."""
        return {client_id for turns in self._turns.values() for client_id in turns.queues}


class ReadyQueues:
    """Every ready task of the scheduler."""

    def __init__(self) -> None:
        self._by_signature: dict[frozenset[str], SignatureQueue] = {}
        self._lone: Task | None = None
        """The only ready task, until something looks at the queues. It is in none of them yet."""
        self.count = 0

    def add(self, task: Task) -> None:
        """Queue a task behind its client's others."""
        self._queue_of(task).append(task)

    def add_all(self, tasks: list[Task]) -> None:
        """Queue tasks that share their options, in order."""
        if not self.count and len(tasks) == 1:
            self._lone = tasks[0]
            self.count = 1
            return
        self._settle()
        options = tasks[0].options
        signature_queue = self._signature_queue(options.signature)
        signature_queue.turns_at(options.depth).queue_of(options.client.id).extend(tasks)
        signature_queue.count += len(tasks)
        self.count += len(tasks)

    def add_first(self, task: Task) -> None:
        """Queue a task before its client's others, because it has waited its turn already."""
        self._queue_of(task).appendleft(task)

    def withdraw(self, task: Task) -> None:
        """A queued task leaves in another way than by `take`. The caller changes its state in the same step."""
        self._settle()
        self._by_signature[task.options.signature].count -= 1
        self.count -= 1

    def drop_client(self, client_id: bytes) -> None:
        """Forget every queued task of a client."""
        self._settle()
        for queue in self._by_signature.values():
            before = queue.count
            queue.drop_client(client_id)
            self.count -= before - queue.count

    def take(self, queue: SignatureQueue, limit: int) -> list[Task]:
        """Remove and return up to `limit` tasks of one queue, deepest first."""
        taken = queue.take(limit)
        self.count -= len(taken)
        return taken

    def take_lone(self) -> Task | None:
        """Remove and return the only ready task, if it came after the last look at the queues; else None."""
        task = self._lone
        if task is not None:
            self._lone = None
            self.count = 0
        return task

    def non_empty(self) -> list[SignatureQueue]:
        """Return the queues with ready tasks, the one with the deepest task first."""
        self._settle()
        by_signature = self._by_signature
        queues = [queue for queue in by_signature.values() if queue.count > 0]
        if len(by_signature) > SIGNATURES_KEPT and len(queues) != len(by_signature):
            for signature in [s for s, queue in by_signature.items() if queue.count <= 0]:
                del by_signature[signature]
        if len(queues) > 1:
            queues.sort(key=lambda queue: queue.deepest, reverse=True)
        return queues

    def _settle(self) -> None:
        """Put the only ready task into its queue."""
        task = self.take_lone()
        if task is not None:
            self._queue_of(task).append(task)

    def _queue_of(self, task: Task) -> deque[Task]:
        self._settle()
        options = task.options
        signature_queue = self._signature_queue(options.signature)
        signature_queue.count += 1
        self.count += 1
        return signature_queue.turns_at(options.depth).queue_of(options.client.id)

    def _signature_queue(self, signature: frozenset[str]) -> SignatureQueue:
        queue = self._by_signature.get(signature)
        if queue is None:
            queue = self._by_signature[signature] = SignatureQueue(signature)
        elif not queue.count:
            queue.unservable_since = None
        return queue
