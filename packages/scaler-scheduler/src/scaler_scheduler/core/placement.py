"""Ready tasks to agents, once per drained batch of events.

The policy chooses the agent and the number of tasks; everything else about a placement happens here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from scaler_protocol.capabilities import named_worker, preferred_host
from scaler_protocol.runtime.resources import Amounts, format_amounts
from scaler_scheduler.core.agents import AgentGroup, AgentPool, slot_named
from scaler_scheduler.core.dispatch import Dispatch
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.ready import SignatureQueue
from scaler_scheduler.core.records import AgentRecord, Task
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.policy.locality import AgentFigures
from scaler_scheduler.policy.resources import ResourceRules

FIRST_SECONDS = 1.0
"""So long after its start the scheduler gives nothing of the cluster's limits: hosts that were there before may have it all."""

ROOM_PIECES = 8
"""An agent that lacks less than such a part of what it wants gets nothing yet: batches would stay as small as the room that each
makes. Not while there are clients inside tasks: all that an agent holds may be waiting for just the tasks that have no room."""

ROOM_TASKS_MIN = 8
"""Smaller parts are not waited for: one plain task at a time costs less than a batch of a few."""

PASS_WORK_MAX = 1536
"""How much one pass does, so that messages need not wait for more than that: a task is 1."""

TAKEN_MAX = 512
"""So many tasks are taken and sent in one step. What an agent wants at a time is rarely more."""

CHOICE_WORK = 48
"""To choose which row of a graph an agent gets, among those that make objects, is so much more."""

ASSIGNMENT_WORK = 32
"""A message with tasks is so much more, however many they are."""

NEWCOMERS_AGENTS = 16
"""How many agents of a group are looked at for tasks beyond what they want."""


