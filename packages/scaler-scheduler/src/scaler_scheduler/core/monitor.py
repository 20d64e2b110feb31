"""What monitors are told. Counting costs a few additions per batch. Events are kept only while a monitor wants them.

Task events are kept as *runs*: references to the columns of a batch that arrived or left, not one value per task. When
there are more than monitors can use, whole tasks are left out (see `stride`), so that the cost per task stays a fraction of
what the task itself costs.
"""

from __future__ import annotations

from array import array
from collections import Counter as Count
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from scaler_protocol.payloads.framing import FAILURE_KEPT_BYTES_MAX
from scaler_protocol.runtime.resources import NO_AMOUNTS, Amounts, format_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import EMPTY, Column, Packed
from scaler_scheduler.core.events import RelayedPeer
from scaler_scheduler.core.functions import FunctionRegistry
from scaler_scheduler.core.graph_log import GraphLog
from scaler_scheduler.core.groups import Groups
from scaler_scheduler.core.object_listing import with_tasks
from scaler_scheduler.core.progress import ProgressTable
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Note, Task
from scaler_scheduler.core.tallies import ClientTallies, Tallies, given_name, owner_of

EVENTS_PER_SECOND = 2_000
"""Largest number of task events that monitors are told per second. If there are more, tasks are left out."""

EVENTS_AT_ONCE = 2_000
"""Events of one second after which the stride grows within that second. This bounds what a burst costs monitors."""

EVENTS_MAX = 50_000
"""Largest number of events kept between two publications."""

FAILURES_KEPT = 200
"""Failures kept for monitors. With at most `FAILURE_KEPT_BYTES_MAX` each they need a few megabytes."""

FAILED_FUNCTIONS_MAX = 1_000
GRAPHS_MAX = 1_000


Overheads = tuple[Column, Column]
"""Microseconds in which workers read what tasks need, and wrote their results, in two columns as those of `ResultBatch`."""

NO_OVERHEADS: Overheads = ((), ())


class _Run(NamedTuple):
    """Something that happened to several tasks of one client at once. The columns are those of the message, by reference."""

    at: float
    state: m.TaskEvent
    client: bytes
    numbers: Column
    functions: Sequence[bytes]
    agent: str
    capabilities: m.Capabilities
    durations: Column
    slots: Column
    overheads: Overheads
    notes: Sequence[Note | None]
    """One per task; empty where the client has given none of its tasks any."""
    amounts: Amounts
    """The counted resources that each of them asks for, when they are submitted."""


class _Failure(NamedTuple):
    at: float
    client: bytes
    number: int
    attempt: int
    status: int
    function: str
    agent: str
    duration: int
    payload: bytes
    note: Note | None
    items: int = 0
    """Failed items of a map chunk; 0: the task itself failed."""


class StoreFigures(NamedTuple):
    """What the object storage server holds. `owners`: objects and bytes by client."""

    object_count: int = 0
    used_bytes: int = 0
    limit_bytes: int = 0
    owners: dict[bytes, tuple[int, int]] = {}
    objects: tuple[m.StoredObjectStatus, ...] = ()
    """The largest ones."""

    @classmethod
    def of(cls, status: m.StoreStatus) -> StoreFigures:
        """Return the figures in an answer of the object storage server."""
        figures = zip(status.owner_objects, status.owner_bytes, strict=True)
        owners = dict(zip(status.owners, figures, strict=True))
        return cls(status.object_count, status.used_bytes, status.limit_bytes, owners, status.objects)


