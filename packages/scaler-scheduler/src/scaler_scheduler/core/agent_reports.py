"""What agents report: results, tasks given back, tasks held since before, what tasks write, how much they want."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scaler_protocol.errors import SessionError
from scaler_protocol.runtime.resources import ResourcesError, parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_lists import portions_of
from scaler_scheduler.core.answers import Answers
from scaler_scheduler.core.departures import Departures
from scaler_scheduler.core.events import RelayedPeer
from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graphs import Graph
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task, TaskState
from scaler_scheduler.core.recovery import Claim
from scaler_scheduler.core.scaling import Scaling
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.state import SchedulerState

_DROPPED = TaskState.DROPPED


class AgentReports:
    """One handler for each kind of message that only agents may send, and their heartbeats."""

    def __init__(
        self,
        state: SchedulerState,
        lifecycle: TaskLifecycle,
        answers: Answers,
        departures: Departures,
        scaling: Scaling | None,
    ) -> None:
        self._config = state.config
        self._clients = state.clients
        self._agents = state.agents
        self._functions = state.functions
        self._recovery = state.recovery
        self._lost_attempts = state.lost_attempts
        self._monitor = state.monitor
        self._outbox = state.outbox
        self._marks = state.marks
        self._ready = state.ready
        self._groups = state.groups
        self._resources = state.resources
        self._lifecycle = lifecycle
        self._answers = answers
        self._departures = departures
        self._scaling = scaling
        self.handlers: Mapping[type[Any], Handler[AgentRecord]] = {
            m.ResultBatch: self._on_result_batch,
            m.TaskReturn: self._on_task_return,
            m.Inventory: self._on_inventory,
            m.GrantsHeld: self._on_grants_held,
            m.GrantsFreed: self._on_grants_freed,
            m.ClientGone: self._on_client_gone,
            m.Drain: self._on_drain,
            m.Output: self._on_output,
            m.TaskProgress: self._on_progress,
            m.ChunkFailures: self._on_chunk_failures,
            m.Relay: self._on_relay,
        }

    def on_heartbeat(self, agent: AgentRecord, heartbeat: m.Heartbeat) -> None:
        """Keep what the agent says of its workers."""
        if not heartbeat.processor_states:
            return
        agent.heartbeat = heartbeat
        if agent.capacity != heartbeat.capacity:
            agent.capacity = heartbeat.capacity
            self._agents.changed(agent)
            self._marks.placement_due = True

    def _on_result_batch(self, agent: AgentRecord, batch: m.ResultBatch, now: float) -> None:
        if batch.capacity:
            agent.capacity = batch.capacity
        if agent.resources.granted:
            self._release(agent, batch.client, batch.numbers, batch.attempts)
        self._agents.changed(agent)
        self._marks.placement_due = True
        client = self._clients.get(batch.client)
        if client is None:
            unread = self._recovery.keep_result(agent, batch, now + self._config.client_timeout_seconds)
            if unread:
                self._outbox.to_store(m.ObjectDelete(0, batch.client, tuple(unread)))
            return
        # Only who waits takes turns.
        take_turns = self._ready.count > 0
        tasks = self._lifecycle.finish_successes(agent, client, batch)
        if tasks is None:
            held = self._answers.finish(agent, client, batch, now)
            if (take_turns or self._groups is not None) and batch.durations:
                # Of tasks that the agent did not have, it could say what it likes.
                durations = [batch.durations[row] for row in held]
                self._ready.shares.observe(client.id, durations)
                if self._groups is not None:
                    self._groups.of[client.id].charge(durations)
            return
        if take_turns:
            self._ready.shares.observe(client.id, batch.durations)
        if self._groups is not None:
            self._groups.of[client.id].charge(batch.durations)
        if self._scaling is not None:
            self._scaling.observe(tasks, batch.durations)
        if self._monitor.listening:
            self._monitor.record(
                m.TaskEvent.SUCCESS,
                tasks,
                batch.numbers,
                agent.name,
                now,
                batch.durations,
                batch.slots,
                (batch.read_times, batch.write_times),
            )
        if client.recent is not None:
            client.recent.note(batch)
        self._outbox.send(client, batch)

    def _on_task_return(self, agent: AgentRecord, message: m.TaskReturn, now: float) -> None:
        self._agents.changed(agent)
        # Rows behind others in their chain wait for these again: the room that they leave is for whatever is ready.
        self._marks.placement_due = True
        self._recovery.withdraw_claims(message.client, message.numbers, message.attempts, agent)
        if agent.resources.granted:
            self._release(agent, message.client, message.numbers, message.attempts)
        client = self._clients.get(message.client)
        if client is None:
            return
        returned = []
        for number, attempt in zip(message.numbers, message.attempts, strict=False):
            task = client.tasks.get(number)
            if task is None or task.agent is not agent or task.attempt != attempt:
                continue
            self._lifecycle.unassign(task)
            returned.append(task)
        wanted = []
        for task in returned:
            if not self._lifecycle.is_unwanted(task):
                wanted.append(task)
            elif task.state is not _DROPPED:
                self._answers.answer_unwanted(task, now)
        # What needed a cancelled one has ended with it.
        returned = [task for task in wanted if task.state is not _DROPPED]
        if self._monitor.listening:
            self._monitor.record(m.TaskEvent.RETURNED, returned, [task.number for task in returned], agent.name, now)
        for task in reversed(returned):
            self._lifecycle.requeue(task)

    def _release(self, agent: AgentRecord, client: bytes, numbers: Iterable[int], attempts: Iterable[int]) -> None:
        """Tasks have left an agent: what they had is free, whatever else becomes of them."""
        for number, attempt in zip(numbers, attempts, strict=False):
            self._resources.release(agent, (client, number), attempt)

    def _on_grants_held(self, agent: AgentRecord, message: m.GrantsHeld, now: float) -> None:
        """An agent in a new session says which tasks have counted resources there."""
        resources = self._resources
        for client, number, attempt, depth, amounts, devices, left in zip(
            message.clients,
            message.numbers,
            message.attempts,
            message.depths,
            message.amounts,
            message.devices,
            message.left,
            strict=True,
        ):
            try:
                parsed = parse_amounts(amounts)
            except ResourcesError:
                raise SessionError("it says that tasks have amounts that cannot be read") from None
            names = tuple(devices.split(",")) if devices else ()
            if not agent.resources.devices.keys() >= set(names):
                raise SessionError("it says that tasks have devices that it has not")
            resources.grant(agent, (client, number), parsed, names, attempt, depth)
            if left:
                resources.leave(agent, client)
        resources.note_known(agent)
        self._marks.placement_due = True

    def _on_grants_freed(self, agent: AgentRecord, message: m.GrantsFreed, now: float) -> None:
        self._resources.free(agent, message.client)
        self._marks.placement_due = True

    def _on_inventory(self, agent: AgentRecord, message: m.Inventory, now: float) -> None:
        """An agent in a new session says what it holds: adopt what is still wanted, stop the rest."""
        client = self._clients.get(message.client)
        unwanted_numbers: list[int] = []
        unwanted_attempts: list[int] = []
        withdrawn: dict[int, int] = {}
        for number, attempt in zip(message.numbers, message.attempts, strict=True):
            task = client.tasks.get(number) if client is not None else None
            graph = client.graph_of(number) if client is not None else None
            links = None if client is None or client.links is None or not client.links.knows(number) else client.links
            known = task is not None or graph is not None or links is not None
            is_held = isinstance(graph, GraphArrival) and graph.is_reannounced
            if client is None or is_held or (not known and self._answers.may_still_announce(client, now)):
                deadline = (
                    now + self._config.client_timeout_seconds
                    if client is None
                    else self._answers.announcement_deadline(client)
                )
                if self._recovery.claim(message.client, number, Claim(agent, attempt), deadline):
                    continue
            elif task is not None and self._may_claim(agent, task, graph, attempt):
                self._lifecycle.claim(task, agent, attempt)
                if number in task.options.client.withdrawn:
                    withdrawn[number] = attempt
                continue
            if client is not None:
                self._lifecycle.note_refused_attempt(client, number, attempt)
            unwanted_numbers.append(number)
            unwanted_attempts.append(attempt)
        if unwanted_numbers:
            for portion in portions_of(m.TaskCancel(message.client, unwanted_numbers, unwanted_attempts)):
                self._outbox.send(agent, portion)
        if withdrawn:
            cancel = m.TaskCancel(message.client, list(withdrawn), list(withdrawn.values()), waiting_only=True)
            for portion in portions_of(cancel):
                self._outbox.send(agent, portion)
        # The agent knows this client's functions from before.
        agent.note_functions(message.client)

    def _may_claim(
        self, agent: AgentRecord, task: Task, graph: Graph[AgentRecord] | GraphArrival | None, attempt: int
    ) -> bool:
        """Whether a task that waits for an agent can be held by this one already.

        Either this scheduler gave it the task. Or an earlier scheduler may have: then the client has announced it again.
        """
        if task.agent is not None:
            return False
        is_reannounced = graph.is_reannounced if graph is not None else task.options.flags & m.TaskFlag.REANNOUNCED
        before = graph.attempts_before if isinstance(graph, Graph) else 0
        if is_reannounced and (task.attempt in (0, before) or attempt > task.attempt):
            return True
        return task.attempt == attempt and self._lost_attempts.held(agent, task.options.client.id, task.number, attempt)

    def _on_client_gone(self, agent: AgentRecord, message: m.ClientGone, now: float) -> None:
        client = self._clients.get(message.client)
        # Only the agent a client is relayed by can say so.
        if client is not None and client.peer == RelayedPeer(agent.peer, client.id):
            self._departures.remove(client, "it ended", now, counted=False)

    def _on_drain(self, agent: AgentRecord, message: m.Drain, now: float) -> None:
        self._agents.drain(agent)

    def _on_output(self, agent: AgentRecord, message: m.Output, now: float) -> None:
        client = self._clients.get(message.client)
        if client is not None and self._has_task(agent, client, message.number):
            self._outbox.send_plain(client, message)

    def _on_progress(self, agent: AgentRecord, message: m.TaskProgress, now: float) -> None:
        client = self._clients.get(message.client)
        if client is not None and self._has_task(agent, client, message.number):
            task = client.tasks.get(message.number)
            if task is not None:
                self._monitor.progress.note(message, task.attempt, now)
            self._outbox.send_plain(client, message)

    def _has_task(self, agent: AgentRecord, client: ClientRecord, number: int) -> bool:
        """Whether a task that says something is the agent's."""
        task = client.tasks.get(number)
        # After a restart, a task may speak before its client has announced it again.
        return (task is not None and task.agent is agent) or self._recovery.has_claimed(client.id, number, agent)

    def _on_chunk_failures(self, agent: AgentRecord, message: m.ChunkFailures, now: float) -> None:
        client = self._clients.get(message.client)
        task = client.tasks.get(message.number) if client is not None else None
        if client is None or task is None or task.agent is not agent or task.attempt != message.attempt:
            return
        if not message.count:
            self._monitor.note_short_form(task, message.payload)
            return
        client.failed_item_count += message.count
        name = self._functions.name(task.function)
        self._monitor.note_chunk_failures(task, message.count, message.payload, agent.name, name, now)

    def _on_relay(self, agent: AgentRecord, message: m.Relay, now: float) -> None:
        """A sign of life, no more: the shell hands the relayed message over as an event of its own."""