class Placement:
    """One placement pass after another."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle) -> None:
        self._policy = state.policy
        self._resources = state.resources
        self._agents = state.agents
        self._inside_tasks = state.inside_tasks
        self._ready = state.ready
        self._groups = state.groups
        self._lifecycle = lifecycle
        self._dispatch = Dispatch(state)
        self._work_left = 0
        self._passes = 0
        self._config = state.config
        self._started_at = state.started_at
        self._peers = state.peers
        self._counted_first = True
        """Whether tasks with counted resources get what room there is before others; they take turns."""

    def place_ready(self, now: float) -> bool:
        """Hand over what is ready, as far as agents take it. Return whether the pass has ended before it was done."""
        if not self._ready.count:
            # What has changed at agents is looked at when there is something for them.
            return False
        agents = self._agents
        if self._groups is not None:
            self._groups.begin_pass(now, (agent.slots for agent in agents.by_peer.values()))
        agents.refresh()
        lone = self._ready.take_lone()
        if lone is not None:
            if self._place_lone(lone, now):
                return False
            self._ready.add(lone)
        self._work_left = PASS_WORK_MAX
        queues = self._ready.uncounted()
        if len(queues) > 1 and agents.has_views:
            queues = self._in_turn(queues)
        if not self._ready.has_counted:
            return self._place_queues(queues, now)
        return self._place_in_turns(queues, now)

    def _place_queues(self, queues: list[SignatureQueue], now: float) -> bool:
        """Place tasks that ask for no amounts. Return whether the pass has ended before it was done."""
        agents = self._agents
        elsewhere: list[tuple[SignatureQueue, list[AgentGroup]]] = []
        for queue in queues:
            groups = agents.groups_for(queue.signature)
            if not groups:
                if queue.unservable_since is None:
                    queue.unservable_since = now
                continue
            queue.unservable_since = None
            if not queue.signature:
                self._place_queue(queue, groups, now)
            elif (worker := named_worker(queue.signature)) != "":
                self._place_at_worker(queue, worker, groups, now)
            elif preferred_host(queue.signature):
                self._place_queue(queue, agents.preferred_for(queue.signature), now, newcomers=False)
                # Only those whose turn it is may have what others of their kind find at their hosts.
                if queue is not queues[0]:
                    elsewhere.append((queue, groups))
                else:
                    self._place_queue(queue, groups, now)
            else:
                self._place_queue(queue, groups, now)
            if self._work_left <= 0:
                return True
        for queue, groups in elsewhere:
            self._place_queue(queue, groups, now)
        return self._work_left <= 0

    def _in_turn(self, queues: list[SignatureQueue]) -> list[SignatureQueue]:
        """Return the queues, the deepest first, and of those of one depth another one first in each pass.

        Tasks for one host would otherwise wait for all that others may run there too, or those for them.
        """
        self._passes += 1
        first = self._passes % len(queues)
        return sorted(queues[first:] + queues[:first], key=_deepest, reverse=True)

    def _place_in_turns(self, queues: list[SignatureQueue], now: float) -> bool:
        """Place tasks with counted resources, and the others. Whoever got something last comes second."""
        counted_first = self._counted_first
        for is_counted in (counted_first, not counted_first):
            before = self._ready.count
            is_over = self._place_counted(now) if is_counted else self._place_queues(queues, now)
            if self._ready.count < before and is_counted == self._counted_first:
                self._counted_first = not is_counted
            if is_over:
                return True
        return False

    def _limits_are_known(self, now: float) -> bool:
        """Whether hosts have said what they have of the cluster's limits since an earlier scheduler."""
        age = now - self._started_at
        if age < FIRST_SECONDS:
            return False
        return age >= self._config.recovery_grace_seconds or not any(
            peer.hello.scheduler_incarnation not in (b"", self._config.incarnation) for peer in self._peers.values()
        )

    def _place_counted(self, now: float) -> bool:
        """Place tasks with counted resources. Return whether the pass has ended before it was done."""
        resources = self._resources
        if not resources.limits_are_known and self._limits_are_known(now):
            resources.limits_are_known = True
            resources.note_change()

        def hosts_of(queue: SignatureQueue) -> list[list[AgentRecord]]:
            signature = queue.signature
            hosts = _open_agents(self._agents.groups_for(signature))
            if not signature or not preferred_host(signature):
                return [hosts]
            preferred = dict.fromkeys(_open_agents(self._agents.preferred_for(signature)))
            return [list(preferred), [agent for agent in hosts if agent not in preferred]]

        def assign(
            queue: SignatureQueue, agent: AgentRecord, count: int, of_host: Amounts, devices: tuple[str, ...]
        ) -> int:
            worker = named_worker(queue.signature) if queue.signature else ""
            slot = slot_named(agent, worker) if worker else None
            if slot is not None:
                if _has_counted(agent, slot, queue.depth):
                    return 0
                count = 1
            tasks = self._ready.take(queue, min(count, TAKEN_MAX), agent if len(self._agents) > 1 else None)
            if tasks:
                if slot is not None:
                    agent.pinned.setdefault(slot, []).extend(tasks)
                self._assign_granted(agent, tasks, of_host, devices, now)
                self._agents.reinsert(agent)
            return len(tasks)

        def note_servable(queue: SignatureQueue, is_servable: bool) -> None:
            if is_servable:
                queue.unservable_since = None
            elif queue.unservable_since is None:
                queue.unservable_since = now

        self._work_left -= self._resources.place(
            self._ready.lines, hosts_of, assign, note_servable, now, self._work_left
        )
        return self._work_left <= 0

    def _assign_granted(
        self, agent: AgentRecord, tasks: list[Task], of_host: Amounts, devices: tuple[str, ...], now: float
    ) -> None:
        granted = format_amounts(of_host)
        for options, group in self._lifecycle.assign(agent, tasks).items():
            self._work_left -= ASSIGNMENT_WORK
            for task in group:
                key = (options.client.id, task.number)
                self._resources.grant(agent, key, options.amounts, devices, task.attempt, options.depth)
            self._dispatch.send(agent, options, group, now, granted, ",".join(devices))

    def _place_lone(self, task: Task, now: float) -> bool:
        """Assign the only ready task, where that is simple: no graph, no objects, no queue. What latency consists of."""
        if task.graph is not None or task.objects or task.options.amounts:
            return False
        signature = task.options.signature
        if signature and (named_worker(signature) or preferred_host(signature)):
            return False
        choice = self._policy.choose(1, self._agents.groups_for(signature))
        if choice is None:
            return False
        agent = choice[0]
        self._assign(agent, [task], now)
        # Counted in the next pass, with what its result changes.
        self._agents.changed(agent)
        return True

    def _place_queue(
        self, queue: SignatureQueue, groups: list[AgentGroup], now: float, *, newcomers: bool = True
    ) -> None:
        if not groups:
            return
        choose = self._policy.choose
        agents, inside_tasks = self._agents, self._inside_tasks
        if inside_tasks:
            agents.end_aside()
        while queue.count > 0 and self._work_left > 0:
            choice = choose(queue.count, groups)
            if choice is None:
                if newcomers:
                    self._place_newcomers(queue, groups, now)
                return
            agent, count = choice
            piece = agent.capacity // ROOM_PIECES
            if piece >= ROOM_TASKS_MIN and agent.spare < min(piece, queue.count) and not inside_tasks:
                if agents.is_aside(agent):
                    return
                agents.set_aside(agent)
                continue
            while count > 0 and self._work_left > 0:
                tasks = self._ready.take(queue, min(count, TAKEN_MAX), agent if len(agents) > 1 else None)
                if not tasks:
                    return
                count = count - len(tasks) if len(tasks) == TAKEN_MAX else 0
                if tasks[0].graph is not None and len(agents) > 1:
                    self._work_left -= CHOICE_WORK * sum(map(_makes_objects, tasks))
                tasks = self._keep_from_moving(agent, tasks, now)
                if tasks:
                    self._assign(agent, tasks, now)
                agents.reinsert(agent)

    def _place_newcomers(self, queue: SignatureQueue, groups: list[AgentGroup], now: float) -> None:
        """Where agents want no more: give them some tasks beyond what they want.

        These are the single tasks of clients that have no other, and tasks that are more urgent than others of their client.
        Such a task would wait for results to make room, and an agent may hold more than it wants by now. An agent runs it before
        what it holds of others. One whose tasks are so long that it holds none ahead gets none.
        """
        if not queue.has_newcomer():
            return
        rooms = {}
        for group in groups:
            for agent in islice(group.agents, NEWCOMERS_AGENTS):
                room = _room_for_newcomers(agent)
                if room > 0:
                    rooms[agent] = room
        while rooms and queue.count > 0 and self._work_left > 0:
            agent = max(rooms, key=rooms.__getitem__)
            task = self._ready.take_newcomer(queue)
            if task is None:
                return
            agent.newcomers.append(task)
            self._assign(agent, [task], now)
            self._agents.reinsert(agent)
            rooms[agent] -= 1
            if not rooms[agent]:
                del rooms[agent]

    def _place_at_worker(self, queue: SignatureQueue, worker: str, groups: Iterable[AgentGroup], now: float) -> None:
        """Give the only worker that may run these tasks some of them, whatever its agent has for others."""
        for agent in [agent for group in groups for agent in group.agents]:
            slot = slot_named(agent, worker)
            assert slot is not None
            room = _room_at_worker(agent, slot, queue.deepest)
            while room > 0 and queue.count > 0 and self._work_left > 0:
                tasks = self._ready.take(queue, min(room, TAKEN_MAX))
                if not tasks:
                    # Those that are left are held back by the limit of their group.
                    break
                room -= len(tasks)
                agent.pinned.setdefault(slot, []).extend(tasks)
                self._assign(agent, tasks, now)
            self._agents.reinsert(agent)

    def _keep_from_moving(self, planned: AgentRecord, tasks: list[Task], now: float) -> list[Task]:
        """Assign those of `tasks` that read large objects to agents that have these; return the rest."""
        rest = []
        for task in tasks:
            graph, objects = task.graph, task.objects
            if graph is not None and not graph.holders:
                graph = None
            if graph is None and not objects:
                rest.append(task)
                continue
            places = task.options.client.places
            held: Counter[AgentRecord] = (
                Counter() if graph is None else graph.inputs_held(task.number - graph.first_number)
            )
            if objects:
                places.count_held(objects, held)
            agents = [
                agent
                for agent in held
                if agent is not planned
                and self._agents.by_peer.get(agent.peer) is agent
                and task.options.signature <= agent.capability_names
            ]
            index = self._policy.better_agent(
                AgentFigures(held[planned], planned.units + len(rest), planned.slots, planned.spare),
                [_figures(agent, held[agent]) for agent in agents],
                self._ready.shares.of(task.options.client.id).task_seconds,
                # One that was given back has waited there in vain.
                is_last_reader=not (objects or task.attempt or graph is None)
                and graph.is_last_reader(task.number - graph.first_number),
            )
            chosen = planned if index is None else agents[index]
            if graph is not None:
                graph.note_reader(task.number - graph.first_number, chosen)
            if objects:
                places.note_reader(objects, chosen)
            if index is None:
                rest.append(task)
            else:
                self._assign(chosen, [task], now)
                self._agents.reinsert(chosen)
        return rest

    def _assign(self, agent: AgentRecord, tasks: list[Task], now: float) -> None:
        if (len(tasks) > 1 or tasks[0].graph is not None) and agent.hello.takes_chains:
            tasks = self._with_chains(agent, tasks, now)
        for options, group in self._lifecycle.assign(agent, tasks).items():
            self._work_left -= ASSIGNMENT_WORK + len(group)
            self._dispatch.send(agent, options, group, now)

    def _with_chains(self, agent: AgentRecord, tasks: list[Task], now: float) -> list[Task]:
        """Return `tasks`, which are about to be assigned, each with the graph rows that may go with it behind it."""
        extended: list[Task] = []
        for task in tasks:
            extended.append(task)
            graph = task.graph
            options = task.options
            if graph is None or options.asks is not None or (options.signature and named_worker(options.signature)):
                # What is asked for concerns each row by itself: one that runs again must find none behind it. And an agent
                # takes no chains for one worker.
                continue
            if self._groups is not None and self._groups.is_limited(task):
                # Each row counts against the limit.
                continue
            rows = graph.release_behind(task.number - graph.first_number)
            if rows:
                behind = self._lifecycle.enter_rows(graph, rows, task.options, now)
                self._lifecycle.link(agent, [task, *behind])
                extended += behind
        return extended