class Monitor:
    """Counts and failures, and task events while `listening`."""

    def __init__(self, incarnation: bytes, groups: Groups | None = None) -> None:
        self._groups = groups
        self.listening = False
        """Whether a monitor wants task events."""
        self.sent: Count[str] = Count()
        self.received: Count[str] = Count()
        self.success_count = 0
        self.failed_count = 0
        self.canceled_count = 0
        self.failed_item_count = 0
        self.stale_count = 0
        """Results that were dropped because their task was answered, cancelled or assigned to another agent."""
        self.omitted_count = 0
        """Events that were left out since the start."""
        self.labels = Tallies()
        """Tasks by label."""
        self.graphs = GraphLog()
        """When graphs began and ended."""
        self.store = StoreFigures()
        self.scaling_strategy = ""
        self.standby = False
        """Whether another scheduler is first."""
        self.progress = ProgressTable()
        """How far running tasks say that they are."""
        self.scheduler_address = ""
        self.protected = False
        self.scaling_events: tuple[m.ScalingEvent, ...] = ()
        self.adapters: tuple[m.AdapterStatus, ...] = ()
        """What the scheduler knows of each worker adapter, as of the last snapshot."""
        self._short_forms: dict[tuple[bytes, int, int], bytes] = {}
        """Short forms of failures that have not arrived yet, by client, task number and attempt."""
        self._incarnation = incarnation
        self._snapshots = 0
        self._messages = 0
        self._runs: list[_Run] = []
        self._rows = 0
        self._omitted = 0
        self._stride = self._reported_stride = 1
        self._offered = 0
        self._measured_at = 0.0
        self._failures: deque[_Failure] = deque(maxlen=FAILURES_KEPT)
        self._failures_unreported = 0
        self._failures_total = 0
        self._failed_functions: Count[str] = Count()
        self._client_tallies = ClientTallies()
        self._used: dict[bytes, float] = {}
        """Core seconds that ended tasks of each client took while somebody listened to events."""

    # --- what happened

    def record(
        self,
        state: m.TaskEvent,
        tasks: Sequence[Task],
        numbers: Column,
        agent: str,
        now: float,
        durations: Column = (),
        slots: Column = (),
        overheads: Overheads = NO_OVERHEADS,
    ) -> None:
        """Keep an event of tasks that share their options; `numbers` are the tasks' numbers. Call only while `listening`.

        `durations`: see `MonitorEvents`.
        """
        if not tasks:
            return
        options = tasks[0].options
        count = len(numbers)
        if len(durations) and state is not m.TaskEvent.RETURNED:
            self._used[options.client.id] = self._used.get(options.client.id, 0.0) + sum(durations) * 1e-6
        self._offered += count
        while self._offered > self._stride * EVENTS_AT_ONCE:
            self._stride *= 2
        if self._stride > 1 or self._rows + count > EVENTS_MAX:
            rows = self._chosen_rows(numbers)
            self._omitted += count - len(rows)
            if not rows:
                return
            tasks = [tasks[row] for row in rows]
            numbers = [numbers[row] for row in rows]
            durations = [durations[row] for row in rows] if len(durations) else ()
            slots = [slots[row] for row in rows] if len(slots) else ()
            read, written = overheads
            overheads = (
                [read[row] for row in rows] if len(read) else (),
                [written[row] for row in rows] if len(written) else (),
            )
        functions = [task.function for task in tasks]
        notes = [task.options.note for task in tasks] if options.client.has_notes else ()
        amounts = options.amounts if state is m.TaskEvent.SUBMITTED else NO_AMOUNTS
        self._rows += len(numbers)
        self._runs.append(
            _Run(
                now,
                state,
                options.client.id,
                numbers,
                functions,
                agent,
                options.capabilities,
                durations,
                slots,
                overheads,
                notes,
                amounts,
            )
        )

    def _chosen_rows(self, numbers: Column) -> Sequence[int]:
        room = EVENTS_MAX - self._rows
        if room <= 0:
            return ()
        stride = self._stride
        count = len(numbers)
        # The numbers are nearly always consecutive. Then the rows can be computed instead of searched for.
        rows: Sequence[int] = range(-numbers[0] % stride, count, stride)
        if numbers[-1] - numbers[0] != count - 1 or any(numbers[row] % stride for row in rows):
            rows = [row for row, number in enumerate(numbers) if not number % stride]
        return rows[:room]

    def note_failure(
        self, task: Task, status: m.Status, payload: bytes, agent: str, duration: int, name: str, now: float
    ) -> None:
        """Keep a failed task's answer for monitors, including those that connect later."""
        self._keep_failure(task, status, payload, agent, duration, name, now, 0)
        if name in self._failed_functions or len(self._failed_functions) < FAILED_FUNCTIONS_MAX:
            self._failed_functions[name] += 1

    def note_chunk_failures(self, task: Task, items: int, payload: bytes, agent: str, name: str, now: float) -> None:
        """Keep that items of a map chunk failed, the first of them with `payload`."""
        self.failed_item_count += items
        self._keep_failure(task, m.Status.FAILED, payload, agent, 0, name, now, items)

    def _keep_failure(
        self, task: Task, status: m.Status, payload: bytes, agent: str, duration: int, name: str, now: float, items: int
    ) -> None:
        client_id, attempt = task.options.client.id, min(attempts_begun(task, status), 0xFFFF)
        short_form = None
        if self._short_forms and not items:
            short_form = self._short_forms.pop((client_id, task.number, task.attempt), None)
        kept = payload if short_form is None else short_form
        if len(kept) > FAILURE_KEPT_BYTES_MAX:
            kept = b""
        self._failures.append(
            _Failure(
                now,
                client_id,
                task.number,
                attempt,
                int(status),
                name,
                agent,
                duration,
                kept,
                task.options.note,
                items,
            )
        )
        self._failures_unreported += 1
        self._failures_total += 1

    def note_short_form(self, task: Task, payload: bytes) -> None:
        """Keep the short form of a failure that is too large to be kept and will arrive next."""
        if len(self._short_forms) == FAILURES_KEPT:
            # Its task ended in another way.
            del self._short_forms[next(iter(self._short_forms))]
        self._short_forms[task.options.client.id, task.number, task.attempt] = payload

    def drop_client(self, client: ClientRecord, clients: dict[bytes, ClientRecord]) -> None:
        """A client is gone. Keep how its tasks ended; forget what was kept for its failures, which will not arrive."""
        for key in [key for key in self._short_forms if key[0] == client.id]:
            del self._short_forms[key]
        self._client_tallies.drop(client, clients)
        used, owner = self._used.pop(client.id, 0.0), owner_of(client, clients)
        if used and owner is not None and owner is not client:
            self._used[owner.id] = self._used.get(owner.id, 0.0) + used

    # --- what is told

    def take_events(self, functions: FunctionRegistry, now: float, unix_offset: float) -> m.MonitorEvents | None:
        """Return the events since the last call as one message, or None if there are none."""
        self._adapt_stride(now)
        if not self._runs and not self._omitted and self._stride == self._reported_stride:
            return None
        self._reported_stride = self._stride
        clients: dict[bytes, int] = {}
        workers: dict[str, int] = {}
        names: dict[bytes, int] = {}
        capabilities: dict[str, int] = {}
        times = array("d")
        columns = {name: array(typecode) for name, typecode in zip("cnswfdlk", "HQBHHQHH", strict=True)}
        notes: dict[tuple[str, str], int] = {("", ""): 0}
        noted = array("H")
        has_notes = any(run.notes for run in self._runs)
        resources: dict[str, int] = {"": 0}
        asked = array("H")
        has_resources = any(run.amounts for run in self._runs)
        overheads = (array("Q"), array("Q")) if any(any(map(len, run.overheads)) for run in self._runs) else ()
        for run in self._runs:
            rows = len(run.numbers)
            times.extend(array("d", [run.at + unix_offset]) * rows)
            columns["n"].extend(run.numbers)
            columns["d"].extend(run.durations if len(run.durations) else array("Q", [0]) * rows)
            columns["l"].extend(run.slots if len(run.slots) else array("H", [m.NO_SLOT]) * rows)
            for whole, part in zip(overheads, run.overheads, strict=False):
                whole.extend(part if len(part) else array("Q", [0]) * rows)
            columns["f"].extend([names.setdefault(function, len(names)) & 0xFFFF for function in run.functions])
            worker = workers.setdefault(run.agent, len(workers)) if run.agent else m.NO_WORKER
            capability = capabilities.setdefault(_capability_text(run.capabilities), len(capabilities))
            client = clients.setdefault(run.client, len(clients))
            if has_notes:
                of_rows = [("", "") if note is None else note[:2] for note in run.notes] or [("", "")] * rows
                noted.extend([notes.setdefault(note, len(notes)) & 0xFFFF for note in of_rows])
            if has_resources:
                text = format_amounts(run.amounts)
                asked.extend(array("H", [resources.setdefault(text, len(resources)) & 0xFFFF]) * rows)
            for column, value in (("c", client), ("s", int(run.state)), ("w", worker), ("k", capability)):
                columns[column].extend(array(columns[column].typecode, [value & 0xFFFF]) * rows)
        self._messages += 1
        message = m.MonitorEvents(
            sequence=self._messages,
            time_seconds=times,
            clients=columns["c"],
            client_table=tuple(clients),
            numbers=columns["n"],
            states=columns["s"],
            workers=columns["w"],
            worker_table=tuple(workers),
            functions=columns["f"],
            function_table=tuple(functions.name(function) for function in names),
            durations=columns["d"],
            dropped=self._omitted,
            slots=columns["l"],
            stride=self._stride,
            incarnation=self._incarnation,
            capabilities=columns["k"],
            capability_table=tuple(capabilities),
            notes=noted,
            label_table=tuple(label for label, _ in notes) if has_notes else (),
            tag_table=tuple(tags for _, tags in notes) if has_notes else (),
            resources=asked,
            resource_table=tuple(resources) if has_resources else (),
            read_times=overheads[0] if overheads else EMPTY,
            write_times=overheads[1] if overheads else EMPTY,
        )
        self.omitted_count += self._omitted
        self.forget_events()
        return message

    def forget_events(self) -> None:
        """Drop events that were not published."""
        self._runs.clear()
        self._rows = 0
        self._omitted = 0

    def _adapt_stride(self, now: float) -> None:
        """Choose which tasks are reported from now on: those whose number is a multiple of a power of two."""
        elapsed = now - self._measured_at
        if elapsed < 1.0:
            return
        per_second = self._offered / elapsed
        self._measured_at = now
        self._offered = 0
        stride = 1
        while per_second > stride * EVENTS_PER_SECOND:
            stride *= 2
        self._stride = stride

    def failures(self, unix_offset: float, *, all_kept: bool) -> m.MonitorFailures | None:
        """Return the failures since the last call, or all that are kept; None if there are none."""
        total = self._failures_total
        count = len(self._failures) if all_kept else min(self._failures_unreported, len(self._failures))
        self._failures_unreported = 0
        if not count:
            return None
        rows = list(islice(self._failures, len(self._failures) - count, None))
        has_notes = any(row.note is not None for row in rows)
        return m.MonitorFailures(
            incarnation=self._incarnation,
            first_number=total - count + 1,
            time_seconds=[row.at + unix_offset for row in rows],
            clients=tuple(row.client for row in rows),
            numbers=[row.number for row in rows],
            attempts=[row.attempt for row in rows],
            statuses=[row.status for row in rows],
            functions=tuple(row.function for row in rows),
            workers=tuple(row.agent for row in rows),
            durations=[row.duration for row in rows],
            payloads=Packed.of([row.payload for row in rows]),
            items=[row.items for row in rows],
            labels=tuple("" if row.note is None else row.note.label for row in rows) if has_notes else (),
            tags=tuple("" if row.note is None else row.note.tags for row in rows) if has_notes else (),
        )

    def snapshot(
        self,
        now: float,
        unix_time: float,
        started_at: float,
        cpu_percent: float,
        rss_bytes: int,
        agents: Sequence[AgentRecord],
        by_id: dict[bytes, ClientRecord],
        functions: FunctionRegistry,
        jobs: tuple[m.JobStatus, ...] = (),
        job_count: int = 0,
        resource_waits: tuple[m.ResourceWait, ...] = (),
    ) -> m.MonitorSnapshot:
        """Return everything that monitors show, as of now."""
        self._snapshots += 1
        clients = list(by_id.values())
        owners = [owner_of(client, by_id) for client in clients]
        running_now = running_by_client(agents)
        client_statuses = tuple(
            self._client_status(client, owner, now, running_now.get(client.id, (0, 0.0)))
            for client, owner in zip(clients, owners, strict=True)
        )
        counted = [
            (given_name(owner), client, status.waiting + status.running)
            for owner, client, status in zip(owners, clients, client_statuses, strict=True)
        ]
        running = sum(client.running for client in client_statuses)
        graphs = ((client, graph) for client in clients for graph in client.graphs)
        return m.MonitorSnapshot(
            sequence=self._snapshots,
            time_seconds=unix_time,
            incarnation=self._incarnation,
            cpu_percent=cpu_percent,
            rss_bytes=rss_bytes,
            task_states=(
                m.Counter("unassigned", sum(client.waiting for client in client_statuses)),
                m.Counter("running", running),
                m.Counter("success", self.success_count),
                m.Counter("failed", self.failed_count),
                m.Counter("canceled", self.canceled_count),
            ),
            sent=_counters(self.sent),
            received=_counters(self.received),
            workers=tuple(status for agent in agents for status in _worker_statuses(agent, functions, now)),
            agents=tuple(_agent_status(agent, functions, now) for agent in agents),
            clients=client_statuses,
            functions=_counters(functions.counts_by_name()),
            failed_functions=_counters(self._failed_functions),
            failed_items=self.failed_item_count,
            graphs=tuple(self.graphs.unfinished(*one, unix_time - now) for one in islice(graphs, GRAPHS_MAX)),
            object_count=self.store.object_count,
            object_bytes=self.store.used_bytes,
            object_limit_bytes=self.store.limit_bytes,
            objects=with_tasks(self.store.objects, clients),
            started_seconds=unix_time - (now - started_at),
            stale_results=self.stale_count,
            events_omitted=self.omitted_count,
            scaling_strategy=self.scaling_strategy,
            standby=self.standby,
            scheduler_address=self.scheduler_address,
            protected=self.protected,
            scaling_events=self.scaling_events,
            adapters=self.adapters,
            client_names=self._client_tallies.with_connected(counted),
            labels=self.labels.all(),
            groups=() if self._groups is None else self._groups.statuses(),
            progress=self.progress.statuses(by_id, functions, now),
            jobs=jobs,
            job_count=job_count,
            ended_graphs=self.graphs.ended(unix_time - now),
            resource_waits=resource_waits,
        )

    def _client_status(
        self, client: ClientRecord, owner: ClientRecord | None, now: float, running_now: tuple[int, float]
    ) -> m.ClientStatus:
        busy_workers, running_seconds = running_now
        waiting_rows = sum(graph.waiting for graph in client.all_graphs())
        waiting_rows += sum(arrival.rows_here for arrival in client.arriving)
        object_count, object_bytes = self.store.owners.get(client.id, (0, 0))
        return m.ClientStatus(
            name=client.name,
            incarnation=client.id,
            hostname=client.hello.hostname,
            pid=client.hello.pid,
            waiting=len(client.tasks) - client.assigned_count + waiting_rows,
            running=client.assigned_count,
            finished=client.finished_count,
            failed=client.failed_count,
            last_seen_seconds=max(0.0, now - client.last_seen),
            nested=isinstance(client.peer, RelayedPeer) and bool(client.peer.agent),
            graphs=len(client.graphs) + len(client.arriving),
            object_count=object_count,
            object_bytes=object_bytes,
            connected_seconds=max(0.0, now - client.connected_at),
            failed_items=client.failed_item_count,
            parent=owner.id if owner is not None and owner is not client else client.parent,
            parent_name=owner.name if owner is not None and owner is not client else "",
            group="" if self._groups is None else self._groups.of[client.id].name,
            user=client.hello.user,
            used_seconds=self._used.get(client.id, 0.0) + running_seconds,
            busy_workers=busy_workers,
            waiting_for_tasks=waiting_rows,
        )


