"""What is true of every agent between two events. Checked in tests and after every simulated step."""

from __future__ import annotations

from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core.agent import AgentCore
from scaler_worker.core.slices import TaskSlice


class InvariantError(AssertionError):
    """The state of an agent contradicts itself."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise InvariantError(text)


def check_invariants(core: AgentCore) -> None:
    """Raise InvariantError unless all the agent's collections agree with each other. Call after `take_effects`."""
    held: set[tuple[bytes, int, int]] = set()

    def hold(tasks: TaskSlice, where: str) -> None:
        _require(len(tasks) > 0, f"an empty slice in {where}")
        for number, attempt in zip(tasks.numbers, tasks.attempts, strict=True):
            key = (tasks.client, number, attempt)
            _require(key not in held, f"task {number} attempt {attempt} is in {where} and somewhere else")
            held.add(key)

    queued = list(core._queue)
    for tasks in queued:
        _require(not tasks.abandoned, "the queue holds tasks of a client that is gone")
        _require(not tasks.continued(), "the queue holds the rest of a chain")
        hold(tasks, "the queue")
    _require(sum(map(len, queued)) == core._queue.count, "the queue's count is wrong")
    _require(
        [tasks.depth for tasks in queued] == sorted((tasks.depth for tasks in queued), reverse=True),
        "the queue is not ordered by depth",
    )
    for processor in core._processors.values():
        name = f"processor {processor.number}"
        _require(sum(map(len, processor.pipe)) == processor.rows, f"{name}: its row count is wrong")
        _require(0 <= processor.slot < core._slots, f"{name}: no such slot {processor.slot}")
        if processor.state in (State.STARTING, State.IDLE):
            _require(not processor.rows, f"{name} is {processor.state.name} and has tasks")
        if processor.state is State.RUNNING:
            _require(processor.rows > 0, f"{name} runs nothing")
        if processor.state is State.BLOCKED:
            _require(processor.rows == 1, f"{name} is blocked and has {processor.rows} tasks")
        next_index = processor.front_index
        for tasks in processor.pipe:
            _require(tasks.index >= next_index, f"{name}: its indexes do not ascend")
            next_index = tasks.index + len(tasks)
            if not tasks.abandoned:
                hold(tasks, name)
        _require(next_index <= processor.next_index, f"{name}: an index was not given out")
        for client in processor.clients:
            _require(core._homes.get(client) == processor.number, f"{name}: a client inside is not known")
    parents = core._lending.parents
    for number, parent in parents.items():
        _require(core._processors.get(number) is parent, f"processor {number} has unfinished work and does not exist")
    for processor in core._processors.values():
        if processor.state is State.BLOCKED and processor.lent_unasked:
            _require(processor.number in parents, f"processor {processor.number} lends unasked and waits for nothing")
    for client, home in core._homes.items():
        _require(
            home in core._processors and client in core._processors[home].clients, "a client lives in no processor"
        )
    for result in core._transfers.storing():
        key = (result.client, result.number, result.attempt)
        _require(key not in held, f"task {result.number} is being stored and held")
        held.add(key)
    for state in State:
        count = sum(processor.state is state for processor in core._processors.values())
        _require(core._counts[state] == count, f"the count of processors that are {state.name} is wrong")
    waiting = core._results.task_keys()
    _require(len(waiting) == core._results.rows, "the count of results that wait is wrong")
    _require(len(waiting) == len(set(waiting)), "a task has two results")
    if core._leaving is not None:
        _require(core._queue.count == 0, "an agent that leaves has tasks queued")
    elif not core._stopped and core._queue.head(core._lending.closed_depths()) is not None:
        idle = any(processor.state is State.IDLE for processor in core._processors.values())
        running = sum(processor.state is State.RUNNING for processor in core._processors.values())
        _require(not idle or running >= core._slots, "tasks are queued while a slot and a processor are free")
    if core._leaving is None and not core._stopped and core._now >= core._lending.due_at():
        free_to_lend = any(processor.rows == 1 for processor in core._lending.lenders())
        _require(
            not free_to_lend or not core._lending.nested_count(1),
            "nested tasks are queued while every slot is held by a task that could lend it",
        )
