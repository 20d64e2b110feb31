"""The cluster as monitor messages describe it. All tables have a limit, so memory does not grow with time."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass

from scaler_protocol.monitoring.timeline import start_times
from scaler_protocol.wire.messages import (
    NO_SLOT,
    NO_WORKER,
    ClientStatus,
    MonitorEvents,
    MonitorFailures,
    MonitorGraph,
    MonitorLog,
    MonitorSnapshot,
    TaskEvent,
)
from scaler_ui.model.bars import FAILED, Bar, BarStore, Lane
from scaler_ui.model.client_use import ClientUse
from scaler_ui.model.error_groups import ErrorGroups
from scaler_ui.model.failures import FailedTask, read_error, status_name
from scaler_ui.model.functions import FunctionTable, Took
from scaler_ui.model.graph_book import GraphBook
from scaler_ui.model.history import History
from scaler_ui.model.rates import ProgressTable
from scaler_ui.model.tasks import FINISHED, STATES, TaskRow, TaskTable
from scaler_ui.model.worker_history import WorkerHistory

MonitorMessage = MonitorSnapshot | MonitorEvents | MonitorFailures | MonitorLog | MonitorGraph

_MICROSECONDS = 1e-6

# Plain numbers, as they arrive. Comparing with members of an enumeration takes several times as long.
_SUBMITTED, _ASSIGNED, _RETURNED = int(TaskEvent.SUBMITTED), int(TaskEvent.ASSIGNED), int(TaskEvent.RETURNED)
_SUCCESS = int(TaskEvent.SUCCESS)

_MADE_NAME = re.compile(r"(client|nested)\|([^|]*)\|(\d+)")

GONE_CLIENTS_MAX = 200
HOSTS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the model."""

    samples: int = 3_600
    """Snapshots; one comes each second, so this is an hour."""
    tasks: int = 20_000
    bars: int = 100_000
    failures: int = 1_000
    log_lines: int = 2_000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the scheduler logged. `level` is as in Python's logging."""

    number: int
    at: float
    level: int
    text: str


def shown_name(client: ClientStatus) -> str:
    """Return what a client is called: inside a task as the client that it works for."""
    if client.nested and client.parent_name:
        return f"{readable_name(client.parent_name)} (nested)"
    return readable_name(client.name)


def readable_name(name: str) -> str:
    """Return a name for people. A client without one is called "client|desk|812" on the wire, here "desk (pid 812)"."""
    parts = _MADE_NAME.fullmatch(name)
    return name if parts is None else f"{parts[2]} (pid {parts[3]}{', nested' if parts[1] == 'nested' else ''})"