def running_by_client(agents: Iterable[AgentRecord]) -> dict[bytes, tuple[int, float]]:
    """Return for each client how many workers run its tasks, and for how long these have run, in seconds.

    Agents say the number and the function of what each worker ran last. A task that has ended since is taken for one of the
    same function that its agent has got, as far as there are any.
    """
    found: dict[bytes, tuple[int, float]] = {}
    for agent in agents:
        beat = agent.heartbeat
        slots = [
            (number, function, milliseconds, state == m.ProcessorState.RUNNING)
            for number, function, milliseconds, state in zip(
                beat.processor_tasks,
                beat.processor_functions,
                beat.processor_milliseconds,
                beat.processor_states,
                strict=False,
            )
            if any(function)
        ]
        if not slots:
            continue
        numbers, functions = {slot[0] for slot in slots}, {slot[1] for slot in slots}
        by_number: dict[tuple[int, bytes], list[Task]] = {}
        by_function: dict[bytes, list[Task]] = {}
        for task in agent.tasks:
            if task.function not in functions:
                continue
            if task.number in numbers:
                by_number.setdefault((task.number, task.function), []).append(task)
            of_function = by_function.setdefault(task.function, [])
            if len(of_function) < len(slots):
                of_function.append(task)
        for number, function, milliseconds, busy in slots:
            same = by_number.get((number, function))
            others = by_function.get(function)
            task_now = same.pop() if same else None
            client = task_now.options.client.id if task_now else others.pop(0).options.client.id if others else b""
            if client:
                workers, seconds = found.get(client, (0, 0.0))
                found[client] = workers + busy, seconds + (milliseconds / 1000 if task_now else 0.0)
    return found


