"""The pool of living agents: which of them can take work, and which of these at what load."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from scaler_protocol.capabilities import named_host, named_worker, offered, pinned_agent, preferred_host
from scaler_protocol.ids import short
from scaler_scheduler.core.records import AgentRecord, Names
from scaler_scheduler.policy.resources import ResourceRules

STALE_ENTRIES = 4
"""A heap with so many entries for each agent is made anew: popping the stale ones all at once would take long."""

VIEWS_MAX = 1000
"""So many groups of agents by workers' and hosts' names are kept."""

VIEW_HEAP = 8
"""As `SMALL_HEAP`, for these: there may be many of them, with few agents each."""

SMALL_HEAP = 256
"""A smaller one is not worth it."""


class AgentGroup:
    """Agents that offer the same capabilities, by load. The heap may hold stale entries, which `load_key` shows."""

    __slots__ = ("agents", "assigned", "heap", "names", "slots", "stale_max")

    def __init__(self, names: Names, stale_max: int = SMALL_HEAP) -> None:
        self.names = names
        self.stale_max = stale_max
        self.assigned = 0
        """Tasks at all of them. Each agent's are as of the last `AgentPool.reinsert`."""
        self.agents: dict[AgentRecord, None] = {}
        self.slots = 0
        self.heap: list[tuple[float, int, AgentRecord]] = []

    def push(self, agent: AgentRecord) -> None:
        """Enter an agent, whose `load_key` has changed, into the heap."""
        heap = self.heap
        heappush(heap, (agent.load_key, agent.pool_index, agent))
        if len(heap) > self.stale_max and len(heap) > STALE_ENTRIES * len(self.agents):
            heap[:] = [(each.load_key, each.pool_index, each) for each in self.agents if each.load_key >= 0]
            heapify(heap)

    def with_room(self) -> list[AgentRecord]:
        """Return all agents that take a task now."""
        return [agent for agent in self.agents if agent.spare > 0]

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

    def __init__(self, resources: ResourceRules[AgentRecord]) -> None:
        self._resources = resources
        self.by_peer: dict[bytes, AgentRecord] = {}
        self._groups: dict[Names, AgentGroup] = {}
        self._eligible: dict[Names, list[AgentGroup]] = {}
        self._views: dict[tuple[str, str, Names], AgentGroup] = {}
        """Groups of agents by the names of a worker and of a host, and what else tasks ask for; made when they are asked for."""
        self._views_of: dict[AgentRecord, list[AgentGroup]] = {}
        self._dirty: dict[AgentRecord, None] = {}
        self._aside: dict[AgentRecord, None] = {}
        """Agents that have room, and get nothing for now."""
        self._next_index = 0

    def __len__(self) -> int:
        return len(self.by_peer)

    @property
    def has_views(self) -> bool:
        """Whether tasks have asked for workers or hosts by their names."""
        return bool(self._views)

    def add(self, agent: AgentRecord) -> None:
        """The agent has connected."""
        self.by_peer[agent.peer] = agent
        self._next_index += 1
        agent.pool_index = self._next_index
        group = self._groups.get(agent.capability_names)
        if group is None:
            group = self._groups[agent.capability_names] = AgentGroup(agent.capability_names)
            self._eligible.clear()
        group.agents[agent] = None
        group.slots += agent.slots
        for key, view in self._views.items():
            self._add_to_view(view, key, agent)
        self._dirty[agent] = None
        self._resources.note_offer(agent.capability_names, agent.resources.amounts.offered)
        self._resources.note_hosts()

    def remove(self, agent: AgentRecord) -> None:
        """The agent is gone."""
        self._resources.remove_host(agent)
        del self.by_peer[agent.peer]
        self._dirty.pop(agent, None)
        self._aside.pop(agent, None)
        agent.load_key = -1.0
        group = self._groups[agent.capability_names]
        del group.agents[agent]
        group.slots -= agent.slots
        group.assigned -= agent.counted
        for view in self._views_of.pop(agent, ()):
            del view.agents[agent]
            view.slots -= agent.slots
            view.assigned -= agent.counted
        if not group.agents:
            del self._groups[agent.capability_names]
            self._eligible.clear()

    def changed(self, agent: AgentRecord) -> None:
        """The agent's tasks or capacity changed: look at it again in the next placement."""
        if agent.peer in self.by_peer:
            self._dirty[agent] = None

    def set_aside(self, agent: AgentRecord) -> None:
        """Give the agent nothing more until it has changed, or `end_aside`."""
        agent.load_key = -1.0
        self._aside[agent] = None

    def is_aside(self, agent: AgentRecord) -> bool:
        """Whether the agent is set aside."""
        return agent in self._aside

    def end_aside(self) -> None:
        """Take all agents again that are set aside."""
        for agent in list(self._aside):
            self.reinsert(agent)

    def drain(self, agent: AgentRecord) -> None:
        """Give the agent nothing new: it finishes what it holds and leaves."""
        agent.draining = True
        self._resources.note_hosts()
        self.changed(agent)

    def refresh(self) -> None:
        """Bring the heaps up to date. Once before a placement pass."""
        for agent in self._dirty:
            self.reinsert(agent)
        self._dirty.clear()

    def reinsert(self, agent: AgentRecord) -> None:
        """Count the agent's tasks, and put it into its group's heap where it has room."""
        if self._aside:
            self._aside.pop(agent, None)
        group = self._groups[agent.capability_names]
        held = len(agent.tasks)
        group.assigned += held - agent.counted
        views = self._views_of.get(agent, ()) if self._views_of else ()
        for view in views:
            view.assigned += held - agent.counted
        agent.counted = held
        if agent.spare > 0:
            key = held / agent.slots
            if key != agent.load_key:
                agent.load_key = key
                group.push(agent)
                for view in views:
                    view.push(agent)
        else:
            agent.load_key = -1.0

    def groups_for(self, signature: Names) -> list[AgentGroup]:
        """Return the groups that may run tasks of this signature, the least specialised first."""
        groups = self._eligible.get(signature)
        if groups is None:
            pinned = pinned_agent(signature)
            if pinned is not None:
                return self._group_of_one(pinned)
            worker, host, capabilities = named_worker(signature), named_host(signature), offered(signature)
            if worker or host:
                view = self._view(worker, host, capabilities)
                return [view] if view.agents else []
            groups = sorted(
                (group for names, group in self._groups.items() if capabilities <= names),
                key=lambda group: len(group.names),
            )
            self._eligible[signature] = groups
        return groups

    def preferred_for(self, signature: Names) -> list[AgentGroup]:
        """Return the agents of the host that tasks of this signature prefer; nothing if none is connected that may run them."""
        view = self._view("", preferred_host(signature), offered(signature))
        return [view] if view.agents else []

    def _view(self, worker: str, host: str, capabilities: Names) -> AgentGroup:
        key = worker, host, capabilities
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= VIEWS_MAX:
                self._views.clear()
                self._views_of.clear()
            view = self._views[key] = AgentGroup(capabilities, VIEW_HEAP)
            for agent in self.by_peer.values():
                self._add_to_view(view, key, agent)
        return view

    def _add_to_view(self, view: AgentGroup, key: tuple[str, str, Names], agent: AgentRecord) -> None:
        worker, host, capabilities = key
        if (
            (host and host not in (agent.hello.hostname, agent.hello.name))
            or (worker and slot_named(agent, worker) is None)
            or not capabilities <= agent.capability_names
        ):
            return
        view.agents[agent] = None
        view.slots += agent.slots
        view.assigned += agent.counted
        self._views_of.setdefault(agent, []).append(view)
        if agent.load_key >= 0:
            view.push(agent)

    def _group_of_one(self, agent_id: bytes) -> list[AgentGroup]:
        """Return the one agent with this id as a group of its own, made for this question: such tasks are rare."""
        agent = self.by_peer.get(agent_id)
        if agent is None:
            return []
        group = AgentGroup(agent.capability_names)
        group.agents[agent] = None
        group.slots, group.assigned = agent.slots, len(agent.tasks)
        group.heap.append((agent.load_key, agent.pool_index, agent))
        return [group]


def slot_named(agent: AgentRecord, worker: str) -> int | None:
    """Return the slot of the agent's worker of this name; None if it has none.

    Where several workers have one name, clients show each with its agent behind it (`Client.run`). That is its name, too.
    """
    names = agent.hello.worker_names
    if worker in names:
        return names.index(worker)
    if worker.endswith(")"):
        for slot, name in enumerate(names):
            if worker == f"{name} ({short(agent.id)}/{slot})":
                return slot
    return None
