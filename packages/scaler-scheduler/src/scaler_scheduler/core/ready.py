"""Tasks that wait for a worker: by capability signature, then depth (deeper first), then fairly by client.

Tasks that no worker can run delay no others. Within a signature and depth, clients take turns of equal time: the
single task of a client goes ahead of another client's million. The tasks of one client go by priority, then in the order of
their numbers (see `waiting_tasks`). A cancelled or claimed task is not searched for in its
queue. Its entry stays and is skipped when its turn comes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Protocol

from scaler_protocol.runtime.resources import NO_AMOUNTS
from scaler_scheduler.core.records import AgentRecord, LineKey, Task, TaskState
from scaler_scheduler.core.shares import LAG_SECONDS, TURN_SECONDS, ClientShares, Share
from scaler_scheduler.core.storage_pressure import StoragePressure
from scaler_scheduler.core.waiting_tasks import PrioritizedTasks, WaitingTasks
from scaler_scheduler.policy.resources import Lines, Wait

_READY = TaskState.READY

CLIENTS_MAX = 16
"""Of how many clients tasks are taken at once: those of each are a message."""

LEFT_MAX = 256
"""Of how many clients that have left a queue it is remembered what they got, before the others have caught up."""

SIGNATURES_KEPT = 64
"""Number of queues above which empty ones are deleted. Most are filled again at once."""


class Turns(Protocol):
    """What a `SignatureQueue` asks of the tasks of one depth: `ClientTurns`, and `GroupTurns` where clients are in groups."""

    @property
    def lines(self) -> dict[bytes, Line]:
        """The tasks of each client."""

    def __bool__(self) -> bool:
        """Whether there are entries."""

    def add(self, client_id: bytes, tasks: Sequence[Task]) -> None:
        """Queue tasks among their client's others."""

    def add_first(self, client_id: bytes, task: Task) -> None:
        """Queue a task before its client's others."""

    def take(self, limit: int, taken: list[Task], *, freeing_first: bool, agent: AgentRecord | None) -> None:
        """Move up to `limit` ready tasks into `taken`."""

    def has_prioritized(self) -> bool:
        """Whether tasks of some client have priorities."""

    def newcomer(self) -> tuple[bytes, Line] | None:
        """Return the line of the next task if its client has no other one, or it is urgent; else None."""

    def take_newcomer(self) -> Task | None:
        """Remove and return the task that `newcomer` finds."""

    def drop_client(self, client_id: bytes) -> int:
        """Remove all tasks of a client; return how many were still ready."""


class Line:
    """The tasks of one client and depth, and when its turn begins."""

    __slots__ = ("begins", "entry", "given_seconds", "served_until", "share", "tasks")

    def __init__(self, share: Share) -> None:
        self.tasks: WaitingTasks | PrioritizedTasks = WaitingTasks()
        self.share = share
        self.served_until = 0.0
        """What the client has been given here, and elsewhere while it waits here, in virtual time."""
        self.given_seconds = share.given_seconds
        """What the client had been given in all when `served_until` was reckoned."""
        self.begins = 0.0
        self.entry = 0
        """The number of its entry in the heap, which is the only one that counts; 0: it is about to get the first one."""

    def prioritize(self, tasks: Sequence[Task]) -> None:
        """Keep tasks apart by priority from now on, if any of these has one: they are about to be added."""
        if type(self.tasks) is WaitingTasks and any(task.options.priority for task in tasks):
            self.tasks = PrioritizedTasks(self.tasks)

    @property
    def has_urgent(self) -> bool:
        """Whether the next task has a higher priority than others of its client that wait here, or are at agents.

        Which tasks agents hold is not looked at. Where more are there than wait here, and the client has had less urgent ones,
        some of these will be among them.
        """
        tasks = self.tasks
        if type(tasks) is not PrioritizedTasks:
            return False
        if tasks.has_urgent:
            return True
        options = tasks.first().options
        client = options.client
        return options.priority > max(client.lowest_priority, 0) and client.assigned_count > len(tasks)