_NEVER_BEGUN = frozenset({m.Status.NO_WORKER, m.Status.NOT_RUN, m.Status.UNREADABLE, m.Status.GROUP_LIMIT})
_COUNTED = frozenset({m.Status.PROCESSOR_DIED, m.Status.WORKER_DIED})


def attempts_begun(task: Task, status: m.Status) -> int:
    """Return how often a task that ended with `status` was begun. It may have been assigned more often."""
    return task.failures + (status not in _NEVER_BEGUN and status not in _COUNTED)


def _counters(counts: dict[str, int]) -> tuple[m.Counter, ...]:
    return tuple(m.Counter(name, count) for name, count in sorted(counts.items()))


def _capability_text(capabilities: m.Capabilities) -> str:
    return ",".join(name if value == -1 else f"{name}={value}" for name, value in capabilities)


def _worker_statuses(agent: AgentRecord, functions: FunctionRegistry, now: float) -> Iterable[m.WorkerStatus]:
    """Return one row per worker. An agent's tasks are shown with the workers that run them, the others spread evenly."""
    beat = agent.heartbeat
    names = agent.hello.worker_names or (agent.hello.name,)
    count = len(names)
    capabilities = _capability_text(agent.hello.capabilities)
    assigned, queued = len(agent.tasks), min(beat.queued, len(agent.tasks))
    limit = agent.hello.queue_limit or agent.capacity
    silent = max(0.0, now - agent.last_seen)
    busy = [index < len(beat.processor_functions) and any(beat.processor_functions[index]) for index in range(count)]
    working = _spread(assigned - queued, sorted(range(count), key=lambda index: not busy[index]))
    waiting = _spread(queued, range(count))
    environments = beat.processor_environments.decode("utf-8", "replace").split("\n")
    for index, name in enumerate(names):

        def of(column: Sequence[Any], default: Any = 0, index: int = index) -> Any:
            return column[index] if index < len(column) else default

        sent = working[index] + waiting[index]
        runs = busy[index]
        yield m.WorkerStatus(
            name=name,
            agent=agent.hello.name,
            hostname=agent.hello.hostname,
            pid=of(beat.processor_pids),
            state=of(beat.processor_states, m.ProcessorState.STARTING),
            agent_cpu_percent=beat.cpu_percent,
            agent_rss_bytes=beat.rss_bytes,
            cpu_percent=of(beat.processor_cpu_percents) / 10,
            rss_bytes=of(beat.processor_rss_bytes),
            rss_free_bytes=beat.rss_free_bytes,
            free=max(0, limit - sent),
            sent=sent,
            queued=waiting[index],
            capabilities=capabilities,
            latency_seconds=beat.latency_seconds,
            last_seen_seconds=silent,
            task=of(beat.processor_tasks) if runs else 0,
            function=functions.name(beat.processor_functions[index]) if runs else "",
            task_seconds=of(beat.processor_milliseconds) / 1000 if runs else 0.0,
            environment=of(environments, ""),
        )


