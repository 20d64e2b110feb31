"""Agents: what the scheduler knows of each, and which of them can take work at what load."""

from __future__ import annotations

from heapq import heappop, heappush

from scaler_protocol.session import Session
from scaler_protocol.wire.messages import Heartbeat, Hello
from scaler_scheduler.core.tasks import Task

Names = frozenset[str]

NEVER = float("inf")


class AgentRecord:
    """An agent incarnation with a session. Owns the table of tasks assigned to it (oldest first)."""

    __slots__ = (
        "behind",
        "capability_names",
        "capacity",
        "counted",
        "draining",
        "functions",
        "heartbeat",
        "hello",
        "id",
        "last_seen",
        "load_key",
        "lost_at",
        "peer",
        "pool_index",
        "session",
        "slots",
        "tasks",
    )

    def __init__(self, peer: bytes, hello: Hello, session: Session, now: float) -> None:
        self.peer = peer
        self.id = hello.incarnation
        self.hello = hello
        self.session = session
        self.last_seen = now
        self.lost_at = NEVER
        """When to give it up because its connection is gone; a sign of life takes that back."""
        self.slots = max(1, len(hello.worker_names))
        self.capacity = hello.capacity
        """Tasks it wants in all, as it last said."""
        self.capability_names: Names = frozenset(name for name, _ in hello.capabilities)
        self.tasks: dict[Task, None] = {}
        self.behind = 0
        """Of `tasks`, those that run behind another one of their chain: no worker is needed for them."""
        self.functions: dict[bytes, set[bytes]] = {}
        """Client id to the functions this agent was sent for it."""
        self.counted = 0
        """Of `tasks`, how many its group has counted."""
        self.draining = False
        self.heartbeat = Heartbeat()
        self.pool_index = 0
        self.load_key = -1.0

    @property
    def name(self) -> str:
        return self.hello.name

    def is_untouched(self, hello: Hello) -> bool:
        """Whether this is the same peer and nothing has happened in its session yet."""
        return hello.incarnation == self.id and not self.tasks and self.session.received == self.session.sent == 0

    def begin_session(self, hello: Hello, now: float) -> None:
        """Its session begins with this hello, not with the one before."""
        self.hello = hello
        self.session = Session(hello.hello_number)
        self.last_seen = now

    @property
    def units(self) -> int:
        """What can be told from one another by workers: tasks, and chains whole."""
        return len(self.tasks) - self.behind

    @property
    def spare(self) -> int:
        """Tasks it would take now. A long chain keeps one worker busy, not the others."""
        if self.draining:
            return 0
        spare = self.capacity - len(self.tasks)
        return max(spare, min(self.slots, self.capacity) - self.units) if self.behind else spare

    def leave_chain(self, task: Task) -> None:
        """A task that is assigned here is about to be so no longer."""
        chain, task.chain = task.chain, None
        if chain is not None:
            chain.length -= 1
            if chain.length:
                self.behind -= 1


class AgentGroup:
    """Agents that offer the same capabilities, by load. The heap may hold stale entries; `load_key` tells."""

    __slots__ = ("agents", "assigned", "heap", "names", "slots")

    def __init__(self, names: Names) -> None:
        self.names = names
        self.assigned = 0
        """Tasks at all of them, as of the last `AgentPool.refresh`."""
        self.agents: dict[AgentRecord, None] = {}
        self.slots = 0
        self.heap: list[tuple[float, int, AgentRecord]] = []

    def least_loaded(self) -> AgentRecord | None:
        """Return the agent with most room per slot, or None when none has room. It stays in the heap."""
        heap = self.heap
        while heap:
            key, _, agent = heap[0]
            if key == agent.load_key:
                if agent.spare > 0:
                    return agent
                agent.load_key = -1.0
            heappop(heap)
        return None


class AgentPool:
    """All living agents."""

    def __init__(self) -> None:
        self.by_peer: dict[bytes, AgentRecord] = {}
        self._groups: dict[Names, AgentGroup] = {}
        self._eligible: dict[Names, list[AgentGroup]] = {}
        self._dirty: dict[AgentRecord, None] = {}
        self._next_index = 0

    def __len__(self) -> int:
        return len(self.by_peer)

    def add(self, agent: AgentRecord) -> None:
        self.by_peer[agent.peer] = agent
        self._next_index += 1
        agent.pool_index = self._next_index
        group = self._groups.get(agent.capability_names)
        if group is None:
            group = self._groups[agent.capability_names] = AgentGroup(agent.capability_names)
            self._eligible.clear()
        group.agents[agent] = None
        group.slots += agent.slots
        self._dirty[agent] = None

    def remove(self, agent: AgentRecord) -> None:
        del self.by_peer[agent.peer]
        self._dirty.pop(agent, None)
        agent.load_key = -1.0
        group = self._groups[agent.capability_names]
        del group.agents[agent]
        group.slots -= agent.slots
        group.assigned -= agent.counted
        if not group.agents:
            del self._groups[agent.capability_names]
            self._eligible.clear()

    def changed(self, agent: AgentRecord) -> None:
        """The agent's tasks, capacity or draining changed: look at it again in the next placement."""
        if agent.peer in self.by_peer:
            self._dirty[agent] = None

    def refresh(self) -> None:
        """Bring the heaps up to date. Once before a placement pass."""
        for agent in self._dirty:
            self.reinsert(agent)
        self._dirty.clear()

    def reinsert(self, agent: AgentRecord) -> None:
        """Count the agent's tasks, and put it into its group's heap where it has room."""
        group = self._groups[agent.capability_names]
        held = len(agent.tasks)
        group.assigned += held - agent.counted
        agent.counted = held
        if agent.spare > 0:
            key = held / agent.slots
            if key != agent.load_key:
                agent.load_key = key
                heappush(group.heap, (key, agent.pool_index, agent))
        else:
            agent.load_key = -1.0

    def groups_for(self, signature: Names) -> list[AgentGroup]:
        """Return the groups that may run tasks of this signature, the least specialised first."""
        groups = self._eligible.get(signature)
        if groups is None:
            groups = sorted(
                (group for names, group in self._groups.items() if signature <= names),
                key=lambda group: len(group.names),
            )
            self._eligible[signature] = groups
        return groups
