"""Groups of clients that share the cluster: who belongs to which, and how many core seconds each has used.

What a group has *used* is the running time of its tasks that have ended. What it has been *charged* is that, and what its
running tasks have taken until now. What these will take is *expected*. That is an estimate, so it decides who is next and is
then forgotten: how much a group is owed depends on what it was charged alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.events import Peer
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task
from scaler_scheduler.core.shares import MEAN_KEPT, OVERHEAD_SECONDS, UNKNOWN_SECONDS
from scaler_scheduler.core.tallies import owner_of
from scaler_scheduler.group_shares import DEFAULT_GROUP, GroupShare

CREDIT_SECONDS = 5.0
"""A group that had nothing waiting, or was held back by its limit, is owed at most its share of the last seconds."""

AHEAD_SECONDS = 0.25
"""Tasks that were assigned so long ago run, as many of an agent's as it has slots, for each depth. Of those that came later it is
not known: agents hold some 50 ms of work.

A task is expected to take so much at most, and so much where nothing is known of it. More would keep a group with long tasks
waiting until others have caught up with what its tasks have not used yet.
"""

KEY_NAMES_KEPT = 1000
"""Names of keys of connections that are gone are forgotten when there are so many."""

Place: TypeAlias = tuple[AgentRecord, int]
"""An agent and a depth: as many tasks run there as the agent has slots."""


class Group:
    """One group, its clients, and what its tasks use."""

    def __init__(self, share: GroupShare, busy: Counter[Place]) -> None:
        """`busy`: how many tasks of all groups run, as far as is known. The groups keep it together."""
        self.share = share
        self.name, self.weight = share.name, share.weight
        self.clients: dict[ClientRecord, None] = {}
        self.used_seconds = 0.0
        """Running time of its tasks that have ended."""
        self.refused_count = 0
        """Tasks that were refused because too many waited."""
        self.held_since: float | None = None
        """Since when tasks of it wait because of `max_running`; None: none does."""
        self._mean_seconds: float | None = None
        self._overhead_seconds = 0.0
        self._assigned: dict[Task, float] = {}
        """Its tasks at agents, and when each was assigned."""
        self._fresh: deque[tuple[float, Sequence[Task]]] = deque()
        """Those that were assigned, or seen to wait at their agent, less than `AHEAD_SECONDS` ago. Some may have ended."""
        self._running: dict[Task, tuple[float, Place]] = {}
        """The others, which run: since when, and where."""
        self._busy = busy
        self._running_since_sum = 0.0
        self._by_depth: Counter[int] = Counter()
        """Of `_assigned`, how many there are of each depth."""
        self._taken: Counter[int] = Counter()
        """Tasks that have left the queues and are about to be assigned, by depth."""

    def __repr__(self) -> str:
        return f"<Group {self.share}>"

    @property
    def running_count(self) -> int:
        """How many of its tasks agents have."""
        return len(self._assigned)

    @property
    def waiting_count(self) -> int:
        """How many of its tasks wait: for a worker, for results of others, or for their next attempt."""
        waiting = 0
        for client in self.clients:
            waiting += len(client.tasks) - client.assigned_count
            if client.graphs or client.links is not None:
                waiting += sum(graph.waiting for graph in client.all_graphs())
            waiting += sum(0 if arrival.refusal else arrival.row_count for arrival in client.arriving)
        return waiting

    def room(self, depth: int) -> int | None:
        """Return how many more tasks of this depth may run; None: any number.

        Each depth has the limit for itself. Otherwise tasks would wait for tasks inside them that may not run.
        """
        limit = self.share.max_running
        return max(0, limit - self._by_depth[depth] - self._taken[depth]) if limit else None

    @property
    def has_ended_tasks(self) -> bool:
        """Whether it is known how long tasks of it take."""
        return self._mean_seconds is not None

    @property
    def task_seconds(self) -> float:
        """How long one of its tasks will probably take."""
        return UNKNOWN_SECONDS if self._mean_seconds is None else self._mean_seconds

    def charged_seconds(self, now: float) -> float:
        """Return what its tasks have used, and what those that run have taken until now."""
        self._note_running(now)
        return self.used_seconds + self._overhead_seconds + len(self._running) * now - self._running_since_sum

    @property
    def expected_seconds(self) -> float:
        """What its tasks at agents will take at least, as far as is known; each counts `AHEAD_SECONDS` at most."""
        mean = self._mean_seconds
        each = AHEAD_SECONDS if mean is None else min(mean, AHEAD_SECONDS)
        return each * (len(self._assigned) + self._taken.total())

    def status(self) -> m.GroupStatus:
        """Return its figures for monitors."""
        share = self.share
        return m.GroupStatus(
            name=self.name,
            weight=self.weight,
            clients=len(self.clients),
            waiting=self.waiting_count,
            running=self.running_count,
            used_seconds=self.used_seconds,
            max_running=share.max_running,
            max_waiting=share.max_waiting,
            refused=self.refused_count,
        )

    def assigned_at_depths(self) -> dict[int, int]:
        """Return how many of its tasks agents have, by depth. Raises AssertionError where its tables differ. For checks."""
        found = Counter(task.options.depth for task in self._assigned)
        assert found == +self._by_depth, f"{self.name}: counted {dict(self._by_depth)}, there are {dict(found)}"
        assert self._running.keys() <= self._assigned.keys(), f"{self.name}: a task runs that no agent has"
        assert not self._taken.total(), f"{self.name}: {self._taken.total()} tasks were taken and not assigned"
        return dict(found)

    # --- what becomes of its tasks

    def take(self, depth: int, count: int) -> None:
        """So many of its tasks leave the queues and are about to be assigned."""
        self._taken[depth] += count

    def assign(self, tasks: Sequence[Task], now: float) -> None:
        """Tasks of one depth have been assigned."""
        depth = tasks[0].options.depth
        self._taken[depth] = max(0, self._taken[depth] - len(tasks))
        self._by_depth[depth] += len(tasks)
        for task in tasks:
            self._assigned[task] = now
        self._fresh.append((now, tasks))

    def leave(self, tasks: Iterable[Task]) -> None:
        """Tasks are at an agent no more, whatever they have used there."""
        for task in tasks:
            if self._assigned.pop(task, None) is None:
                continue
            self._by_depth[task.options.depth] -= 1
            running = self._running.pop(task, None)
            if running is not None:
                since, place = running
                self._running_since_sum -= since
                self._busy[place] -= 1
                if not self._busy[place]:
                    del self._busy[place]
        if not self._running:
            # What rounding has left.
            self._running_since_sum = 0.0

    def charge(self, durations: Sequence[int]) -> None:
        """Tasks have ended that ran for so many microseconds."""
        count = len(durations)
        if not count:
            return
        seconds = sum(durations) * 1e-6
        self.used_seconds += seconds
        self._overhead_seconds += count * OVERHEAD_SECONDS
        mean, average = self._mean_seconds, seconds / count + OVERHEAD_SECONDS
        self._mean_seconds = average if mean is None else average + MEAN_KEPT**count * (mean - average)

    def note_refused(self, count: int) -> None:
        """So many tasks were refused."""
        self.refused_count += count

    def note_held(self, now: float | None) -> None:
        """At this time tasks of it wait because of `max_running`; None: none does."""
        if now is None or self.held_since is None:
            self.held_since = now

    def _note_running(self, now: float) -> None:
        fresh, busy = self._fresh, self._busy
        while fresh and fresh[0][0] <= now - AHEAD_SECONDS:
            since, tasks = fresh.popleft()
            waiting = []
            for task in tasks:
                # One that came back and was assigned again is in a later entry.
                if self._assigned.get(task) != since or task in self._running:
                    continue
                agent = task.agent
                assert agent is not None
                place = agent, task.options.depth
                if busy[place] >= agent.slots:
                    # It cannot have begun: results come late, or the agent's tasks take longer than it has seen.
                    self._assigned[task] = now
                    waiting.append(task)
                    continue
                busy[place] += 1
                self._running[task] = since, place
                self._running_since_sum += since
            if waiting:
                fresh.append((now, waiting))


class Groups:
    """All groups of a scheduler that has some."""

    def __init__(self, shares: Iterable[GroupShare], now: float) -> None:
        busy: Counter[Place] = Counter()
        self.by_name: dict[str, Group] = {share.name: Group(share, busy) for share in shares}
        self.of: dict[bytes, Group] = {}
        """By connected client."""
        self.now = now
        """When the last placement pass began."""
        self.credit = 0.0
        """What a group is owed at most when it comes back: core seconds for each unit of weight."""
        self.has_moved = False
        """Whether a client has ever changed its group."""
        self._weights = sum(group.weight for group in self.by_name.values())
        self._slots_counted_at = float("-inf")
        self._key_names: dict[Peer, str] = {}
        """With keys: the names of the keys of connections."""
        self._ownerless: dict[ClientRecord, None] = {}
        """Clients inside tasks of clients that are not connected, as after a restart."""

    def begin_pass(self, now: float, slots: Iterable[int]) -> None:
        """Tasks are about to be placed. `slots`: those of each agent, which are added up once a second."""
        self.now = now
        if now >= self._slots_counted_at + 1.0:
            self._slots_counted_at = now
            self.credit = CREDIT_SECONDS * max(1, sum(slots)) / self._weights

    def is_limited(self, task: Task) -> bool:
        """Whether only so many tasks of its group may run at once."""
        return self.of[task.options.client.id].share.max_running > 0

    def statuses(self) -> tuple[m.GroupStatus, ...]:
        """Return the figures of all groups for monitors."""
        return tuple(group.status() for group in self.by_name.values())

    # --- who belongs to which

    def note_key(self, peer: Peer, name: str) -> None:
        """The key of this connection has this name, which says to which group its client belongs."""
        names = self._key_names
        names[peer] = name
        if len(names) > KEY_NAMES_KEPT + 2 * len(self.of):
            # A client that begins its session anew leaves and comes back at once: its key's name must still be known then.
            connected = {client.peer for group in self.by_name.values() for client in group.clients}
            self._key_names = {one: known for one, known in names.items() if one in connected or one == peer}

    def refusal(self, peer: Peer, group: str) -> str | None:
        """Return why a client that asks for a group is not let in; None: it is."""
        if not group:
            return None
        key = self._key_names.get(peer)
        if key is not None and self._named(key).name != group:
            return f"the key {key!r} belongs to group {self._named(key).name!r}, so this client cannot be in {group!r}"
        if group not in self.by_name:
            return f"there is no group {group!r}; the scheduler's --share names {', '.join(sorted(self.by_name))}"
        return None

    def admit(self, client: ClientRecord, clients: dict[bytes, ClientRecord]) -> None:
        """A client has connected: find its group, and those of clients inside its tasks that came before it."""
        self._file(client, clients)
        for nested in [one for one in self._ownerless if one is not client]:
            self._file(nested, clients)

    def remove(self, client: ClientRecord) -> None:
        """A client has left; its tasks were dropped."""
        group = self.of.pop(client.id, None)
        if group is not None:
            group.clients.pop(client, None)
        self._ownerless.pop(client, None)

    def _file(self, client: ClientRecord, clients: dict[bytes, ClientRecord]) -> None:
        # Whoever has a key of its own is in no other group, whatever it says of itself.
        owner = client if client.peer in self._key_names else owner_of(client, clients)
        if owner is None:
            self._ownerless[client] = None
        else:
            self._ownerless.pop(client, None)
        group, before = self._group_of(owner), self.of.get(client.id)
        self.of[client.id] = group
        if before is group:
            return
        group.clients[client] = None
        if before is not None:
            self.has_moved = True
            before.clients.pop(client, None)
            assigned = [task for task in client.tasks.values() if task.agent is not None]
            before.leave(assigned)
            for task in assigned:
                group.assign((task,), self.now)

    def _group_of(self, owner: ClientRecord | None) -> Group:
        if owner is None:
            return self.by_name[DEFAULT_GROUP]
        key = self._key_names.get(owner.peer)
        return self._named(owner.hello.group if key is None else key)

    def _named(self, name: str) -> Group:
        return self.by_name.get(name) or self.by_name[DEFAULT_GROUP]