def _spread(total: int, order: Sequence[int]) -> list[int]:
    """Return equal shares of a number by index. The rest goes to the first indexes in `order`."""
    shares = [total // len(order)] * len(order)
    for index in order[: total % len(order)]:
        shares[index] += 1
    return shares


def _agent_status(agent: AgentRecord, functions: FunctionRegistry, now: float) -> m.AgentStatus:
    beat = agent.heartbeat
    counts: Count[str] = Count()
    for function, count in Count([task.function for task in agent.tasks]).items():
        counts[functions.name(function)] += count
    return m.AgentStatus(
        name=agent.hello.name,
        hostname=agent.hello.hostname,
        pid=agent.hello.pid,
        workers=agent.slots,
        capacity=max(0, agent.capacity),
        assigned=len(agent.tasks),
        queued=min(beat.queued, len(agent.tasks)),
        cpu_percent=beat.cpu_percent,
        rss_bytes=beat.rss_bytes,
        rss_free_bytes=beat.rss_free_bytes,
        latency_seconds=beat.latency_seconds,
        last_seen_seconds=max(0.0, now - agent.last_seen),
        draining=agent.draining,
        capabilities=_capability_text(agent.hello.capabilities),
        functions=_counters(counts),
        incarnation=agent.id,
        resources=format_amounts(agent.resources.amounts.offered),
        resources_used=format_amounts(agent.resources.amounts.used),
        devices=agent.hello.devices,
        software_version=agent.hello.software_version,
        python_version=agent.hello.python_version,
        memory_bytes=agent.hello.memory_bytes,
        processor_limit_bytes=agent.hello.processor_limit_bytes,
    )