def _deepest(queue: SignatureQueue) -> int:
    return queue.deepest


def _room_at_worker(agent: AgentRecord, slot: int, depth: int) -> int:
    """Return how many more tasks a worker gets that ask for it: a worker's share of what its agent wants, one at least.

    That one also where the worker has only tasks that are less deep: they may be waiting for it.
    """
    if agent.draining or agent.capacity <= 0:
        return 0
    held = 0
    for own, tasks in agent.pinned.items():
        # An agent wants as many more as it has of such tasks.
        agent.pinned[own] = still = [task for task in tasks if task.agent is agent]
        held += len(still)
    there = agent.pinned.get(slot, ())
    room = (agent.capacity - held) // agent.slots - len(there)
    return room if room > 0 or any(task.options.depth >= depth for task in there) else 1


def forget_ended(agent: AgentRecord) -> None:
    """Forget tasks that have left the agent: with each, its arguments and all of its client would stay in memory."""
    if agent.newcomers:
        agent.newcomers = [task for task in agent.newcomers if task.agent is agent]
    if agent.pinned:
        there = {slot: [task for task in tasks if task.agent is agent] for slot, tasks in agent.pinned.items()}
        agent.pinned = {slot: tasks for slot, tasks in there.items() if tasks}


def _has_counted(agent: AgentRecord, slot: int, depth: int) -> bool:
    """Whether a worker has a task with counted resources, of this depth or deeper: another would wait for it."""
    agent.pinned[slot] = still = [task for task in agent.pinned.get(slot, ()) if task.agent is agent]
    return any(task.options.amounts and task.options.depth >= depth for task in still)


def _open_agents(groups: Iterable[AgentGroup]) -> list[AgentRecord]:
    return [agent for group in groups for agent in group.agents if not agent.draining]


def can_serve(queue: SignatureQueue, agents: AgentPool, resources: ResourceRules[AgentRecord]) -> bool:
    """Whether an agent is connected that could run the tasks of a queue, if nothing else ran."""
    groups = agents.groups_for(queue.signature)
    if not queue.amounts:
        return bool(groups)
    return resources.can_serve(queue.amounts, (agent for group in groups for agent in group.agents))


def _makes_objects(task: Task) -> bool:
    return task.graph is not None and task.function in task.graph.makers


def _figures(agent: AgentRecord, held_bytes: int) -> AgentFigures:
    is_open = not agent.draining and agent.capacity > 0
    return AgentFigures(held_bytes, agent.units, agent.slots, agent.spare, is_open)


def _room_for_newcomers(agent: AgentRecord) -> int:
    if agent.draining or agent.capacity <= agent.slots:
        return 0
    if agent.newcomers:
        agent.newcomers = [task for task in agent.newcomers if task.agent is agent]
    return max(agent.slots, agent.capacity // 2) - len(agent.newcomers)
