"""Ready tasks to agents, waiting tasks away from busy ones, permission to submit to clients.

How much an agent gets is the policies' arithmetic; who runs what is recorded here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import carried_columns
from scaler_protocol.wire.columns import NO_ITEMS, Packed
from scaler_scheduler.core.agents import AgentGroup, AgentRecord, Names
from scaler_scheduler.core.ready import SignatureQueue
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.tasks import Chain, Task, TaskOptions, TaskState
from scaler_scheduler.policy.balancing import Load, tasks_to_recall
from scaler_scheduler.policy.locality import Host, better_host
from scaler_scheduler.policy.placement import share_of

_ASSIGNED = TaskState.ASSIGNED

# An enum's operators cost more than what they are used for here.
_REANNOUNCED = int(m.TaskFlag.REANNOUNCED)

CREDIT_LAPSE_SECONDS = 2.0
"""Permissions to submit that nobody has used for so long no longer keep others waiting."""


class Placement:
    """Works on the tables of `SchedulerState`, once per drained batch of events."""

    def __init__(self, state: SchedulerState) -> None:
        self.config = state.config
        self.clients = state.clients
        self.agents = state.agents
        self.ready = state.ready
        self.functions = state.functions
        self.monitor = state.monitor
        self.outbox = state.outbox
        self.marks = state.marks
        self.state = state
        self._unevenness = 0

    def place_ready(self, now: float) -> None:
        self.marks.credit_due = self.config.waiting_tasks_max >= 0
        if not self.ready.count:
            # What has changed at agents is looked at when there is something for them.
            return
        agents = self.agents
        agents.refresh()
        lone = self.ready.take_lone()
        if lone is not None:
            if self.place_lone(lone, now):
                return
            self.ready.add(lone)
        for queue in self.ready.non_empty():
            groups = agents.groups_for(queue.signature)
            if groups:
                queue.unservable_since = None
                self.place_signature(queue, groups, now)
            elif queue.unservable_since is None:
                queue.unservable_since = now

    def place_lone(self, task: Task, now: float) -> bool:
        """Assign the only ready task, where that is simple: no graph, no queue, nothing to share. What latency consists of."""
        if task.graph is not None:
            return False
        for group in self.agents.groups_for(task.options.signature):
            agent = group.least_loaded()
            if agent is not None:
                self.assign(agent, [task], now)
                # Counted in the next pass, with what its result changes.
                self.agents.changed(agent)
                return True
        return False

    def place_signature(self, queue: SignatureQueue, groups: list[AgentGroup], now: float) -> None:
        total_slots = total_assigned = 0
        for group in groups:
            total_slots += group.slots
            total_assigned += group.assigned
        for group in groups:
            while queue.count > 0:
                agent = group.least_loaded()
                if agent is None:
                    break
                assigned, spare = len(agent.tasks), agent.spare
                share = share_of(queue.count, assigned, total_assigned, total_slots, agent.slots, spare)
                tasks = self.ready.take(queue, share)
                if not tasks:
                    break
                before = len(tasks)
                tasks = self.keep_from_moving(agent, tasks, now)
                total_assigned += before - len(tasks)
                if tasks:
                    self.assign(agent, tasks, now)
                    total_assigned += len(agent.tasks) - assigned
                self.agents.reinsert(agent)

    def keep_from_moving(self, planned: AgentRecord, tasks: list[Task], now: float) -> list[Task]:
        """Assign those of `tasks` that read large objects to hosts that have these; return the rest."""
        rest = []
        for task in tasks:
            graph = task.graph
            if graph is None or not graph.holders:
                rest.append(task)
                continue
            row = task.number - graph.first_number
            held = graph.inputs_held(row)
            agents = [
                agent
                for agent in held
                if agent is not planned
                and self.agents.by_peer.get(agent.peer) is agent
                and task.options.signature <= agent.capability_names
            ]
            index = better_host(
                Host(held[planned], planned.units + len(rest), planned.slots, planned.spare),
                [Host(held[agent], agent.units, agent.slots, agent.spare) for agent in agents],
            )
            if index is None:
                rest.append(task)
                graph.is_read_at(row, planned)
            else:
                self.assign(agents[index], [task], now)
                self.agents.reinsert(agents[index])
                graph.is_read_at(row, agents[index])
        return rest

    def assign(self, agent: AgentRecord, tasks: list[Task], now: float) -> None:
        held = agent.tasks
        if (len(tasks) > 1 or tasks[0].graph is not None) and agent.hello.takes_chains:
            tasks = self.with_chains(agent, tasks, now)
        groups: dict[TaskOptions, list[Task]] = {}
        for task in tasks:
            task.state = _ASSIGNED
            task.agent = agent
            task.attempt += 1
            held[task] = None
            options = task.options
            group = groups.get(options)
            if group is None:
                groups[options] = [task]
            else:
                group.append(task)
        for options, group in groups.items():
            options.client.assigned_count += len(group)
            self.send_tasks(agent, options, group, now)

    def with_chains(self, agent: AgentRecord, tasks: list[Task], now: float) -> list[Task]:
        """Return `tasks`, which are about to be assigned, each with the graph rows that may go with it behind it."""
        together: list[Task] = []
        for task in tasks:
            together.append(task)
            graph = task.graph
            if graph is None:
                continue
            behind = graph.release_behind(task.number - graph.first_number)
            if behind:
                self.state.enter_rows(task.options.client, behind, now)
                chain = Chain(1 + len(behind))
                for link in (task, *behind):
                    link.chain = chain
                agent.behind += len(behind)
                together += behind
        return together

    def send_tasks(self, agent: AgentRecord, options: TaskOptions, tasks: list[Task], now: float) -> None:
        """One batch of tasks that share their options, after the functions they need."""
        if len(tasks) == 1 and self.send_plain_task(agent, options, tasks[0], now):
            return
        table: dict[bytes, int] = {}
        indexes = [table.setdefault(task.function, len(table)) for task in tasks]
        functions = tuple(table)
        needed = (*functions, options.serializer) if options.serializer else functions
        self.define_functions(agent, options.client.id, needed)
        positions: list[int] = []
        objects: list[bytes] = []
        input_positions: list[int] = []
        inputs: list[bytes] = []
        sources: list[int] = []
        chain_ends: list[int] = []
        if any(task.chain is not None for task in tasks):
            chain_ends = [
                end
                for end in range(1, len(tasks))
                if tasks[end].chain is None or tasks[end].chain is not tasks[end - 1].chain
            ]
            chain_ends.append(len(tasks))
        if any(task.objects or task.graph is not None for task in tasks):
            place = {task.number: position for position, task in enumerate(tasks)} if chain_ends else {}
            for position, task in enumerate(tasks):
                positions.extend([position] * len(task.objects))
                objects.extend(task.objects)
                graph = task.graph
                if graph is not None:
                    for dependency in graph.dependencies_of(task.number - graph.first_number):
                        input_positions.append(position)
                        result = graph.results.get(dependency)
                        if result is None:
                            # It is in this batch, in the same chain.
                            sources.extend([0] * (len(inputs) - len(sources)))
                            sources.append(position - place[graph.first_number + dependency])
                            inputs.append(b"")
                            continue
                        inputs.append(result.payload)
                        positions.extend([position] * len(result.objects))
                        objects.extend(result.objects)
        batch = m.TaskBatch(
            client=options.client.id,
            numbers=[task.number for task in tasks],
            functions=functions,
            payloads=Packed.of([task.payload for task in tasks]),
            attempts=[task.attempt & 0xFFFF for task in tasks],
            function_indexes=indexes if len(table) > 1 else (),
            depth=options.depth,
            kind=options.kind,
            flags=options.flags & ~m.TaskFlag.REANNOUNCED,
            capabilities=options.capabilities,
            serializer=options.serializer,
            object_positions=positions,
            objects=tuple(objects),
            input_positions=input_positions,
            inputs=Packed.of(inputs),
            input_sources=sources + [0] * (len(inputs) - len(sources)) if sources else (),
            chain_ends=chain_ends,
            **carried_columns([task.carried for task in tasks]),
        )
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.ASSIGNED, tasks, batch.numbers, agent.name, now)
        self.outbox.send(agent, batch)

    def send_plain_task(self, agent: AgentRecord, options: TaskOptions, task: Task, now: float) -> bool:
        """Send a single task without anything special to an agent that knows its function: what latency consists of.

        Returns False, and does nothing, where it is not like that.
        """
        client_id, function = options.client.id, task.function
        known = agent.functions.get(client_id)
        if (
            known is None
            or function not in known
            or options.serializer
            or task.objects
            or task.carried
            or task.graph is not None
        ):
            return False
        batch = m.TaskBatch(
            client_id,
            (task.number,),
            (function,),
            Packed((len(task.payload),), task.payload),
            (task.attempt & 0xFFFF,),
            (),
            options.depth,
            options.kind,
            options.flags & ~_REANNOUNCED,
            options.capabilities,
            b"",
            (),
            (),
            (),
            NO_ITEMS,
        )
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.ASSIGNED, (task,), batch.numbers, agent.name, now)
        self.outbox.send(agent, batch)
        return True

    def define_functions(self, agent: AgentRecord, client_id: bytes, needed: Sequence[bytes]) -> None:
        known = agent.functions.setdefault(client_id, set())
        missing = [function_id for function_id in needed if function_id not in known]
        if missing:
            known.update(missing)
            bodies = Packed.of([self.functions.body(function_id) for function_id in missing])
            names = tuple(self.functions.name(function_id) for function_id in missing)
            self.outbox.send(agent, m.FunctionDefine(client_id, tuple(missing), bodies, names))

    def lapse_credits(self, now: float) -> None:
        """Let nobody keep others waiting by permissions it does not use (its tasks were cancelled, say).

        It may use them later all the same: the limit is then exceeded by as many.
        """
        if not any(client.credit_wanted for client in self.clients.values()):
            return
        for client in self.clients.values():
            if client.credit_granted and now >= client.credit_moved_at + CREDIT_LAPSE_SECONDS:
                client.credit_granted = 0
                self.marks.credit_due = True

    def grant_credits(self, now: float) -> None:
        """Let clients submit as many tasks as may still wait, in turn.

        Tasks that nobody can run do not count against the limit of all: a client that waits for workers nobody has would keep
        the others waiting with it. They count against the same limit for their own client.
        """
        limit = max(1, self.config.waiting_tasks_max)
        asking = [client for client in self.clients.values() if client.credit_wanted > 0]
        if not asking:
            return
        waiting = sum(queue.count for queue in self.ready.non_empty() if queue.unservable_since is None)
        free = limit - waiting - sum(client.credit_granted for client in self.clients.values())
        for position, client in enumerate(asking):
            own_free = limit - (len(client.tasks) - client.assigned_count) - client.credit_granted
            grant = min(client.credit_wanted, own_free, -(-free // (len(asking) - position)))
            if grant <= 0:
                continue
            free -= grant
            client.credit_wanted -= grant
            client.credit_granted += grant
            client.credit_moved_at = now
            self.outbox.send(client, m.CreditGrant(grant))

    def balance(self) -> None:
        """Recall tasks that have not started from busy agents for idle ones, when that is needed several looks in a row."""
        agents = [agent for agent in self.agents.by_peer.values() if not agent.draining]
        idle = {agent.capability_names for agent in agents if agent.units < agent.slots}
        if any(queue.signature <= names for queue in self.ready.non_empty() for names in idle):
            # Idle agents get what is ready first, where they can run it.
            self._unevenness = 0
            return
        recalls = tasks_to_recall([Load(agent.units, agent.slots, _movable(agent, idle)) for agent in agents])
        if not any(recalls):
            self._unevenness = 0
            return
        self._unevenness += 1
        if self._unevenness < self.config.load_balance_trigger_times:
            return
        self._unevenness = 0
        for agent, count in zip(agents, recalls, strict=True):
            if count:
                self.outbox.send(agent, m.TaskRecall(count))


def _movable(agent: AgentRecord, idle: Set[Names]) -> int:
    """Return how many of a busy agent's tasks an idle agent has the capabilities for; `idle` holds the names these offer.

    Recalling other tasks would be in vain: they would come back to agents like this one.
    """
    if agent.units <= agent.slots:
        return 0
    if idle and all(agent.capability_names <= names for names in idle):
        return len(agent.tasks)
    return sum(1 for task in agent.tasks if any(task.options.signature <= names for names in idle))