class ClientTurns:
    """Tasks of one depth: a line per client, and whose turn it is.

    Time is *virtual* (start-time fair queueing), and each depth has its own: it stands where the turn that was served last
    began. A client that waits is served by when its turn would end. So a client with little to do goes ahead of the backlogs of
    others, and whoever was away is owed nothing for it. What a client gets elsewhere counts here while it waits here, up to a
    bound.
    """

    __slots__ = ("_entries", "_left", "_now", "_shares", "_turns", "lines")

    def __init__(self, shares: ClientShares) -> None:
        self.lines: dict[bytes, Line] = {}
        self._shares = shares
        self._now = 0.0
        self._turns: list[tuple[float, int, bytes, Line]] = []
        """A heap by when each client's turn would end."""
        self._entries = 0
        self._left: dict[bytes, tuple[float, float]] = {}
        """Of clients that have no more tasks here, and have had more than those who wait: `served_until`, `given_seconds`."""

    def __bool__(self) -> bool:
        return bool(self.lines)

    def add(self, client_id: bytes, tasks: Sequence[Task]) -> None:
        """Queue tasks among their client's others."""
        line = self._line(client_id)
        if tasks[0].options.client.has_asks:
            line.prioritize(tasks)
        line.tasks.add(tasks)
        if not line.entry:
            self._begin_turn(client_id, line)

    def add_first(self, client_id: bytes, task: Task) -> None:
        """Queue a task before its client's others."""
        line = self._line(client_id)
        if task.options.asks is not None:
            line.prioritize((task,))
        line.tasks.add_first(task)
        if not line.entry:
            self._begin_turn(client_id, line)

    def take(self, limit: int, taken: list[Task], *, freeing_first: bool, agent: AgentRecord | None) -> None:
        """Move up to `limit` ready tasks into `taken`: what is left of the turn that ends first, then of the next one.

        Fewer, but some, if they are those of very many clients, or have to be chosen one by one. `freeing_first`, `agent`: see
        `WaitingTasks.take`.
        """
        turns = self._turns
        served: set[bytes] = set()
        while limit > 0 and (head := self._head()) is not None:
            client_id, line = head
            if len(served) == CLIENTS_MAX and client_id not in served:
                return
            wanted = limit if len(turns) == 1 else min(limit, _tasks_left(line))
            moved = line.tasks.take(wanted, taken, freeing_first=freeing_first, agent=agent)
            limit -= moved
            if moved:
                served.add(client_id)
            self._charge(line, moved)
            if not line.tasks:
                self._end(client_id, line)
            elif moved < wanted:
                return

    def has_prioritized(self) -> bool:
        """Whether tasks of some client have priorities."""
        return any(type(line.tasks) is PrioritizedTasks for line in self.lines.values())

    def newcomer(self) -> tuple[bytes, Line] | None:
        """Return the line of the next task if its client has no other one, or it is urgent (`has_urgent`); else None."""
        head = self._head()
        if head is None:
            return None
        tasks = head[1].tasks
        if len(tasks) > 1:
            return head if head[1].has_urgent and tasks.first().state is _READY else None
        task = tasks.first()
        if task.state is not _READY or (len(task.options.client.tasks) > 1 and not head[1].has_urgent):
            return None
        return head

    def take_newcomer(self) -> Task | None:
        """Remove and return the next task, if it is one that `newcomer` finds; else None."""
        found = self.newcomer()
        if found is None:
            return None
        client_id, line = found
        taken: list[Task] = []
        line.tasks.take(1, taken)
        self._charge(line, 1)
        if not line.tasks:
            self._end(client_id, line)
        return taken[0]

    def _head(self) -> tuple[bytes, Line] | None:
        """Return the line whose turn ends first. Turns that are over begin anew."""
        turns = self._turns
        while turns:
            _, entry, client_id, line = turns[0]
            if entry == line.entry and (len(turns) == 1 or _tasks_left(line)):
                return client_id, line
            heappop(turns)
            if entry == line.entry:
                self._begin_turn(client_id, line)
        return None

    def drop_client(self, client_id: bytes) -> int:
        """Remove all tasks of a client; return how many were still ready."""
        self._left.pop(client_id, None)
        line = self.lines.pop(client_id, None)
        if line is None:
            return 0
        line.entry = -1
        if not self.lines:
            self._turns.clear()
        dropped = sum(1 for task in line.tasks if task.state is _READY)
        # Its entry in the heap may stay for long where no worker can run any of these tasks.
        line.tasks.clear()
        return dropped

    def _line(self, client_id: bytes) -> Line:
        line = self.lines.get(client_id)
        if line is None:
            line = self.lines[client_id] = Line(self._shares.of(client_id))
            left = self._left.pop(client_id, None)
            if left is not None:
                line.served_until, line.given_seconds = left
        return line

    def _begin_turn(self, client_id: bytes, line: Line) -> None:
        share, now = line.share, self._now
        elsewhere = share.given_seconds - line.given_seconds
        if elsewhere > 0:
            line.given_seconds = share.given_seconds
            line.served_until = max(line.served_until, min(max(line.served_until, now) + elsewhere, now + LAG_SECONDS))
        line.begins = max(line.served_until, now)
        self._entries += 1
        line.entry = self._entries
        ends = line.begins + min(TURN_SECONDS, len(line.tasks) * share.task_seconds)
        heappush(self._turns, (ends, line.entry, client_id, line))

    def _charge(self, line: Line, tasks: int) -> None:
        """Tasks of the line whose turn it is are placed."""
        seconds = line.share.give(tasks)
        line.given_seconds += seconds
        if len(self._turns) == 1:
            # Nobody else waits here, so that the client owes nobody anything.
            line.served_until = self._now = max(line.served_until, self._now) + seconds
            return
        line.served_until = max(line.served_until, line.begins) + seconds
        self._now = max(self._now, line.begins)

    def _end(self, client_id: bytes, line: Line) -> None:
        """The line whose turn it is has no more tasks."""
        heappop(self._turns)
        del self.lines[client_id]
        left = self._left
        if line.served_until > self._now:
            left[client_id] = line.served_until, line.given_seconds
        if len(left) > LEFT_MAX:
            for other in [other for other, (served_until, _) in left.items() if served_until <= self._now]:
                del left[other]