class ClusterModel:
    """The view model. `accept` takes the messages of the monitor streams."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits if limits is not None else Limits()
        self.snapshot: MonitorSnapshot | None = None
        self.snapshot_at = 0.0
        """When the last snapshot came, on the clock of `accept`."""
        self.restarts = 0
        """How many times a new scheduler process has taken the place of another."""
        self.missed_messages = 0
        self.omitted_events = 0
        """Task events that the scheduler left out since this monitor connected, because there were too many."""
        self.stride = 1
        """Events come only for tasks whose number is a multiple of this."""
        self.history = History(self.limits.samples)
        self.tasks = TaskTable(self.limits.tasks)
        self.bars = BarStore(self.limits.bars)
        self.failures: deque[FailedTask] = deque(maxlen=self.limits.failures)
        self.graph_book = GraphBook()
        self.failure_count = 0
        """The number of the last failure."""
        self.worker_history = WorkerHistory()
        self.client_use = ClientUse()
        self.error_groups = ErrorGroups()
        self.functions = FunctionTable()
        self.client_progress: ProgressTable[bytes] = ProgressTable()
        self.function_progress: ProgressTable[str] = ProgressTable()
        self.log_lines: deque[LogLine] = deque(maxlen=self.limits.log_lines)
        self.log_count = 0
        """The number of the last log line, counted over all schedulers."""
        self.since = 0.0
        """When the first snapshot came, Unix time; 0: none has come."""
        self.version = 0
        """Changes with every accepted message."""
        self._incarnation = b""
        self._log_seen = 0
        self._sequences: dict[type[MonitorMessage], int] = {}
        self._client_names: dict[bytes, str] = {}
        self._hosts: dict[str, str] = {}
        self.hosts_seen = 0
        """Changes when an agent comes that was not seen on its host."""

    def accept(self, message: MonitorMessage, now: float) -> None:
        """Take in one message of the monitor streams, at `now` on the reader's clock, in seconds."""
        if message.incarnation != self._incarnation:
            self._begin(message.incarnation)
        self.version += 1
        if isinstance(message, MonitorSnapshot):
            self._count_missed(message)
            self._accept_snapshot(message, now)
        elif isinstance(message, MonitorEvents):
            self._count_missed(message)
            self._accept_events(message)
        elif isinstance(message, MonitorFailures):
            self._accept_failures(message)
        elif isinstance(message, MonitorGraph):
            self.graph_book.accept(message)
        else:
            self._accept_log(message)

    def client_name(self, client: bytes) -> str:
        """Return a client's name; the beginning of its id if it was never seen."""
        return self._client_names.get(client, client[:4].hex())

    def host_of(self, agent: str) -> str:
        """Return the host that an agent is on, or was on; the agent's own name if it was never seen."""
        return self._hosts.get(agent, agent)

    def worker_name(self, lane: Lane) -> str:
        """Return the name of a lane's worker."""
        return self.worker_names().get(lane, lane.agent if lane.slot < 0 else f"{lane.agent} #{lane.slot}")

    def worker_names(self) -> dict[Lane, str]:
        """Return the names of all connected workers by lane. No two are the same."""
        names: dict[Lane, str] = {}
        slots: dict[str, int] = {}
        for worker in self.snapshot.workers if self.snapshot is not None else ():
            slot = slots.get(worker.agent, 0)
            slots[worker.agent] = slot + 1
            names[Lane(worker.agent, slot)] = worker.name
        # Two agents on one machine may have workers of the same name.
        shared = {name for name, count in Counter(names.values()).items() if count > 1}
        return {lane: f"{name} ({lane.agent})" if name in shared else name for lane, name in names.items()}

    def _begin(self, incarnation: bytes) -> None:
        """Note a new scheduler process. Unfinished tasks are announced to it again; history and finished tasks stay."""
        if self._incarnation:
            self.restarts += 1
        self._incarnation = incarnation
        self._sequences.clear()
        self._log_seen = 0
        self.failure_count = 0
        self.stride = 1
        self.tasks.forget(list(self.tasks.unfinished))

    def _count_missed(self, message: MonitorSnapshot | MonitorEvents) -> None:
        last = self._sequences.get(type(message))
        if last is not None:
            self.missed_messages += max(0, message.sequence - last - 1)
        self._sequences[type(message)] = message.sequence

    def _accept_snapshot(self, snapshot: MonitorSnapshot, now: float) -> None:
        before = self.snapshot
        self.snapshot = snapshot
        self.snapshot_at = now
        self.since = self.since or snapshot.time_seconds
        self.history.add(snapshot)
        self.worker_history.accept(snapshot)
        self.client_use.accept(snapshot)
        self._update_progress(snapshot)
        # Agents that have left stay, because their tasks are still shown.
        for agent in snapshot.agents:
            if self._hosts.get(agent.name) != agent.hostname:
                self._hosts[agent.name] = agent.hostname
                self.hosts_seen += 1
        for name in list(self._hosts)[: max(0, len(self._hosts) - HOSTS_MAX)]:
            del self._hosts[name]
        present = {client.incarnation: shown_name(client) for client in snapshot.clients}
        # Keep the names of the clients that left last, because their tasks are still shown.
        gone = [(client, name) for client, name in self._client_names.items() if client not in present]
        self._client_names = {**dict(gone[-GONE_CLIENTS_MAX:]), **present}
        if before is not None and before.incarnation == snapshot.incarnation:
            left = {client.incarnation for client in before.clients} - present.keys()
            if left:
                self._end_tasks_of(left, snapshot.time_seconds)

    def _update_progress(self, snapshot: MonitorSnapshot) -> None:
        self.client_progress.update(
            snapshot.time_seconds,
            {
                client.incarnation: (client.finished + client.failed, client.waiting + client.running)
                for client in snapshot.clients
            },
        )
        left = {counter.name: counter.count for counter in snapshot.functions}
        done = {one.name: one.ended + one.canceled for one in self.functions.all()}
        self.function_progress.update(
            snapshot.time_seconds, {name: (done.get(name, 0), left.get(name, 0)) for name in left.keys() | done.keys()}
        )

    def _end_tasks_of(self, clients: set[bytes], at: float) -> None:
        """Drop the unfinished tasks of clients that have left. There are no events for them."""
        for row in list(self.tasks.unfinished):
            if row.client in clients:
                self.tasks.enter(row, "canceled")
                row.ended_at = at

    def _accept_events(self, events: MonitorEvents) -> None:
        self.omitted_events += events.dropped
        finished: list[tuple[TaskRow, int, float]] = []
        capabilities = events.capabilities
        slots = events.slots
        notes, labels, tags = events.notes, events.label_table, events.tag_table
        resources, resource_table = events.resources, events.resource_table
        functions, workers, clients = events.function_table, events.worker_table, events.client_table
        columns = zip(
            events.states,
            events.time_seconds,
            events.clients,
            events.numbers,
            events.functions,
            events.workers,
            strict=True,
        )
        for index, (state, at, client, number, function, worker) in enumerate(columns):
            capability = events.capability_table[capabilities[index]] if len(capabilities) else ""
            row = self.tasks.row(clients[client], number, functions[function], capability)
            if len(notes):
                row.label, row.tags = labels[notes[index]], tags[notes[index]]
            if state < _SUCCESS and row.state in FINISHED:
                # The task was announced again after a restart, or its number was used before: start its record again.
                row.attempts = 0
                row.ended_at = 0.0
            self.tasks.enter(row, STATES[state] if state < len(STATES) else "submitted")
            if state == _SUBMITTED:
                row.submitted_at = at
                row.resources = resource_table[resources[index]] if len(resources) else ""
                continue
            if worker != NO_WORKER:
                row.agent = workers[worker]
            if state == _ASSIGNED:
                row.assigned_at = at
                row.attempts += 1
            elif row.state in FINISHED:
                slot = slots[index] if len(slots) else NO_SLOT
                row.slot = -1 if slot == NO_SLOT else slot
                row.ended_at = at
                row.duration_s = events.durations[index] * _MICROSECONDS
                row.read_s = events.read_times[index] * _MICROSECONDS if len(events.read_times) else 0.0
                row.write_s = events.write_times[index] * _MICROSECONDS if len(events.write_times) else 0.0
                began = at - row.duration_s
                waited = max(0.0, began - row.submitted_at) if row.submitted_at and row.assigned_at else None
                took = Took(row.duration_s, waited, row.read_s, row.write_s)
                self.functions.add(row.function, state, at, took, max(1, events.stride))
                if row.agent and (row.duration_s or row.slot >= 0):
                    finished.append((row, state, at))
                if row.slot >= 0:
                    self.worker_history.note_ended(Lane(row.agent, row.slot), max(1, events.stride))
            elif state == _RETURNED:
                row.agent = ""
                pause_s = events.durations[index] * _MICROSECONDS
                row.paused_until = at + pause_s
                if not pause_s:
                    # The task did not begin there.
                    row.attempts = max(0, row.attempts - 1)
        self._add_bars(finished)
        if events.stride > self.stride:
            # There will be no further events for tasks that are left out from now on.
            self.tasks.forget([row for row in self.tasks.unfinished if row.number % events.stride])
        self.stride = max(1, events.stride)

    def _add_bars(self, finished: list[tuple[TaskRow, int, float]]) -> None:
        lanes = [Lane(row.agent, row.slot) for row, _, _ in finished]
        # Not across clients: a task may run beside the tasks it has submitted, and end with them.
        ended = [
            ((lane, row.client) if lane.slot >= 0 else None, at, row.duration_s)
            for lane, (row, _, at) in zip(lanes, finished, strict=True)
        ]
        for (row, state, at), lane, start in zip(finished, lanes, start_times(ended), strict=True):
            duration_s = row.duration_s
            if state == FAILED and not duration_s and row.assigned_at:
                # Its process died, so nobody measured it. It began when it was assigned, or when the one before it ended.
                start = min(at, max(row.assigned_at, self.bars.last_end(lane)))
                duration_s = at - start
            self.bars.add(
                Bar(
                    start,
                    duration_s,
                    lane,
                    row.function,
                    row.capabilities,
                    row.client,
                    row.number,
                    state,
                    row.label,
                )
            )

    def _accept_failures(self, message: MonitorFailures) -> None:
        payloads = message.payloads.split()
        for index, number in enumerate(range(message.first_number, message.first_number + len(payloads))):
            if number <= self.failure_count:
                # Sent again because another monitor has connected.
                continue
            status = message.statuses[index]
            failure = FailedTask(
                number,
                message.time_seconds[index],
                message.clients[index],
                message.numbers[index],
                message.attempts[index],
                status_name(status),
                message.functions[index],
                message.workers[index],
                message.durations[index] * _MICROSECONDS,
                read_error(status, payloads[index]),
                message.items[index] if len(message.items) else 0,
                message.labels[index] if message.labels else "",
                message.tags[index] if message.tags else "",
            )
            self.failures.append(failure)
            self.error_groups.add(failure)
            self.failure_count = number

    def _accept_log(self, message: MonitorLog) -> None:
        for index, text in enumerate(message.texts):
            number = message.first_number + index
            if number <= self._log_seen:
                continue
            self._log_seen = number
            self.log_count += 1
            self.log_lines.append(LogLine(self.log_count, message.time_seconds[index], message.levels[index], text))
