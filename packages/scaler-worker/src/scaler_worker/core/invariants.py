"""What is true of every agent between two events. Checked in tests and after every simulated step."""

from __future__ import annotations

from scaler_protocol.runtime.core import require
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core.grants import check as check_grants
from scaler_worker.core.nesting import Nesting
from scaler_worker.core.slices import TaskSlice
from scaler_worker.core.state import AgentState


def check_invariants(state: AgentState, nesting: Nesting, now: float) -> None:
    """Raise InvariantError unless all the agent's facts agree with each other. Call after `take_effects`."""
    processors, lending, departure = state.processors.by_number, state.lending, state.departure
    held: set[tuple[bytes, int, int]] = set()

    def hold(tasks: TaskSlice, where: str) -> None:
        require(len(tasks) > 0, f"an empty slice in {where}")
        for number, attempt in zip(tasks.numbers, tasks.attempts, strict=True):
            key = (tasks.client, number, attempt)
            require(key not in held, f"task {number} attempt {attempt} is in {where} and somewhere else")
            held.add(key)

    queued = list(state.queue)
    for tasks in queued:
        require(not tasks.abandoned, "the queue holds tasks of a client that is gone")
        require(not tasks.continued(), "the queue holds the rest of a chain")
        hold(tasks, "the queue")
    require(sum(map(len, queued)) == state.queue.count, "the queue's count is wrong")
    require(
        [tasks.depth for tasks in queued] == sorted((tasks.depth for tasks in queued), reverse=True),
        "the queue is not ordered by depth",
    )
    pinned = list(state.pinned)
    for tasks in pinned:
        require(not tasks.abandoned, "tasks of a client that is gone wait for a worker")
        hold(tasks, "the tasks for single workers")
    require(sum(map(len, pinned)) == state.pinned.count, "the count of tasks for single workers is wrong")
    wrong = check_grants(state.offered, state.options.devices, processors.values())
    require(not wrong, wrong)
    for processor in processors.values():
        name = f"processor {processor.number}"
        require(sum(map(len, processor.pipe)) == processor.rows, f"{name}: its row count is wrong")
        require(0 <= processor.slot < state.slots, f"{name}: no such slot {processor.slot}")
        if processor.state in (State.STARTING, State.IDLE):
            require(not processor.rows, f"{name} is {processor.state.name} and has tasks")
        if processor.state is State.RUNNING:
            require(processor.rows > 0, f"{name} runs nothing")
        if processor.state is State.BLOCKED:
            require(processor.rows == 1, f"{name} is blocked and has {processor.rows} tasks")
        next_index = processor.front_index
        for tasks in processor.pipe:
            require(tasks.index >= next_index, f"{name}: its indexes do not ascend")
            next_index = tasks.index + len(tasks)
            if not tasks.abandoned:
                hold(tasks, name)
        require(next_index <= processor.next_index, f"{name}: an index was not given out")
        for client in processor.clients:
            require(
                nesting.processor_of_client.get(client) == processor.number, f"{name}: a client inside is not known"
            )
    parents = lending.parents
    for number, parent in parents.items():
        require(processors.get(number) is parent, f"processor {number} has unfinished work and does not exist")
    for processor in processors.values():
        if processor.state is State.BLOCKED and processor.lent_unasked:
            require(processor.number in parents, f"processor {processor.number} lends unasked and waits for nothing")
    for client, number in nesting.processor_of_client.items():
        require(number in processors and client in processors[number].clients, "a client lives in no processor")
    for result in state.transfers.storing():
        key = (result.client, result.number, result.attempt)
        require(key not in held, f"task {result.number} is being stored and held")
        held.add(key)
    for kind in State:
        count = sum(processor.state is kind for processor in processors.values())
        require(state.processors.counts[kind] == count, f"the count of processors that are {kind.name} is wrong")
    waiting = state.results.task_keys()
    require(len(waiting) == state.results.rows, "the count of results that wait is wrong")
    require(len(waiting) == len(set(waiting)), "a task has two results")
    if departure.leaving:
        require(state.queue.count + state.pinned.count == 0, "an agent that leaves has tasks queued")
    elif not departure.stopped and state.queue.head(lending.closed_depths()) is not None:
        idle = any(processor.state is State.IDLE for processor in processors.values())
        running = sum(processor.state is State.RUNNING for processor in processors.values())
        require(not idle or running >= state.slots, "tasks are queued while a slot and a processor are free")
    if not (departure.leaving or departure.stopped) and now >= lending.due_at():
        free_to_lend = any(processor.rows == 1 for processor in lending.lenders())
        require(
            not free_to_lend or not lending.nested_count(1),
            "nested tasks are queued while every slot is held by a task that could lend it",
        )