def _tasks_left(line: Line) -> int:
    """How many of its tasks are left of a turn; 0: it has had that much."""
    return line.share.tasks_in(line.begins + TURN_SECONDS - max(line.begins, line.served_until))


class SignatureQueue:
    """All ready tasks that need the same capabilities; those with counted resources also the same amounts, at one depth."""

    __slots__ = (
        "_depths",
        "_shares",
        "_turns",
        "amounts",
        "count",
        "depth",
        "line",
        "signature",
        "unservable_since",
        "wait",
    )

    def __init__(self, line: LineKey, shares: ClientShares) -> None:
        self.line = line
        self.signature, self.amounts, self.depth = line if isinstance(line, tuple) else (line, NO_AMOUNTS, 0)
        self.wait = Wait()
        """How its tasks wait for counted resources."""
        self._shares = shares
        self.count = 0
        """Tasks in here that are still ready."""
        self.unservable_since: float | None = None
        self._depths: list[int] = []
        self._turns: dict[int, Turns] = {}

    def turns_at(self, depth: int) -> Turns:
        """Return the queues of one depth; make them if there are none."""
        turns = self._turns.get(depth)
        if turns is None:
            turns = self._turns[depth] = self._make_turns(depth)
            insort(self._depths, depth)
        return turns

    def _make_turns(self, depth: int) -> Turns:
        return ClientTurns(self._shares)

    @property
    def is_held(self) -> bool:
        """Whether none of its tasks may run now, though a worker were free: the limits of their groups are reached."""
        return False

    @property
    def open_count(self) -> int:
        """How many of its tasks may run now, if there are workers for them."""
        return self.count

    @property
    def deepest(self) -> int:
        """The greatest depth of the tasks in here; -1: there are none."""
        return self._depths[-1] if self._depths else -1

    def take(self, limit: int, *, freeing_first: bool = False, agent: AgentRecord | None = None) -> list[Task]:
        """Remove and return up to `limit` tasks, deepest first; none only if there is none."""
        taken: list[Task] = []
        while len(taken) < limit and self._depths:
            depth = self._depths[-1]
            turns = self._turns[depth]
            turns.take(limit - len(taken), taken, freeing_first=freeing_first, agent=agent)
            if turns:
                break
            del self._turns[depth]
            self._depths.pop()
        self.count -= len(taken)
        return taken

    def has_newcomer(self) -> bool:
        """Whether the next task is the only one that its client has, or more urgent than others of its client."""
        if not self._depths:
            return False
        turns = self._turns[self._depths[-1]]
        # Nearly always one client waits, with more than one task.
        return (len(turns.lines) > 1 or self.count == 1 or turns.has_prioritized()) and turns.newcomer() is not None

    def take_newcomer(self) -> Task | None:
        """Remove and return the next task, if it is one that `has_newcomer` speaks of; else None."""
        turns = self._turns[self._depths[-1]]
        task = turns.take_newcomer()
        if task is not None:
            self.count -= 1
            if not turns:
                del self._turns[self._depths.pop()]
        return task

    def drop_client(self, client_id: bytes) -> None:
        """Remove all tasks of a client."""
        for turns in self._turns.values():
            self.count -= turns.drop_client(client_id)

    def tasks(self) -> Iterator[Task]:
        """Iterate over all ready tasks, for checks and reports."""
        for turns in self._turns.values():
            for line in turns.lines.values():
                yield from (task for task in line.tasks if task.state is _READY)

    def front(self, limit: int) -> Iterator[Task]:
        """Iterate over up to `limit` tasks that are assigned next: an equal share per client, deepest first."""
        lines = [line for depth in reversed(self._depths) for line in self._turns[depth].lines.values()][:limit]
        for line in lines:
            yield from line.tasks.some(max(1, limit // len(lines)))

    def client_ids(self) -> set[bytes]:
        """Return the clients that have tasks in here."""
        return {client_id for turns in self._turns.values() for client_id in turns.lines}


class ReadyQueues:
    """Every ready task of the scheduler."""

    def __init__(self, pressure: StoragePressure) -> None:
        self._pressure = pressure
        self.shares = ClientShares()
        self._by_signature: dict[LineKey, SignatureQueue] = {}
        """Those without counted resources."""
        self._counted: dict[LineKey, SignatureQueue] = {}
        """Those with; each has tasks."""
        self.lines: Lines[SignatureQueue] = Lines()
        """The same, in the order in which they are served."""
        self._lone: Task | None = None
        """The only ready task, until something looks at the queues. It is in none of them yet."""
        self.count = 0

    def add(self, task: Task) -> None:
        """Queue a task among its client's others."""
        self._turns_of(task).add(task.options.client.id, (task,))

    def add_all(self, tasks: list[Task]) -> None:
        """Queue tasks in the order of their numbers: of one client and depth, and with the same signature."""
        if not self.count and len(tasks) == 1:
            self._lone = tasks[0]
            self.count = 1
            return
        self._settle()
        options = tasks[0].options
        signature_queue = self._signature_queue(options.line)
        signature_queue.turns_at(options.depth).add(options.client.id, tasks)
        signature_queue.count += len(tasks)
        self.count += len(tasks)

    def add_first(self, task: Task) -> None:
        """Queue a task before its client's others, because it has waited its turn already."""
        self._turns_of(task).add_first(task.options.client.id, task)

    def withdraw(self, task: Task) -> None:
        """A queued task leaves in another way than by `take`. The caller changes its state in the same step."""
        self._settle()
        queue = self._signature_queue(task.options.line)
        queue.count -= 1
        self.count -= 1
        self._drop_if_empty(queue)

    def drop_client(self, client_id: bytes) -> None:
        """Forget every queued task of a client."""
        self._settle()
        for queue in (*self._by_signature.values(), *self._counted.values()):
            before = queue.count
            queue.drop_client(client_id)
            self.count -= before - queue.count
            self._drop_if_empty(queue)
        self.shares.forget(client_id)

    def take(self, queue: SignatureQueue, limit: int, agent: AgentRecord | None = None) -> list[Task]:
        """Remove and return up to `limit` tasks of one queue, deepest first, that are to go to this agent."""
        taken = queue.take(limit, freeing_first=self._pressure.is_high, agent=agent)
        self.count -= len(taken)
        if queue.amounts:
            self._drop_if_empty(queue)
        return taken

    def take_newcomer(self, queue: SignatureQueue) -> Task | None:
        """Remove and return the next task of one queue, if it is the only one that its client has; else None."""
        task = queue.take_newcomer()
        if task is not None:
            self.count -= 1
        return task

    def queue_of(self, line: LineKey) -> SignatureQueue | None:
        """Return the queue for these tasks, if there is one."""
        return self._counted.get(line) or self._by_signature.get(line)

    @property
    def has_counted(self) -> bool:
        """Whether tasks with counted resources are ready."""
        return bool(self._counted)

    def take_lone(self) -> Task | None:
        """Remove and return the only ready task, if it came after the last look at the queues; else None."""
        task = self._lone
        if task is not None:
            self._lone = None
            self.count = 0
        return task

    def non_empty(self) -> list[SignatureQueue]:
        """Return all queues with ready tasks."""
        return [*self.uncounted(), *self._counted.values()]

    def uncounted(self) -> list[SignatureQueue]:
        """Return the queues with ready tasks that need no counted resources, the one with the deepest task first."""
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
            self._turns_of(task).add(task.options.client.id, (task,))

    def _turns_of(self, task: Task) -> Turns:
        self._settle()
        options = task.options
        signature_queue = self._signature_queue(options.line)
        signature_queue.count += 1
        self.count += 1
        return signature_queue.turns_at(options.depth)

    def _signature_queue(self, line: LineKey) -> SignatureQueue:
        if isinstance(line, tuple):
            queue = self._counted.get(line)
            if queue is None:
                queue = self._counted[line] = self._make_queue(line)
                self.lines.add(queue)
            return queue
        queue = self._by_signature.get(line)
        if queue is None:
            queue = self._by_signature[line] = self._make_queue(line)
        elif not queue.count:
            queue.unservable_since = None
        return queue

    def _make_queue(self, line: LineKey) -> SignatureQueue:
        return SignatureQueue(line, self.shares)

    def _drop_if_empty(self, queue: SignatureQueue) -> None:
        if queue.count > 0:
            return
        # Entries that are left in there are of tasks that are not ready: they would stay where no worker serves the queue.
        if queue.amounts:
            self._counted.pop(queue.line, None)
            self.lines.discard(queue)
        else:
            self._by_signature.pop(queue.line, None)
