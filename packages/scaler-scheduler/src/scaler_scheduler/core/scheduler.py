"""The scheduler's decisions: who is connected, what was submitted, who runs it, who is answered.

`handle` takes one event. Handlers change state and mark what there is to do; `place` is called once per drained batch of
events and does it: ready tasks to agents, credits to clients. Effects come out in order through `take_effects`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scaler_protocol import messages as m
from scaler_protocol.columns import Packed
from scaler_protocol.errors import SessionError
from scaler_protocol.ids import short
from scaler_protocol.session import Outgoing, Session, message_bytes
from scaler_protocol.version import PROTOCOL_VERSION, SOFTWARE_VERSION
from scaler_protocol.wire import UNSEQUENCED, Envelope
from scaler_scheduler.core.agents import AgentPool, AgentRecord
from scaler_scheduler.core.clients import ClientRecord
from scaler_scheduler.core.config import SchedulerConfig
from scaler_scheduler.core.effects import Effect, Log, Publish, Send, Stop, ToStore
from scaler_scheduler.core.events import (
    Event,
    Incoming,
    Peer,
    PeerUnreachable,
    RelayedPeer,
    StopRequested,
    StoreLost,
    Tick,
)
from scaler_scheduler.core.functions import FunctionRegistry
from scaler_scheduler.core.graphs import Graph, RowResult, RowState
from scaler_scheduler.core.monitor import Monitor
from scaler_scheduler.core.ready import ReadyQueues, SignatureQueue
from scaler_scheduler.core.recovery import Claim, Recovery, result_rows
from scaler_scheduler.core.tasks import Task, TaskOptions, TaskState
from scaler_scheduler.policy.balancing import Load, tasks_to_recall
from scaler_scheduler.policy.placement import share_of

PeerRecord = ClientRecord | AgentRecord

_READY, _ASSIGNED = TaskState.READY, TaskState.ASSIGNED
_RECOVERING, _FORGOTTEN = TaskState.RECOVERING, TaskState.FORGOTTEN

MAINTENANCE_INTERVAL_SECONDS = 0.5
"""How often silence, retention and reports are looked at."""


class SchedulerCore:
    """See the module. Not thread-safe; owned by one shell."""

    def __init__(self, config: SchedulerConfig, now: float) -> None:
        self.config = config
        self.started_at = now
        self.clients: dict[bytes, ClientRecord] = {}
        self.agents = AgentPool()
        self.ready = ReadyQueues()
        self.functions = FunctionRegistry()
        self.recovery = Recovery()
        self.monitor = Monitor(config.incarnation)
        self.recovering: list[Task] = []
        self.stopping = False
        self._peers: dict[Peer, PeerRecord] = {}
        self._effects: list[Effect] = []
        self._placement_due = False
        self._credit_due = False
        self._retained: dict[bytes, float] = {}
        self._unevenness = 0
        self._balance_at = now + config.load_balance_interval
        self._maintenance_at = now + MAINTENANCE_INTERVAL_SECONDS
        self._snapshot_at = now
        self._unix_offset = 0.0
        self._handlers: dict[type[Any], Callable[[Any, Any, float], None]] = {
            m.TaskBatch: self._on_task_batch,
            m.GraphSubmit: self._on_graph_submit,
            m.FunctionDefine: self._on_function_define,
            m.TaskCancel: self._on_task_cancel,
            m.CreditRequest: self._on_credit_request,
            m.Shutdown: self._on_shutdown,
            m.ResultBatch: self._on_result_batch,
            m.TaskReturn: self._on_task_return,
            m.Inventory: self._on_inventory,
            m.ClientGone: self._on_client_gone,
            m.Drain: self._on_drain,
            m.Output: self._on_output,
            m.Relay: self._on_relay,
        }

    # --- the core's interface

    def handle(self, event: Event, now: float) -> None:
        """Take one event in. Never raises for what a peer did: a peer that breaks the rules is given up."""
        if isinstance(event, Incoming):
            try:
                self._on_incoming(event.peer, event.envelope, event.message, now)
            except SessionError as error:
                self._give_up(event.peer, str(error), now)
        elif isinstance(event, Tick):
            self._on_tick(event, now)
        elif isinstance(event, PeerUnreachable):
            self._on_unreachable(event, now)
        elif isinstance(event, StoreLost):
            self._log("warning", f"object storage server: {event.reason}")
        elif isinstance(event, StopRequested):
            self._stop(event.reason)

    def place(self, now: float) -> None:
        """Do what the handlers marked. Once per drained batch of events."""
        if self._placement_due:
            self._placement_due = False
            self._place_ready(now)
        if self._credit_due:
            self._credit_due = False
            self._grant_credits()

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def relay_envelope(self, agent_peer: bytes) -> Envelope | None:
        """Return the envelope for a Relay message to an agent, or None when the agent is gone."""
        agent = self.agents.by_peer.get(agent_peer)
        return None if agent is None else agent.session.plain(m.Heartbeat()).envelope

    def next_deadline(self) -> float:
        """When the next Tick is due."""
        deadline = min(self._maintenance_at, self._balance_at)
        if self.recovering:
            deadline = min(deadline, self.started_at + self.config.recovery_grace)
        if self.monitor.listening:
            deadline = min(deadline, self._snapshot_at)
        return deadline

    # --- peers and sessions

    def _on_incoming(self, peer: Peer, envelope: Envelope, message: m.Message, now: float) -> None:
        kind = type(message)
        self.monitor.received[kind.__name__] += 1
        if kind is m.Hello:
            self._on_hello(peer, envelope, message, now)  # type: ignore[arg-type]
            return
        record = self._peers.get(peer)
        if record is None:
            self._send_outside_session(peer, m.UnknownPeer())
            return
        if envelope.epoch != record.session.epoch:
            return
        record.last_seen = now
        session = record.session
        accepted = session.accept(envelope, now, message_bytes(message))
        if session.gap:
            self._effects.append(Send(peer, session.request_resend(now), m.Heartbeat()))
        if session.resend_wanted:
            self._send_all(peer, session.resend())
        elif session.acknowledge_due:
            self._send_plain(record, m.Heartbeat())
        if not accepted:
            return
        if kind is m.Heartbeat:
            self._on_heartbeat(record, message, now)  # type: ignore[arg-type]
        elif kind is m.Goodbye:
            self._on_goodbye(record, message, now)  # type: ignore[arg-type]
        else:
            handler = self._handlers.get(kind)
            if handler is None:
                raise SessionError(f"a {kind.__name__} is not for the scheduler")
            handler(record, message, now)

    def _on_hello(self, peer: Peer, envelope: Envelope, hello: m.Hello, now: float) -> None:
        refusal = self._refusal(peer, hello)
        if refusal is not None:
            self._log(
                "warning", f"refused {hello.role.name.lower()} {hello.name or short(hello.incarnation)}: {refusal}"
            )
            self._send_outside_session(peer, m.Refused(refusal))
            return
        record = self._peers.get(peer)
        resumed = (
            record is not None
            and hello.scheduler_incarnation == self.config.incarnation
            and record.id == hello.incarnation
            and record.session.epoch == envelope.epoch
        )
        if record is None or not resumed:
            if record is not None:
                self._drop(record, "it started its session anew", now, counted=False)
            record = self._admit(peer, hello, now)
        record.last_seen = now
        session = record.session
        welcome = m.Welcome(
            incarnation=self.config.incarnation,
            resumed=resumed,
            object_storage_address=self.config.object_storage_address,
            monitor_address=self.config.monitor_address,
            heartbeat_seconds=self.config.heartbeat,
            timeout_seconds=self.config.worker_timeout if hello.role is m.Role.AGENT else self.config.client_timeout,
            protected=self.config.protected,
            task_credit=-1 if self.config.waiting_tasks_max < 0 else 0,
            capability_policy=self.config.enforce_capabilities,
            hello_number=hello.hello_number,
        )
        if resumed:
            session.accept(envelope, now)
        self._send_plain(record, welcome)
        if resumed:
            self._send_all(peer, session.resend())

    def _refusal(self, peer: Peer, hello: m.Hello) -> str | None:
        if hello.protocol_version != PROTOCOL_VERSION:
            return (
                f"this scheduler (Scaler {SOFTWARE_VERSION}) speaks protocol version {PROTOCOL_VERSION}, you "
                f"(Scaler {hello.software_version}) speak {hello.protocol_version}; install the same Scaler version "
                f"on both sides"
            )
        if hello.role not in (m.Role.CLIENT, m.Role.AGENT):
            return f"a {hello.role.name.lower()} does not connect here"
        if self.stopping:
            return "the scheduler is stopping"
        if isinstance(peer, RelayedPeer) and (hello.role is not m.Role.CLIENT or peer.agent not in self.agents.by_peer):
            return "only clients inside tasks of a connected agent are relayed"
        for other in self._peers.values():
            if other.hello.python_version != hello.python_version:
                return (
                    f"Python {hello.python_version} does not fit this cluster, where {other.hello.name} runs Python "
                    f"{other.hello.python_version}: pickled functions do not move between Python versions"
                )
            # Everybody here passed this check, so one comparison speaks for all.
            break
        return None

    def _admit(self, peer: Peer, hello: m.Hello, now: float) -> PeerRecord:
        session = Session(hello.hello_number)
        if hello.role is m.Role.AGENT:
            assert isinstance(peer, bytes)
            agent = AgentRecord(peer, hello, session, now)
            self.agents.add(agent)
            self._peers[peer] = agent
            self._placement_due = True
            self._log("info", f"agent {hello.name} with {agent.slots} workers connected from {hello.hostname}")
            return agent
        client = ClientRecord(peer, hello, session, now)
        self.clients[client.id] = client
        self._peers[peer] = client
        self._retained.pop(client.id, None)
        if not isinstance(peer, RelayedPeer):
            self._log("info", f"client {hello.name} connected from {hello.hostname}")
        return client

    def _on_heartbeat(self, record: PeerRecord, heartbeat: m.Heartbeat, now: float) -> None:
        if isinstance(record, AgentRecord) and heartbeat.processor_states:
            record.heartbeat = heartbeat
            self._set_capacity(record, heartbeat.capacity)
        if heartbeat.sent_at_seconds:
            self._send_plain(record, m.Heartbeat(echo_seconds=heartbeat.sent_at_seconds))

    def _on_goodbye(self, record: PeerRecord, message: m.Goodbye, now: float) -> None:
        kind = "agent" if isinstance(record, AgentRecord) else "client"
        if not isinstance(record.peer, RelayedPeer):
            self._log("info", f"{kind} {record.hello.name} left: {message.text}")
        self._drop(record, message.text or "it left", now, counted=False)

    def _on_unreachable(self, event: PeerUnreachable, now: float) -> None:
        # A broken connection alone is no reason: the peer reconnects and resumes, or its silence gives it up.
        self._log("debug", f"peer {event.peer[:24]!r} is unreachable: {event.reason}")

    def _give_up(self, peer: Peer, reason: str, now: float) -> None:
        record = self._peers.get(peer)
        if record is None:
            return
        self._log("warning", f"gave up {record.hello.name}: {reason}")
        self._drop(record, reason, now, counted=True)
        # It learns from this that its session has ended, should it still live.
        self._send_outside_session(peer, m.UnknownPeer())

    def _drop(self, record: PeerRecord, reason: str, now: float, *, counted: bool, retain: bool = False) -> None:
        """End a peer's session and everything that hangs on it."""
        if self._peers.get(record.peer) is record:
            del self._peers[record.peer]
        if isinstance(record, AgentRecord):
            self._drop_agent(record, reason, now, counted)
        else:
            self._drop_client(record, now, retain)

    def _drop_agent(self, agent: AgentRecord, reason: str, now: float, counted: bool) -> None:
        self.agents.remove(agent)
        self.recovery.drop_agent(agent)
        for client in [
            c for c in self.clients.values() if isinstance(c.peer, RelayedPeer) and c.peer.agent == agent.peer
        ]:
            self._drop(client, "its worker is gone", now, counted=False)
        held = list(agent.tasks)
        agent.tasks.clear()
        # Oldest first is the order in which an agent starts tasks: as many as it has workers may have been running. Only
        # these have used up an attempt; the others just waited there.
        suspects = held[: agent.slots] if counted else []
        for task in suspects:
            task.failures += 1
        for task in reversed(held):
            self._unassign(task)
            if task.canceled:
                self._answer(task, m.Status.CANCELED, b"", now)
            elif task.failures >= self.config.attempts_max:
                sentence = (
                    f"task {task.number}: attempt {task.failures} of {self.config.attempts_max} failed; agent {agent.name} "
                    f"(pid {agent.hello.pid} on {agent.hello.hostname}) was lost: {reason}"
                )
                self._answer(task, m.Status.WORKER_DIED, sentence.encode(), now)
            else:
                self._requeue(task)

    def _drop_client(self, client: ClientRecord, now: float, retain: bool) -> None:
        del self.clients[client.id]
        self.ready.drop_client(client.id)
        finished = Counter(task.function for task in client.tasks.values())
        self.functions.unfinished.subtract(finished)
        for task in client.tasks.values():
            if task.agent is not None:
                task.agent.tasks.pop(task, None)
                self.agents.changed(task.agent)
            task.state = _FORGOTTEN
            task.agent = None
        self.recovering = [task for task in self.recovering if task.state is _RECOVERING]
        self.monitor.canceled_count += len(client.tasks)
        client.tasks.clear()
        client.graphs.clear()
        self.functions.drop_client(client.id)
        self.recovery.drop_client(client.id)
        for agent in self.agents.by_peer.values():
            if agent.functions.pop(client.id, None) is not None:
                self._send(agent, m.ClientGone(client.id))
        if retain and self.config.object_retention > 0:
            self._retained[client.id] = now + self.config.object_retention
        else:
            self._effects.append(ToStore(m.ClientGone(client.id)))
        self._placement_due = self._credit_due = True

    # --- from clients

    def _on_function_define(self, client: PeerRecord, message: m.FunctionDefine, now: float) -> None:
        self._require(client, ClientRecord, message)
        names = message.names or ("",) * len(message.ids)
        for function_id, body, name in zip(message.ids, message.bodies.split(), names, strict=False):
            self.functions.define(client.id, function_id, body, name)

    def _on_task_batch(self, client: PeerRecord, batch: m.TaskBatch, now: float) -> None:
        self._require(client, ClientRecord, batch)
        assert isinstance(client, ClientRecord)
        self._check_functions(client, batch.functions, batch.serializer)
        options = client.options_of_batch(batch, self.config.enforce_capabilities)
        payloads = batch.payloads.split()
        functions = batch.functions
        if len(batch.function_indexes):
            per_task: Iterable[bytes] = [functions[index] for index in batch.function_indexes]
        else:
            per_task = functions * len(payloads)
        tasks = [
            Task(number, function, payload, options)
            for number, function, payload in zip(batch.numbers, per_task, payloads, strict=False)
        ]
        known = client.tasks
        if not known.keys().isdisjoint(batch.numbers):
            # In a session nothing arrives twice; a number used twice is the client's mistake, the first use stands.
            tasks = [task for task in tasks if task.number not in known]
        if batch.objects:
            _attach_objects({task.number: task for task in tasks}, batch)
        known.update((task.number, task) for task in tasks)
        self.functions.unfinished.update(task.function for task in tasks)
        client.credit_granted = max(0, client.credit_granted - len(tasks))
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.SUBMITTED, tasks, "", now)
        if batch.flags & m.TaskFlag.REANNOUNCED:
            tasks = self._recover(client, tasks, now)
        if tasks:
            self.ready.add_all(tasks)
            self._placement_due = True

    def _on_graph_submit(self, client: PeerRecord, message: m.GraphSubmit, now: float) -> None:
        self._require(client, ClientRecord, message)
        assert isinstance(client, ClientRecord)
        self._check_functions(client, message.functions, message.serializer)
        options = client.options_for(
            message.depth,
            m.TaskKind.CALL,
            message.flags & ~m.TaskFlag.REANNOUNCED,
            message.capabilities,
            message.serializer,
            self.config.enforce_capabilities,
        )
        graph = Graph(message, options)
        client.graphs.append(graph)
        self._queue_new(client, graph.release_roots(), now)

    def _on_task_cancel(self, client: PeerRecord, message: m.TaskCancel, now: float) -> None:
        self._require(client, ClientRecord, message)
        assert isinstance(client, ClientRecord)
        to_agents: dict[AgentRecord, list[Task]] = {}
        for number in message.numbers:
            task = client.tasks.get(number)
            if task is None:
                self._cancel_row(client, number, now)
            elif task.agent is not None:
                if not task.canceled:
                    task.canceled = True
                    to_agents.setdefault(task.agent, []).append(task)
            else:
                self._withdraw(task)
                self._answer(task, m.Status.CANCELED, b"", now)
        for agent, tasks in to_agents.items():
            self._send_cancel(agent, tasks)

    def _cancel_row(self, client: ClientRecord, number: int, now: float) -> None:
        graph = client.graph_of(number)
        if graph is not None and graph.states[number - graph.first_number] == RowState.WAITING:
            self._fail_row(client, graph, number - graph.first_number, m.Status.CANCELED, b"", 0, now)

    def _on_credit_request(self, client: PeerRecord, message: m.CreditRequest, now: float) -> None:
        self._require(client, ClientRecord, message)
        assert isinstance(client, ClientRecord)
        client.credit_wanted = message.count
        self._credit_due = True

    def _on_shutdown(self, client: PeerRecord, message: m.Shutdown, now: float) -> None:
        self._require(client, ClientRecord, message)
        if self.config.protected:
            notice = m.Notice("this scheduler is protected: clients cannot shut it down", kind="protected")
            self._send_plain(client, notice)
            return
        self._stop(f"client {client.hello.name} asked for it")

    # --- from agents

    def _on_result_batch(self, agent: PeerRecord, batch: m.ResultBatch, now: float) -> None:
        self._require(agent, AgentRecord, batch)
        assert isinstance(agent, AgentRecord)
        if batch.capacity:
            agent.capacity = batch.capacity
        self.agents.changed(agent)
        self._placement_due = True
        client = self.clients.get(batch.client)
        if client is None:
            self.recovery.keep_result(batch, now + self.config.client_timeout)
            return
        tasks = self._finish_plain(agent, client, batch)
        if tasks is None:
            self._finish_mixed(agent, client, batch, now)
            return
        self.monitor.success_count += len(tasks)
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.SUCCESS, tasks, agent.name, now, batch.durations)
        client.finished_count += len(tasks)
        self._send(client, batch)

    def _finish_plain(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch) -> list[Task] | None:
        """The common case: every row is a success that is expected. Forget the tasks and return them, or do nothing."""
        if len(batch.statuses):
            return None
        get = client.tasks.get
        tasks: list[Task] = []
        for number, attempt in zip(batch.numbers, batch.attempts, strict=True):
            task = get(number)
            if (
                task is None
                or task.agent is not agent
                or task.attempt != attempt
                or task.canceled
                or task.graph is not None
            ):
                return None
            tasks.append(task)
        forget, unassign = client.tasks.pop, agent.tasks.pop
        for task in tasks:
            unassign(task, None)
            if forget(task.number, None) is None:
                # The same number twice in one batch: only a faulty agent does that, and the first row has been counted.
                continue
            task.state = _FORGOTTEN
            task.agent = None
        client.assigned_count -= len(tasks)
        self.functions.unfinished.subtract(task.function for task in tasks)
        return tasks

    def _finish_mixed(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch, now: float) -> None:
        """Row by row: failures, cancelled and stale tasks, graph rows, deaths that deserve another attempt."""
        passed: list[int] = []
        early: list[int] = []
        payloads: list[bytes] | None = None
        objects: dict[int, list[bytes]] = {}
        for row, object_id in zip(batch.object_positions, batch.objects, strict=True):
            objects.setdefault(row, []).append(object_id)
        for row, (number, attempt) in enumerate(zip(batch.numbers, batch.attempts, strict=True)):
            task = client.tasks.get(number)
            if task is None and self._may_still_announce(client, now):
                early.append(row)
                continue
            if task is None or task.agent is not agent or task.attempt != attempt:
                self.monitor.stale_count += 1
                self._free_objects(client, objects.get(row, ()))
                continue
            status = m.Status(batch.statuses[row]) if len(batch.statuses) else m.Status.SUCCESS
            self._unassign(task)
            if payloads is None:
                payloads = batch.payloads.split()
            if task.canceled:
                self._free_objects(client, objects.get(row, ()))
                self._answer(task, m.Status.CANCELED, b"", now)
            elif status is m.Status.PROCESSOR_DIED and self._may_try_again(task):
                self._requeue(task)
            elif status is m.Status.PROCESSOR_DIED:
                sentence = f"task {number}: attempt {task.failures} of {self.config.attempts_max} failed; ".encode()
                self._answer(task, status, sentence + payloads[row], now)
            elif task.graph is not None:
                self._finish_row(task, status, batch, row, payloads[row], tuple(objects.get(row, ())), now)
            else:
                self._forget(task, status, now, batch.durations[row] if len(batch.durations) else 0, agent.name)
                passed.append(row)
        if passed:
            self._send(client, result_rows(batch, passed))
        if early:
            self.recovery.keep_result(result_rows(batch, early), self._announcement_deadline(client))

    def _announcement_deadline(self, client: ClientRecord) -> float:
        return client.connected_at + self.config.recovery_grace

    def _may_still_announce(self, client: ClientRecord, now: float) -> bool:
        """Whether the client came back so recently that announcements of older tasks may be on their way."""
        return bool(client.hello.scheduler_incarnation) and now < self._announcement_deadline(client)

    def _may_try_again(self, task: Task) -> bool:
        task.failures += 1
        return task.failures < self.config.attempts_max

    def _on_task_return(self, agent: PeerRecord, message: m.TaskReturn, now: float) -> None:
        self._require(agent, AgentRecord, message)
        assert isinstance(agent, AgentRecord)
        self.agents.changed(agent)
        client = self.clients.get(message.client)
        if client is None:
            return
        returned = []
        for number, attempt in zip(message.numbers, message.attempts, strict=False):
            task = client.tasks.get(number)
            if task is None or task.agent is not agent or task.attempt != attempt:
                continue
            self._unassign(task)
            if task.canceled:
                self._answer(task, m.Status.CANCELED, b"", now)
            else:
                returned.append(task)
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.RETURNED, returned, agent.name, now)
        for task in reversed(returned):
            self._requeue(task)

    def _on_inventory(self, agent: PeerRecord, message: m.Inventory, now: float) -> None:
        """An agent in a new session says what it holds: adopt what is still wanted, stop the rest."""
        self._require(agent, AgentRecord, message)
        assert isinstance(agent, AgentRecord)
        client = self.clients.get(message.client)
        unwanted = m.TaskCancel(message.client, [], [])
        for number, attempt in zip(message.numbers, message.attempts, strict=True):
            task = client.tasks.get(number) if client is not None else None
            if client is None or (task is None and self._may_still_announce(client, now)):
                deadline = now + self.config.client_timeout if client is None else self._announcement_deadline(client)
                self.recovery.claim(message.client, number, Claim(agent, attempt), deadline)
                continue
            if task is not None and task.agent is None:
                self._withdraw(task)
                self._adopt(task, agent, attempt)
            elif client.graph_of(number) is None or task is not None:
                unwanted.numbers.append(number)  # type: ignore[attr-defined]
                unwanted.attempts.append(attempt)  # type: ignore[attr-defined]
        if unwanted.numbers:
            self._send(agent, unwanted)
        # The agent knows this client's functions from before.
        agent.functions.setdefault(message.client, set())

    def _on_client_gone(self, agent: PeerRecord, message: m.ClientGone, now: float) -> None:
        self._require(agent, AgentRecord, message)
        client = self.clients.get(message.client)
        # Only the agent a client is relayed by can say so.
        if client is not None and client.peer == RelayedPeer(agent.peer, client.id):  # type: ignore[arg-type]
            self._drop(client, "it ended", now, counted=False)

    def _on_drain(self, agent: PeerRecord, message: m.Drain, now: float) -> None:
        self._require(agent, AgentRecord, message)
        assert isinstance(agent, AgentRecord)
        agent.draining = True
        self.agents.changed(agent)

    def _on_output(self, agent: PeerRecord, message: m.Output, now: float) -> None:
        self._require(agent, AgentRecord, message)
        client = self.clients.get(message.client)
        if client is not None:
            self._send_plain(client, message)

    def _on_relay(self, agent: PeerRecord, message: m.Relay, now: float) -> None:
        # The shell hands the relayed message over as an event of its own; here it only counts as a sign of life.
        self._require(agent, AgentRecord, message)

    # --- tasks: transitions

    def _queue_new(self, client: ClientRecord, tasks: list[Task], now: float) -> None:
        """Queue tasks that graph rows became."""
        if not tasks:
            return
        client.tasks.update((task.number, task) for task in tasks)
        self.functions.unfinished.update(task.function for task in tasks)
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.SUBMITTED, tasks, "", now)
        self.ready.add_all(tasks)
        self._placement_due = True

    def _recover(self, client: ClientRecord, tasks: list[Task], now: float) -> list[Task]:
        """Tasks announced again: answer, attach or hold back those that agents may have; return the rest."""
        rest = []
        waiting = now < self.started_at + self.config.recovery_grace
        for task in tasks:
            result = self.recovery.take_result(client.id, task.number)
            claim = self.recovery.take_claim(client.id, task.number)
            if result is not None and not (len(result.statuses) and result.statuses[0] == m.Status.PROCESSOR_DIED):
                status = m.Status(result.statuses[0]) if len(result.statuses) else m.Status.SUCCESS
                self._forget(task, status, now)
                self._send(client, result)
            elif claim is not None:
                self._adopt(task, claim.agent, claim.attempt)
            elif waiting:
                task.state = _RECOVERING
                self.recovering.append(task)
            else:
                rest.append(task)
        return rest

    def _adopt(self, task: Task, agent: AgentRecord, attempt: int) -> None:
        """An agent holds this task already."""
        task.state = _ASSIGNED
        task.agent = agent
        task.attempt = attempt
        agent.tasks[task] = None
        task.options.client.assigned_count += 1
        agent.functions.setdefault(task.options.client.id, set())
        self.agents.changed(agent)

    def _unassign(self, task: Task) -> None:
        """The task leaves its agent; the caller says where it goes in the same step."""
        agent = task.agent
        assert agent is not None
        agent.tasks.pop(task, None)
        task.agent = None
        task.options.client.assigned_count -= 1
        self.agents.changed(agent)

    def _requeue(self, task: Task) -> None:
        task.state = _READY
        self.ready.add_first(task)
        self._placement_due = True

    def _withdraw(self, task: Task) -> None:
        """A waiting task leaves its queue; the caller says where it goes in the same step."""
        if task.state is _READY:
            self.ready.withdraw(task)
        else:
            self.recovering.remove(task)

    def _forget(self, task: Task, status: m.Status, now: float, duration: int = 0, worker: str = "") -> None:
        """The task is answered: drop it and count how it ended."""
        client = task.options.client
        client.tasks.pop(task.number, None)
        self.functions.unfinished[task.function] -= 1
        task.state = _FORGOTTEN
        monitor = self.monitor
        if status is m.Status.SUCCESS:
            monitor.success_count += 1
            client.finished_count += 1
            event = m.TaskEvent.SUCCESS
        elif status is m.Status.CANCELED:
            monitor.canceled_count += 1
            event = m.TaskEvent.CANCELED
        else:
            monitor.failed_count += 1
            client.failed_count += 1
            event = m.TaskEvent.FAILED
        if monitor.listening:
            monitor.record(event, (task,), worker, now, (duration,))

    def _answer(self, task: Task, status: m.Status, payload: bytes, now: float) -> None:
        """End an unassigned task with an answer of the scheduler's own."""
        if task.graph is not None:
            row = task.number - task.graph.first_number
            self._forget(task, status, now)
            self._fail_row(task.options.client, task.graph, row, status, payload, task.attempt, now)
        else:
            self._forget(task, status, now)
            self._send(task.options.client, _single_result(task, status, payload))

    # --- graphs

    def _finish_row(
        self,
        task: Task,
        status: m.Status,
        batch: m.ResultBatch,
        row_in_batch: int,
        payload: bytes,
        objects: tuple[bytes, ...],
        now: float,
    ) -> None:
        graph, client = task.graph, task.options.client
        assert graph is not None
        row = task.number - graph.first_number

        def of(column: Sequence[int]) -> int:
            return column[row_in_batch] if len(column) else 0

        worker = ""
        self._forget(task, status, now, of(batch.durations), worker)
        if status is not m.Status.SUCCESS:
            self._fail_row(client, graph, row, status, payload, task.attempt, now)
            return
        result = RowResult(
            payload, objects, of(batch.durations), of(batch.cpu_times), of(batch.memory_peaks), task.attempt
        )
        released, freed = graph.complete(row, result)
        self._queue_new(client, released, now)
        self._free_objects(client, freed)
        self._deliver_rows(client, graph, (row, *graph.dependencies_of(row)))

    def _fail_row(
        self, client: ClientRecord, graph: Graph, row: int, status: m.Status, payload: bytes, attempt: int, now: float
    ) -> None:
        """A row failed: the client hears it for every wanted row that needed it."""
        failed, freed = graph.fail(row)
        self._free_objects(client, freed)
        numbers = [graph.first_number + r for r in failed if graph.wanted[r]]
        inputs: set[int] = set()
        for r in failed:
            graph.wanted[r] = 0
            inputs.update(graph.dependencies_of(r))
        if numbers:
            count = len(numbers)
            self._send(
                client,
                m.ResultBatch(client.id, numbers, [attempt] * count, Packed.of([payload] * count), [status] * count),
            )
        self._deliver_rows(client, graph, sorted(inputs))

    def _deliver_rows(self, client: ClientRecord, graph: Graph, rows: Iterable[int]) -> None:
        """Send wanted results that may go now, and forget the graph when it is done."""
        for row in rows:
            result = graph.read_by_client(row)
            if result is None:
                continue
            profiled = graph.options.flags & m.TaskFlag.PROFILE
            self._send(
                client,
                m.ResultBatch(
                    client.id,
                    [graph.first_number + row],
                    [result.attempt],
                    Packed.of([result.payload]),
                    durations=[result.duration],
                    cpu_times=[result.cpu_time] if profiled else (),
                    memory_peaks=[result.memory_peak] if profiled else (),
                    object_positions=[0] * len(result.objects),
                    objects=result.objects,
                ),
            )
        if graph.finished and graph in client.graphs:
            client.graphs.remove(graph)

    def _free_objects(self, client: ClientRecord, objects: Sequence[bytes]) -> None:
        if objects:
            self._effects.append(ToStore(m.ObjectDelete(0, client.id, tuple(objects))))

    # --- placement

    def _place_ready(self, now: float) -> None:
        agents = self.agents
        agents.refresh()
        for queue in self.ready.non_empty():
            groups = agents.groups_for(queue.signature)
            if groups:
                queue.unservable_since = None
                self._place_signature(queue, groups, now)
            elif queue.unservable_since is None:
                queue.unservable_since = now
        self._credit_due = self.config.waiting_tasks_max >= 0

    def _place_signature(self, queue: SignatureQueue, groups: list[Any], now: float) -> None:
        total_slots = sum(group.slots for group in groups)
        if len(groups) == 1 and len(groups[0].agents) == 1:
            total_assigned = 0
        else:
            total_assigned = (
                sum(len(agent.tasks) for group in groups for agent in group.agents) if queue.count > 1 else 0
            )
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
                self._assign(agent, tasks, now)
                total_assigned += len(tasks)
                self.agents.reinsert(agent)

    def _assign(self, agent: AgentRecord, tasks: list[Task], now: float) -> None:
        held = agent.tasks
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
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.ASSIGNED, tasks, agent.name, now)
        for options, group in groups.items():
            options.client.assigned_count += len(group)
            self._send_tasks(agent, options, group)

    def _send_tasks(self, agent: AgentRecord, options: TaskOptions, tasks: list[Task]) -> None:
        """One batch of tasks that share their options, after the functions they need."""
        table: dict[bytes, int] = {}
        indexes = [table.setdefault(task.function, len(table)) for task in tasks]
        functions = tuple(table)
        needed = (*functions, options.serializer) if options.serializer else functions
        self._define_functions(agent, options.client.id, needed)
        positions: list[int] = []
        objects: list[bytes] = []
        input_positions: list[int] = []
        inputs: list[bytes] = []
        if any(task.objects or task.graph is not None for task in tasks):
            for position, task in enumerate(tasks):
                positions.extend([position] * len(task.objects))
                objects.extend(task.objects)
                graph = task.graph
                if graph is not None:
                    for dependency in graph.dependencies_of(task.number - graph.first_number):
                        result = graph.results[dependency]
                        input_positions.append(position)
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
        )
        self._send(agent, batch)

    def _define_functions(self, agent: AgentRecord, client_id: bytes, needed: Sequence[bytes]) -> None:
        known = agent.functions.setdefault(client_id, set())
        missing = [function_id for function_id in needed if function_id not in known]
        if missing:
            known.update(missing)
            bodies = Packed.of([self.functions.body(function_id) for function_id in missing])
            names = tuple(self.functions.name(function_id) for function_id in missing)
            self._send(agent, m.FunctionDefine(client_id, tuple(missing), bodies, names))

    def _set_capacity(self, agent: AgentRecord, capacity: int) -> None:
        if agent.capacity != capacity:
            agent.capacity = capacity
            self.agents.changed(agent)
            self._placement_due = True

    def _grant_credits(self) -> None:
        """Let clients submit as many tasks as may still wait, in turn."""
        limit = max(1, self.config.waiting_tasks_max)
        asking = [client for client in self.clients.values() if client.credit_wanted > 0]
        if not asking:
            return
        free = limit - self.ready.count - sum(client.credit_granted for client in self.clients.values())
        for position, client in enumerate(asking):
            grant = min(client.credit_wanted, -(-free // (len(asking) - position)))
            if grant <= 0:
                continue
            free -= grant
            client.credit_wanted -= grant
            client.credit_granted += grant
            self._send(client, m.CreditGrant(grant))

    # --- time

    def _on_tick(self, tick: Tick, now: float) -> None:
        self.monitor.listening = tick.monitors > 0
        if tick.unix_time:
            self._unix_offset = tick.unix_time - now
        if self.recovering and now >= self.started_at + self.config.recovery_grace:
            self._end_recovery()
        if now >= self._maintenance_at:
            self._maintenance_at = now + MAINTENANCE_INTERVAL_SECONDS
            self._look_after_peers(now)
            self._report_unservable(now)
            self._expire(now)
        if now >= self._balance_at:
            self._balance_at = now + self.config.load_balance_interval
            self._balance()
        if self.monitor.listening:
            self._publish(tick, now)

    def _look_after_peers(self, now: float) -> None:
        for record in list(self._peers.values()):
            is_agent = isinstance(record, AgentRecord)
            timeout = self.config.worker_timeout if is_agent else self.config.client_timeout
            silent = now - record.last_seen
            if silent > timeout and self._peers.get(record.peer) is record:
                kind = "agent" if is_agent else "client"
                self._log("warning", f"{kind} {record.hello.name} was silent for {silent:.0f} s: given up")
                self._drop(record, f"silent for {silent:.0f} s", now, counted=True, retain=True)
            elif record.session.acknowledge_pending:
                self._send_plain(record, m.Heartbeat())

    def _report_unservable(self, now: float) -> None:
        for queue in self.ready.non_empty():
            since = queue.unservable_since
            if since is None or now - since < self.config.unservable_grace:
                continue
            if self.agents.groups_for(queue.signature):
                continue
            for client_id in queue.client_ids():
                client = self.clients[client_id]
                if queue.signature in client.unservable_told:
                    continue
                client.unservable_told.add(queue.signature)
                wanted = ", ".join(sorted(queue.signature))
                text = (
                    f"tasks wait for a worker with the capabilities {{{wanted}}}, which none of the "
                    f"{len(self.agents)} connected agents offers"
                    if queue.signature
                    else "tasks wait: no worker is connected"
                )
                numbers = [task.number for task in queue.tasks() if task.options.client is client][:1000]
                self._send(client, m.Notice(text, level=1, numbers=numbers, kind="unservable"))

    def _expire(self, now: float) -> None:
        for client_id in self.recovery.expired(now):
            claims = self.recovery.drop_client(client_id)
            if client_id in self.clients:
                # It is back, and did not announce these: they were answered before.
                for number, claim in claims.items():
                    self._send(claim.agent, m.TaskCancel(client_id, [number], [claim.attempt]))
                continue
            self._log("info", f"client {short(client_id)} did not come back: its tasks are dropped")
            for agent in self.agents.by_peer.values():
                if agent.functions.pop(client_id, None) is not None:
                    self._send(agent, m.ClientGone(client_id))
            self._effects.append(ToStore(m.ClientGone(client_id)))
        for client_id in [c for c, deadline in self._retained.items() if now >= deadline]:
            del self._retained[client_id]
            self._effects.append(ToStore(m.ClientGone(client_id)))

    def _end_recovery(self) -> None:
        tasks, self.recovering = self.recovering, []
        for task in tasks:
            task.state = _READY
            self.ready.add(task)
        self._placement_due = True

    def _balance(self) -> None:
        """Recall tasks that have not started from busy agents for idle ones, when that is needed several looks in a row."""
        agents = [agent for agent in self.agents.by_peer.values() if not agent.draining]
        if self.ready.count and not any(queue.unservable_since is not None for queue in self.ready.non_empty()):
            # Idle agents get what is ready first.
            self._unevenness = 0
            return
        recalls = tasks_to_recall([Load(len(agent.tasks), agent.slots) for agent in agents])
        if not any(recalls):
            self._unevenness = 0
            return
        self._unevenness += 1
        if self._unevenness < self.config.load_balance_trigger_times:
            return
        self._unevenness = 0
        for agent, count in zip(agents, recalls, strict=True):
            if count:
                self._send(agent, m.TaskRecall(count))

    def _publish(self, tick: Tick, now: float) -> None:
        events = self.monitor.take_events(self.functions, self._unix_offset)
        if events is not None:
            self._effects.append(Publish(events))
        if now >= self._snapshot_at:
            self._snapshot_at = now + self.config.snapshot_interval
            snapshot = self.monitor.snapshot(
                now,
                tick.unix_time,
                tick.cpu_percent,
                tick.rss_bytes,
                self.agents.by_peer.values(),
                self.clients.values(),
                self.functions.counts_by_name(),
            )
            self._effects.append(Publish(snapshot))

    def _stop(self, reason: str) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._log("info", f"stopping: {reason}")
        for record in self._peers.values():
            if isinstance(record, AgentRecord):
                self._send_plain(record, m.Shutdown(reason))
            else:
                self._send_plain(record, m.Goodbye(f"the scheduler is stopping: {reason}"))
        self._effects.append(ToStore(m.Shutdown(reason)))
        self._effects.append(Stop(reason))

    # --- sending

    def _send(self, record: PeerRecord, message: m.Message) -> None:
        """Send what must not be lost."""
        self.monitor.sent[type(message).__name__] += 1
        try:
            envelope, message = record.session.sequence(message)
        except SessionError as error:
            # Too much waits for this peer. It is given up at the next look, not in the middle of a transition.
            record.last_seen = float("-inf")
            self._log("warning", f"{record.hello.name} does not keep up: {error}")
            return
        self._effects.append(Send(record.peer, envelope, message))

    def _send_plain(self, record: PeerRecord, message: m.Message) -> None:
        """Send what may be lost."""
        self.monitor.sent[type(message).__name__] += 1
        self._effects.append(Send(record.peer, *record.session.plain(message)))

    def _send_all(self, peer: Peer, outgoing: Iterable[Outgoing]) -> None:
        self._effects.extend(Send(peer, envelope, message) for envelope, message in outgoing)

    def _send_outside_session(self, peer: Peer, message: m.Message) -> None:
        self.monitor.sent[type(message).__name__] += 1
        self._effects.append(Send(peer, UNSEQUENCED, message))

    def _send_cancel(self, agent: AgentRecord, tasks: Sequence[Task]) -> None:
        by_client: dict[bytes, list[Task]] = {}
        for task in tasks:
            by_client.setdefault(task.options.client.id, []).append(task)
        for client_id, group in by_client.items():
            numbers, attempts = [task.number for task in group], [task.attempt & 0xFFFF for task in group]
            self._send(agent, m.TaskCancel(client_id, numbers, attempts))

    def _log(self, level: str, text: str) -> None:
        self._effects.append(Log(level, text))

    # --- checks

    def _require(self, record: PeerRecord, role: type[Any], message: m.Message) -> bool:
        """Raise unless the message comes from the right kind of peer, and a client speaks only of itself."""
        if not isinstance(record, role):
            raise SessionError(
                f"a {type(message).__name__} from {record.hello.name}, whose role is {record.hello.role.name}"
            )
        named = getattr(message, "client", None)
        if role is ClientRecord and named is not None and named != record.id:
            raise SessionError(f"{record.hello.name} speaks in the name of client {short(named)}")
        return True

    def _check_functions(self, client: ClientRecord, functions: Sequence[bytes], serializer: bytes) -> None:
        for function_id in (*functions, serializer) if serializer else functions:
            if not self.functions.knows(client.id, function_id):
                raise SessionError(f"{client.name} uses function {short(function_id)} before defining it")


def _attach_objects(tasks: dict[int, Task], batch: m.TaskBatch) -> None:
    for row, object_id in zip(batch.object_positions, batch.objects, strict=True):
        task = tasks.get(batch.numbers[row])
        if task is not None:
            task.objects = (*task.objects, object_id)


def _single_result(task: Task, status: m.Status, payload: bytes) -> m.ResultBatch:
    return m.ResultBatch(task.options.client.id, [task.number], [task.attempt & 0xFFFF], Packed.of([payload]), [status])
