"""The messages in which tasks and the functions they need go to agents."""

from __future__ import annotations

from scaler_protocol.capabilities import is_affine, named_worker, pin_to
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import carried_columns
from scaler_protocol.wire.columns import NO_ITEMS, Packed
from scaler_protocol.wire.plain_task import is_plain
from scaler_protocol.wire.task_lists import portions_of
from scaler_scheduler.core.agents import slot_named
from scaler_scheduler.core.records import AgentRecord, Task, TaskOptions
from scaler_scheduler.core.state import SchedulerState

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Payload bytes in one message, chains apart: what others have for the agent waits no longer than for that."""

# An enum's operators cost more than what they are used for here.
_REANNOUNCED = int(m.TaskFlag.REANNOUNCED)


class Dispatch:
    """Sends assigned tasks, and stops them."""

    def __init__(self, state: SchedulerState) -> None:
        self._functions = state.functions
        self._monitor = state.monitor
        self._outbox = state.outbox

    def cancel(self, agent: AgentRecord, tasks: list[Task], *, waiting_only: bool = False) -> None:
        """Have the agent stop tasks it holds; `waiting_only`: but not those that a worker has begun."""
        by_client: dict[bytes, list[Task]] = {}
        for task in tasks:
            by_client.setdefault(task.options.client.id, []).append(task)
        for client_id, group in by_client.items():
            numbers, attempts = [task.number for task in group], [task.attempt & 0xFFFF for task in group]
            for portion in portions_of(m.TaskCancel(client_id, numbers, attempts, waiting_only)):
                self._outbox.send(agent, portion)

    def send(
        self,
        agent: AgentRecord,
        options: TaskOptions,
        tasks: list[Task],
        now: float,
        granted: str = "",
        devices: str = "",
    ) -> None:
        """One batch of tasks that share their options, after the functions they need.

        `granted`, `devices`: what each has of the host's counted resources.
        """
        if len(tasks) == 1 and self._send_plain_task(agent, options, tasks[0], now):
            return
        table: dict[bytes, int] = {}
        indexes = [table.setdefault(task.function, len(table)) for task in tasks]
        functions = tuple(table)
        needed = (*functions, options.serializer) if options.serializer else functions
        self._define_functions(agent, options, needed)
        payloads = [task.payload for task in tasks]
        if sum(map(len, payloads)) > BATCH_BYTES_MAX and len(tasks) > 1 and all(task.chain is None for task in tasks):
            for part in _parts(tasks):
                self.send(agent, options, part, now, granted, devices)
            return
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
            payloads=Packed.of(payloads),
            attempts=[task.attempt & 0xFFFF for task in tasks],
            function_indexes=indexes if len(table) > 1 else (),
            depth=options.depth,
            kind=options.kind,
            flags=options.flags & ~m.TaskFlag.REANNOUNCED,
            capabilities=_capabilities_at(agent, options) if options.capabilities else (),
            serializer=options.serializer,
            object_positions=positions,
            objects=tuple(objects),
            input_positions=input_positions,
            inputs=Packed.of(inputs),
            input_sources=sources + [0] * (len(inputs) - len(sources)) if sources else (),
            chain_ends=chain_ends,
            options=options.for_agents,
            granted=granted,
            devices=devices,
            **carried_columns([task.carried for task in tasks]),
        )
        if self._monitor.listening:
            self._monitor.record(m.TaskEvent.ASSIGNED, tasks, batch.numbers, agent.name, now)
        self._outbox.send(agent, batch)

    def _send_plain_task(self, agent: AgentRecord, options: TaskOptions, task: Task, now: float) -> bool:
        """Send a single plain task to an agent that knows its function.

        Returns False, and does nothing, if the task is not plain or the agent lacks its function.
        """
        client_id, function = options.client.id, task.function
        known = agent.functions.get(client_id)
        if (
            known is None
            or function not in known
            or options.asks is not None
            or not is_plain(options.serializer, task.objects, task.carried, task.graph)
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
            _capabilities_at(agent, options) if options.capabilities else (),
            b"",
            (),
            (),
            (),
            NO_ITEMS,
        )
        if self._monitor.listening:
            self._monitor.record(m.TaskEvent.ASSIGNED, (task,), batch.numbers, agent.name, now)
        self._outbox.send(agent, batch)
        return True

    def _define_functions(self, agent: AgentRecord, options: TaskOptions, needed: tuple[bytes, ...]) -> None:
        client_id = options.client.id
        missing = agent.note_functions(client_id, needed)
        if missing:
            bodies = Packed.of([self._functions.body(function_id) for function_id in missing])
            names = tuple(self._functions.name(function_id) for function_id in missing)
            self._outbox.send(agent, m.FunctionDefine(client_id, tuple(missing), bodies, names, options.serializer))


def _capabilities_at(agent: AgentRecord, options: TaskOptions) -> m.Capabilities:
    """Return what an agent is told: the slot of the only worker that may run the tasks in place of its name, and no host."""
    capabilities = options.capabilities
    if is_affine(capabilities):
        worker = named_worker(options.signature)
        slot = slot_named(agent, worker) if worker else None
        plain = tuple(pair for pair in capabilities if not pair[0].startswith("@"))
        return plain if slot is None else (*pin_to(agent.id, slot), *plain)
    return capabilities


def _parts(tasks: list[Task]) -> list[list[Task]]:
    """Cut `tasks` into consecutive parts of at most `BATCH_BYTES_MAX` payload bytes, or one task."""
    parts: list[list[Task]] = []
    room = 0
    for task in tasks:
        size = len(task.payload)
        if size > room or not parts:
            parts.append([])
            room = BATCH_BYTES_MAX
        parts[-1].append(task)
        room -= size
    return parts
