"""What must hold between any two events. Run in test teardown and after every simulated step; never in production."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from scaler_protocol.runtime.core import require
from scaler_protocol.runtime.resources import GPU, ONE, CountedAmounts
from scaler_scheduler.core.graphs import Graph, RowState
from scaler_scheduler.core.jobs.session import is_job
from scaler_scheduler.core.records import AgentRecord, ClientRecord, TaskState
from scaler_scheduler.core.state import SchedulerState

_UNFINISHED = (RowState.WAITING, RowState.RELEASED)


def check_state(state: SchedulerState, held: Container[ClientRecord] = ()) -> None:
    """Raise InvariantError unless every unfinished task has exactly one reason to progress and all indexes agree.

    `held`: clients of which linked tasks wait after a restart.
    """
    _check_tasks(state)
    _check_failures(state, held)
    _check_notes(state)
    _check_agents(state)
    _check_limits(state)
    _check_graphs(state)
    for client_id, client in state.clients.items():
        require(client.id == client_id, "a client is filed under another id")
        is_peer = state.peers.get(client.peer) is client
        require(is_peer or is_job(client), f"client {client.name} is not among the peers")
        assigned = sum(1 for task in client.tasks.values() if task.agent is not None)
        require(
            client.assigned_count == assigned, f"client {client.name}: {client.assigned_count} != {assigned} assigned"
        )
    _check_groups(state)
    state.locks.check_invariants()
    state.timers.check_invariants()
    state.recovery.check_invariants(state.agents.by_peer)
    labels = Counter(
        note.tally.name
        for client in state.clients.values()
        for task in client.tasks.values()
        if (note := task.options.note) is not None and note.tally is not None
    )
    for tally in state.monitor.labels.all():
        counted = labels[tally.name]
        require(tally.unfinished == counted, f"label {tally.name}: {tally.unfinished} counted, {counted} unfinished")
    for record in state.peers.values():
        known = (
            state.agents.by_peer.get(record.peer) if isinstance(record, AgentRecord) else state.clients.get(record.id)
        )
        require(known is record, f"peer {record.hello.name} is in no table")


def _check_groups(state: SchedulerState) -> None:
    groups = state.groups
    if groups is None:
        return
    require(groups.of.keys() == state.clients.keys(), "a client is in no group, or one in a group is gone")
    for group in groups.by_name.values():
        clients = [client for client in state.clients.values() if groups.of[client.id] is group]
        require(set(clients) == group.clients.keys(), f"group {group.name}: its clients differ")
        depths = [task.options.depth for client in clients for task in client.tasks.values() if task.agent is not None]
        require(dict(Counter(depths)) == group.assigned_at_depths(), f"group {group.name}: its assigned tasks differ")


def _check_tasks(state: SchedulerState) -> None:
    queued = [task for queue in state.ready.non_empty() for task in queue.tasks()]
    queued_set = set(queued)
    require(len(queued_set) == len(queued), "a task is queued twice")
    recovering, delayed = state.recovering.keys(), state.timers.delayed.keys()
    require(
        state.ready.count == len(queued_set), f"{state.ready.count} tasks counted as ready, {len(queued_set)} queued"
    )
    for queue in state.ready.non_empty():
        count = len(set(queue.tasks()))
        require(queue.count == count, f"signature {set(queue.signature)}: {queue.count} counted, {count} queued")
    for client in state.clients.values():
        for number, task in client.tasks.items():
            where = f"{task!r} of {client.name}"
            require(task.number == number and task.options.client is client, f"{where} is filed wrongly")
            require((task in queued_set) == (task.state is TaskState.READY), f"{where}: state and queue disagree")
            require((task in recovering) == (task.state is TaskState.RECOVERING), f"{where}: state and list disagree")
            require((task in delayed) == (task.state is TaskState.DELAYED), f"{where}: state and timers disagree")
            require(
                (task.agent is not None) == (task.state is TaskState.ASSIGNED), f"{where}: agent and state disagree"
            )
            require(task.state is not TaskState.DROPPED, f"{where} is dropped and still filed")
            require(task.chain is None or task.agent is not None, f"{where} is in a chain and at no agent")
            require(not task.canceled or task.agent is not None, f"{where} is cancelled and nobody stops it")
            if task.agent is not None:
                require(task in task.agent.tasks, f"{where} is not in its agent's table")
                require(state.agents.by_peer.get(task.agent.peer) is task.agent, f"{where} is at a dead agent")
        require(client.overdue <= client.tasks.keys(), f"{client.name}: deadlines of no task")
    for task in queued_set | recovering | delayed:
        require(task.options.client.tasks.get(task.number) is task, f"{task!r} is queued for nobody")


def _check_failures(state: SchedulerState, held: Container[ClientRecord]) -> None:
    for client in state.clients.values():
        known = client.tasks.keys() | _waiting_rows(client)
        require(client.retried.keys() <= known, f"{client.name}: retries of no task")
        if client in held:
            continue
        # What becomes of their rows is known once they have begun.
        arriving = [range(one.first_number, one.first_number + one.row_count) for one in client.arriving]
        for graph in client.graphs:
            if graph.has_unreleased_roots:
                arriving.append(range(graph.first_number, graph.first_number + graph.row_count))
        for number in client.retried_before:
            is_known = number in known or any(number in numbers for numbers in arriving)
            require(is_known, f"{client.name}: failures before a restart of no task")


def _check_notes(state: SchedulerState) -> None:
    """What is noted of tasks by number must be of those that it is meant for."""
    with_deadline = state.timers.with_deadline()
    functions = Counter(task.function for client in state.clients.values() for task in client.tasks.values())
    require(+state.functions.unfinished == functions, "unfinished tasks are counted wrongly by function")
    require(min(state.functions.unfinished.values(), default=0) >= 0, "fewer than no tasks of a function")
    for client in state.clients.values():
        stopped = {number for number, task in client.tasks.items() if task.canceled}
        require(client.overdue <= stopped, f"{client.name}: a task whose deadline is over is not stopped")
        require(client.reasons.keys() <= stopped, f"{client.name}: reasons for tasks that are not stopped")
        due = with_deadline.get(client.id, set())
        for number, task in client.tasks.items():
            asks = task.options.asks
            # One that runs again was done in time, perhaps.
            runs_again = task.graph is not None and number - task.graph.first_number in task.graph.losses
            if asks is not None and asks.deadline_seconds and not task.canceled and not runs_again:
                require(number in due, f"{task!r} of {client.name} has a deadline that nobody watches")


def _waiting_rows(client: ClientRecord) -> set[int]:
    """Return the numbers of rows that wait for others, some of which have come back."""
    return {graph.first_number + row for graph in client.all_graphs() for row in graph.rows_in(RowState.WAITING)}


def _check_agents(state: SchedulerState) -> None:
    state.agents.refresh()
    for group in state.agents.groups_for(frozenset()):
        held = sum(len(agent.tasks) for agent in group.agents)
        require(group.assigned == held, f"group {set(group.names)}: {group.assigned} counted, {held} assigned")
    for agent in state.agents.by_peer.values():
        for task in agent.tasks:
            require(task.agent is agent, f"{task!r} is in the table of {agent.name}, which it is not assigned to")
            require(task.options.client.tasks.get(task.number) is task, f"{task!r} at {agent.name} belongs to nobody")
        lengths = Counter(task.chain for task in agent.tasks if task.chain is not None)
        for chain, length in lengths.items():
            require(chain.length == length, f"a chain at {agent.name}: {chain.length} counted, {length} assigned")
        _check_grants(agent)
        behind = lengths.total() - len(lengths)
        require(agent.followers == behind, f"{agent.name}: {agent.followers} counted behind others, {behind} are")


def _check_grants(agent: AgentRecord) -> None:
    resources = agent.resources
    amounts = CountedAmounts(resources.amounts.offered)
    devices = dict.fromkeys(resources.devices, 0)
    depths: Counter[int] = Counter()
    for grant in resources.all_grants():
        amounts.take(grant.of_host)
        depths[grant.depth] += 1
        for device in grant.devices:
            devices[device] += min(ONE, dict(grant.of_host)[GPU])
    used = resources.amounts.used
    require(amounts.used == used, f"{agent.name}: {used} counted, {amounts.used} in use")
    require(all(free >= 0 for _, free in amounts.free), f"{agent.name} is oversubscribed")
    require(devices == resources.devices, f"{agent.name}: its devices are counted wrongly")
    require(max(devices.values(), default=0) <= ONE, f"{agent.name}: a device is used by too many tasks")
    require(depths == resources.depths, f"{agent.name}: its tasks with counted resources are counted wrongly")


def _check_limits(state: SchedulerState) -> None:
    limits = state.resources.limits
    amounts = CountedAmounts(limits.offered)
    for agent in state.agents.by_peer.values():
        for grant in agent.resources.all_grants():
            amounts.take(grant.of_cluster)
    require(amounts.used == limits.used, f"cluster: {limits.used} counted, {amounts.used} in use")
    lines = list(state.ready.lines)
    require(len(lines) == len(set(lines)), "tasks with counted resources wait in two places")
    waiting = [queue for queue in state.ready.non_empty() if queue.amounts]
    require(set(lines) == set(waiting), "tasks with counted resources wait in no line")
    require(all(line.count > 0 for line in lines), "a line without tasks is waiting")


def _doomed(graph: Graph[AgentRecord]) -> set[int]:
    """Return the unfinished rows that need one which has failed, directly or not: their turn to end has yet to come."""
    if not graph.failing:
        return set()
    return _with_those_behind(
        graph,
        [
            row
            for state in _UNFINISHED
            for row in graph.rows_in(state)
            if any(graph.states[needed] == RowState.FAILED for needed in graph.dependencies_of(row))
        ],
    )


def _with_those_behind(graph: Graph[AgentRecord], rows: list[int]) -> set[int]:
    """Return these rows, and the unfinished ones that need them."""
    found = set(rows)
    for row in rows:
        behind = {each for each in graph.dependents_of(row) if graph.states[each] in _UNFINISHED} - found
        found |= behind
        rows += behind
    return found


def _ending(graph: Graph[AgentRecord], client: ClientRecord, released: set[int]) -> set[int]:
    """Return the rows that agents were told to stop, and those that need them: what becomes of these follows that end."""
    tasks = ((row, client.tasks.get(graph.first_number + row)) for row in released)
    return _with_those_behind(graph, [row for row, task in tasks if task is not None and task.canceled])


def _check_graphs(state: SchedulerState) -> None:
    for client in state.clients.values():
        for graph in client.all_graphs():
            name = f"graph {graph.first_number} of {client.name}"
            waiting = sum(1 for _ in graph.rows_in(RowState.WAITING))
            released = set(graph.rows_in(RowState.RELEASED))
            doomed = _doomed(graph)
            ending = _ending(graph, client, released)
            require(graph.waiting == waiting, f"{name}: {graph.waiting} counted, {waiting} waiting")
            require(graph.unfinished == waiting + len(released), f"{name}: unfinished rows miscounted")
            for row in released:
                task = client.tasks.get(graph.first_number + row)
                if graph.stands_in(row):
                    where = client.graph_of(row)
                    followed = where is not None and row - where.first_number in where.followed
                    require(followed, f"{name}: row {row} stands in for a row that is not followed")
                    continue
                require(task is not None and task.graph is graph, f"{name}: row {row} is released without a task")
            for row in graph.rows_in(RowState.WAITING):
                open_dependencies = [
                    dependency
                    for dependency in graph.dependencies_of(row)
                    if graph.states[dependency] in (RowState.WAITING, RowState.RELEASED)
                ]
                waits = bool(open_dependencies) or graph.is_unreleased_root(row) or row in doomed
                require(waits, f"{name}: row {row} waits for nothing")
            for row in graph.followed:
                stands_in = client.links is not None and client.links.stands_in(graph.first_number + row)
                require(stands_in, f"{name}: row {row} is followed by nobody")
            for row in graph.rows_in(RowState.RELEASED):
                if graph.stands_in(row) or row in graph.with_inputs:
                    continue
                task = client.tasks[graph.first_number + row]
                in_chain = task.agent is not None and task.chain is not None
                lacking = 0
                for dependency in graph.dependencies_of(row):
                    if graph.states[dependency] == RowState.DONE:
                        require(dependency in graph.results, f"{name}: input {dependency} of row {row} is gone")
                        continue
                    lacking += 1
                    # Handed over behind it: to the same agent, which sees to it that both go on or come back.
                    before = client.tasks.get(graph.first_number + dependency)
                    # Or the result was lost, and the agent may have it; or that row has found an input missing, and this one will
                    # come back.
                    # Or it is cancelled, or needs one that is: what it needed has come back, to wait for others or for an agent,
                    # and word of the end is under way.
                    # Or that row has come back and waits, because the result of one before it was lost: this one comes back too.
                    # Or it has come back and was handed out once more, before word has come that this one was skipped behind it.
                    # Or it waits for its next attempt, and looks then.
                    require(
                        (task.agent is not None and dependency in graph.losses)
                        or (row in ending and (dependency in graph.returned or before is not None))
                        or (in_chain and (dependency in graph.returned or (before is not None and before.attempt > 1)))
                        or row in doomed
                        or task.state is TaskState.DELAYED
                        or (before is not None and before.agent is task.agent is not None and task.chain is not None),
                        f"{name}: row {row} was released before row {dependency} and is not behind it",
                    )
                require(graph.is_behind(row) == (lacking > 0), f"{name}: row {row} has miscounted its predecessors")
            _check_rows(graph, client, name)
            for row in graph.holders:
                require(row in graph.results, f"{name}: agents hold the result of row {row}, which is gone")
            for row in graph.with_inputs:
                require(graph.states[row] == RowState.RELEASED, f"{name}: row {row} has its inputs and is at no agent")
            for row in graph.stopped:
                task = client.tasks.get(graph.first_number + row)
                require(task is not None and task.canceled, f"{name}: row {row} is to stop and is not told so")
            require(graph.given <= graph.results.keys(), f"{name}: results are the client's that are not here")
            for row in graph.returned:
                require(graph.states[row] == RowState.WAITING, f"{name}: row {row} has come back and is not waiting")
                require(graph.first_number + row not in client.tasks, f"{name}: row {row} waits and has a task")


def _check_rows(graph: Graph[AgentRecord], client: ClientRecord, name: str) -> None:
    """Count anew who reads each row's result, and what each row waits for."""
    readers: Counter[int] = Counter()
    known = [row for state in RowState for row in graph.rows_in(state)]
    for row in known:
        state = graph.states[row]
        needs = graph.dependencies_of(row)
        if state in _UNFINISHED:
            missing = sum(1 for needed in needs if graph.states[needed] != RowState.DONE)
            require(
                graph.missing_count(row) == missing, f"{name}: row {row} waits for {missing} rows and counts others"
            )
            if row not in graph.with_inputs:
                readers.update(needs)
        readers[row] += bool(graph.wanted[row]) + (row in graph.followed)
    for row in known:
        if graph.states[row] == RowState.FAILED:
            require(row not in graph.results, f"{name}: row {row} has failed and has a result")
            continue
        count = graph.reader_count(row)
        require(count == readers[row], f"{name}: row {row} has {readers[row]} readers, {count} are counted")
        if graph.states[row] == RowState.DONE:
            is_here = row in graph.results
            require(is_here == (count > 0), f"{name}: row {row} is done, has {count} readers; here: {is_here}")
        else:
            require(row not in graph.results, f"{name}: row {row} is not done and has a result")
