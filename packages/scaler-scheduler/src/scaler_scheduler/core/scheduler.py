"""The scheduler's decisions: who is connected, what was submitted, who runs it, who is answered.

`handle` takes one event. Handlers change state and mark what there is to do; `place` is called once per drained batch of
events and does it: ready tasks to agents, credits to clients. Effects come out in order through `take_effects`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scaler_protocol.errors import SessionError
from scaler_protocol.ids import short
from scaler_protocol.session import Session, message_bytes
from scaler_protocol.version import PROTOCOL_VERSION, SOFTWARE_VERSION
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import CARRIED, carried_rows
from scaler_protocol.wire.envelope import Envelope
from scaler_scheduler.core.agents import NEVER, AgentRecord
from scaler_scheduler.core.clients import ClientRecord
from scaler_scheduler.core.config import SchedulerConfig
from scaler_scheduler.core.effects import KeepOwner, Publish, Stop
from scaler_scheduler.core.events import (
    Event,
    Incoming,
    Peer,
    PeerUnreachable,
    RelayedPeer,
    StopAnnounced,
    StopRequested,
    StoreLost,
    StoreReported,
    Tick,
    WebhookAnswered,
    WebhookFailed,
)
from scaler_scheduler.core.graphs import Graph
from scaler_scheduler.core.ignored_capabilities import tell_ignored
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.monitor import StoreFigures
from scaler_scheduler.core.outbox import PeerRecord
from scaler_scheduler.core.placement import Placement
from scaler_scheduler.core.recovery import Claim
from scaler_scheduler.core.scaling import Scaling
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.tasks import Chain, Task, TaskState
from scaler_scheduler.core.unservable import UnservableTasks

_READY, _ASSIGNED = TaskState.READY, TaskState.ASSIGNED
_RECOVERING, _FORGOTTEN = TaskState.RECOVERING, TaskState.FORGOTTEN

MAINTENANCE_INTERVAL_SECONDS = 0.5
"""How often silence, retention and reports are looked at."""

STORE_ANSWER_SECONDS = 0.5
"""How long a snapshot waits for the figures of the object storage server when a monitor has come."""

PROBE_AFTER_HEARTBEATS = 1.5
"""A peer that missed so many heartbeats is sent one: if its connection is gone, the transport says so."""


class SchedulerCore:
    """See the module. Not thread-safe; owned by one shell."""

    def __init__(self, config: SchedulerConfig, now: float) -> None:
        self.config = config
        self.started_at = now
        state = SchedulerState(config, now)
        self.clients = state.clients
        self.agents = state.agents
        self.ready = state.ready
        self.functions = state.functions
        self.recovery = state.recovery
        self.recovering = state.recovering
        self.monitor = state.monitor
        self.outbox = state.outbox
        self.take_effects = state.outbox.take
        """Returns what is to be done, in order. The method itself, as it is called after every message."""
        self.marks = state.marks
        self.lifecycle = TaskLifecycle(state)
        self.placement = Placement(state)
        self.scaling = None if config.scaling is None else Scaling(state, config.scaling, now)
        self._unservable = UnservableTasks(state, self.lifecycle, self.scaling)
        self.stopping = False
        self._is_announced = False
        """Whether clients have heard that the cluster ends; its workers end first."""
        self._peers: dict[Peer, PeerRecord] = {}
        self._retained: dict[bytes, float] = {}
        self._balance_at = now + config.load_balance_interval
        self._maintenance_at = now + MAINTENANCE_INTERVAL_SECONDS
        self._snapshot_at = self._snapshot_due = now
        """When the next snapshot goes out, and when it would if that did not wait for the object storage server."""
        self._watched = False
        """Whether any monitor listens."""
        self._unix_offset = 0.0
        self._handlers: dict[type[Any], tuple[type[PeerRecord], Callable[[Any, Any, float], None]]] = {
            m.TaskBatch: (ClientRecord, self._on_task_batch),
            m.GraphSubmit: (ClientRecord, self._on_graph_submit),
            m.FunctionDefine: (ClientRecord, self._on_function_define),
            m.TaskCancel: (ClientRecord, self._on_task_cancel),
            m.CreditRequest: (ClientRecord, self._on_credit_request),
            m.Shutdown: (ClientRecord, self._on_shutdown),
            m.ResultBatch: (AgentRecord, self._on_result_batch),
            m.TaskReturn: (AgentRecord, self._on_task_return),
            m.Inventory: (AgentRecord, self._on_inventory),
            m.ClientGone: (AgentRecord, self._on_client_gone),
            m.Drain: (AgentRecord, self._on_drain),
            m.Output: (AgentRecord, self._on_output),
            m.ChunkFailures: (AgentRecord, self._on_chunk_failures),
            m.Relay: (AgentRecord, self._on_relay),
        }
        """By kind of message: who may send it, and what to do about it."""

    def handle(self, event: Event, now: float) -> None:
        """Take one event in. Never raises for what a peer did: a peer that breaks the rules is given up."""
        if type(event) is Incoming:
            peer, envelope, message = event
            try:
                self._on_incoming(peer, envelope, message, now)
            except SessionError as error:
                self._give_up(peer, str(error), now)
        elif isinstance(event, Tick):
            self._on_tick(event, now)
        elif isinstance(event, PeerUnreachable):
            self._on_unreachable(event, now)
        elif isinstance(event, WebhookAnswered | WebhookFailed):
            if self.scaling is not None:
                self.scaling.on_webhook(event, now)
        elif isinstance(event, StoreLost):
            self.outbox.log("warning", f"object storage server: {event.reason}")
        elif isinstance(event, StoreReported):
            self.monitor.store = StoreFigures.of(event.status)
            self._snapshot_at = min(self._snapshot_at, self._snapshot_due)
        elif isinstance(event, StopAnnounced):
            if self.config.ends_cluster:
                self._announce_end(event.reason)
        elif isinstance(event, StopRequested):
            if self.config.ends_cluster:
                self._shut_down(event.reason)
            else:
                self._stop(event.reason)

    def place(self, now: float) -> None:
        """Do what the handlers marked. Once per drained batch of events."""
        if self.marks.placement_due and not self._is_announced:
            self.marks.placement_due = False
            self.placement.place_ready(now)
        if self.marks.credit_due:
            self.marks.credit_due = False
            self.placement.grant_credits(now)

    @property
    def unfinished_count(self) -> int:
        """Tasks that are ready, assigned or recovering (graph rows that wait are not tasks yet)."""
        return sum(len(client.tasks) for client in self.clients.values())

    def next_deadline(self) -> float:
        """When the next Tick is due."""
        deadline = min(self._maintenance_at, self._balance_at)
        if self.scaling is not None:
            deadline = min(deadline, self.scaling.next_deadline())
        if self.recovering:
            deadline = min(deadline, self.started_at + self.config.recovery_grace)
        if self._watched:
            deadline = min(deadline, self._snapshot_at)
        return deadline

    def _on_incoming(self, peer: Peer, envelope: Envelope, message: m.Message, now: float) -> None:
        kind = type(message)
        self.monitor.received[kind.__name__] += 1
        if kind is m.Hello:
            self._on_hello(peer, envelope, message, now)  # type: ignore[arg-type]
            return
        record = self._peers.get(peer)
        if record is None:
            self.outbox.send_outside_session(peer, m.UnknownPeer())
            return
        if envelope.epoch != record.session.epoch:
            return
        record.last_seen = now
        if type(record) is AgentRecord:
            record.lost_at = NEVER
        session = record.session
        accepted = session.accept(envelope, now, message_bytes(message))
        if session.gap:
            self.outbox.request_resend(record, now)
        if session.resend_wanted:
            self.outbox.send_all(peer, session.resend())
        elif session.acknowledge_due:
            self.outbox.send_plain(record, m.Heartbeat())
        if not accepted:
            return
        handled = self._handlers.get(kind)
        if handled is not None:
            role, handler = handled
            if type(record) is not role:
                raise SessionError(
                    f"a {kind.__name__} from {record.hello.name}, whose role is {record.hello.role.name}"
                )
            named = getattr(message, "client", record.id) if role is ClientRecord else record.id
            if named != record.id:
                raise SessionError(f"{record.hello.name} speaks in the name of client {short(named)}")
            handler(record, message, now)
        elif kind is m.Heartbeat:
            self._on_heartbeat(record, message, now)  # type: ignore[arg-type]
        elif kind is m.Goodbye:
            self._on_goodbye(record, message, now)  # type: ignore[arg-type]
        else:
            raise SessionError(f"a {kind.__name__} is not for the scheduler")

    def _on_hello(self, peer: Peer, envelope: Envelope, hello: m.Hello, now: float) -> None:
        refusal = self._refusal(peer, hello)
        if refusal is not None:
            self.outbox.log(
                "warning", f"refused {hello.role.name.lower()} {hello.name or short(hello.incarnation)}: {refusal}"
            )
            self.outbox.send_outside_session(peer, m.Refused(refusal))
            return
        record = self._peers.get(peer)
        resumed = (
            record is not None
            and hello.scheduler_incarnation == self.config.incarnation
            and record.id == hello.incarnation
            and record.session.epoch == envelope.epoch
        )
        if record is None or not resumed:
            if record is not None and record.is_untouched(hello):
                # One of several hellos that waited in the network together: nothing has happened since the last.
                record.begin_session(hello, now)
            else:
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
            ends_cluster=self.config.ends_cluster,
        )
        if resumed:
            session.accept(envelope, now)
        self.outbox.send_plain(record, welcome)
        if resumed:
            self.outbox.send_all(peer, session.resend())

    def _refusal(self, peer: Peer, hello: m.Hello) -> str | None:
        if hello.protocol_version != PROTOCOL_VERSION:
            return (
                f"this scheduler (Scaler {SOFTWARE_VERSION}) speaks protocol version {PROTOCOL_VERSION}, you "
                f"(Scaler {hello.software_version}) speak {hello.protocol_version}; install the same Scaler version "
                f"on both sides"
            )
        if hello.to_object_storage:
            return "this is a scheduler; object storage has another address"
        if hello.role not in (m.Role.CLIENT, m.Role.AGENT):
            return f"a {hello.role.name.lower()} does not connect here"
        if self.stopping or self._is_announced:
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
            self.marks.placement_due = True
            self.outbox.log("info", f"agent {hello.name} with {agent.slots} workers connected from {hello.hostname}")
            return agent
        client = ClientRecord(peer, hello, session, now)
        self.clients[client.id] = client
        self._peers[peer] = client
        self._retained.pop(client.id, None)
        self.outbox.add(KeepOwner(client.id))
        if not isinstance(peer, RelayedPeer):
            self.outbox.log("info", f"client {hello.name} connected from {hello.hostname}")
        return client

    def _on_heartbeat(self, record: PeerRecord, heartbeat: m.Heartbeat, now: float) -> None:
        if isinstance(record, AgentRecord) and heartbeat.processor_states:
            record.heartbeat = heartbeat
            self._set_capacity(record, heartbeat.capacity)
        if heartbeat.sent_at_seconds:
            self.outbox.send_plain(record, m.Heartbeat(echo_seconds=heartbeat.sent_at_seconds))

    def _on_goodbye(self, record: PeerRecord, message: m.Goodbye, now: float) -> None:
        kind = "agent" if isinstance(record, AgentRecord) else "client"
        if not isinstance(record.peer, RelayedPeer):
            self.outbox.log("info", f"{kind} {record.hello.name} left: {message.text}")
        self._drop(record, message.text or "it left", now, counted=False)

    def _on_unreachable(self, event: PeerUnreachable, now: float) -> None:
        """A connection is gone. Alone that is no reason to give a peer up: it may reconnect and resume.

        But an agent that was heard from until just now did not fall silent in a network failure: its process ended, or its
        connection was reset. Either it is back within `disconnect_grace`, or its tasks go elsewhere.
        """
        record = self._peers.get(event.peer)
        if not isinstance(record, AgentRecord) or record.lost_at != NEVER:
            return
        if now - record.last_seen < PROBE_AFTER_HEARTBEATS * 2 * self.config.heartbeat:
            record.lost_at = now + self.config.disconnect_grace
            self.outbox.log("debug", f"agent {record.name} is unreachable: {event.reason}")

    def _give_up(self, peer: Peer, reason: str, now: float) -> None:
        record = self._peers.get(peer)
        if record is None:
            return
        self.outbox.log("warning", f"gave up {record.hello.name}: {reason}")
        self._drop(record, reason, now, counted=True)
        # It learns from this that its session has ended, should it still live.
        self.outbox.send_outside_session(peer, m.UnknownPeer())

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
        # Oldest first is the order in which an agent starts tasks: as many as it has workers may have been running. Only
        # these have used up an attempt; the others just waited there.
        suspects = _first_of_units(held, agent.slots) if counted else []
        agent.tasks.clear()
        for task in suspects:
            task.failures += 1
        if self.monitor.listening:
            began = set(suspects)
            by_client: dict[bytes, list[Task]] = {}
            for task in held:
                if task not in began and not task.canceled:
                    by_client.setdefault(task.options.client.id, []).append(task)
            for tasks in by_client.values():
                numbers = [task.number for task in tasks]
                self.monitor.record(m.TaskEvent.RETURNED, tasks, numbers, agent.name, now)
        for task in reversed(held):
            self.lifecycle.unassign(task)
            if task.canceled:
                self.lifecycle.answer(task, m.Status.CANCELED, b"", now)
            elif task.failures >= self.config.attempts_max:
                lost = f"agent {agent.name} (pid {agent.hello.pid} on {agent.hello.hostname}) was lost: {reason}"
                sentence = self.lifecycle.all_attempts_failed(task) + lost
                self.lifecycle.answer(task, m.Status.WORKER_DIED, sentence.encode(), now)
            else:
                self.lifecycle.requeue(task)

    def _drop_client(self, client: ClientRecord, now: float, retain: bool) -> None:
        del self.clients[client.id]
        self.ready.drop_client(client.id)
        finished = Counter(task.function for task in client.tasks.values())
        self.functions.unfinished.subtract(finished)
        for task in client.tasks.values():
            if task.agent is not None:
                task.agent.tasks.pop(task, None)
                task.agent.leave_chain(task)
                self.agents.changed(task.agent)
            task.state = _FORGOTTEN
            task.agent = None
        for task in [task for task in self.recovering if task.state is _FORGOTTEN]:
            del self.recovering[task]
        self.monitor.canceled_count += len(client.tasks)
        client.tasks.clear()
        client.graphs.clear()
        self.functions.drop_client(client.id)
        self.recovery.drop_client(client.id)
        for agent in self.agents.by_peer.values():
            if agent.functions.pop(client.id, None) is not None:
                self.outbox.send(agent, m.ClientGone(client.id))
        if retain and self.config.object_retention > 0:
            self._retained[client.id] = now + self.config.object_retention
        else:
            self.outbox.to_store(m.ClientGone(client.id))
        self.marks.placement_due = self.marks.credit_due = True

    def _on_function_define(self, client: ClientRecord, message: m.FunctionDefine, now: float) -> None:
        names = message.names or ("",) * len(message.ids)
        for function_id, body, name in zip(message.ids, message.bodies.split(), names, strict=False):
            self.functions.define(client.id, function_id, body, name)

    def _on_task_batch(self, client: ClientRecord, batch: m.TaskBatch, now: float) -> None:
        self._check_functions(client, batch.functions, batch.serializer)
        options = client.options_for(
            batch.depth,
            batch.kind,
            batch.flags,
            batch.capabilities,
            batch.serializer,
            self.config.enforce_capabilities,
        )
        if batch.capabilities and not self.config.enforce_capabilities:
            tell_ignored(client, self.outbox)
        numbers, functions = batch.numbers, batch.functions
        if len(numbers) == 1 and not batch.function_indexes:
            tasks = [Task(numbers[0], functions[0], bytes(batch.payloads.data), options)]
        else:
            payloads = batch.payloads.split()
            if len(batch.function_indexes):
                per_task: Iterable[bytes] = [functions[index] for index in batch.function_indexes]
            else:
                per_task = functions * len(payloads)
            tasks = [
                Task(number, function, payload, options)
                for number, function, payload in zip(numbers, per_task, payloads, strict=False)
            ]
        if CARRIED:
            for task, carried in zip(tasks, carried_rows(batch, len(tasks)), strict=True):
                task.carried = carried
        known = client.tasks
        if not known.keys().isdisjoint(batch.numbers):
            # In a session nothing arrives twice; a number used twice is the client's mistake, the first use stands.
            tasks = [task for task in tasks if task.number not in known]
        if batch.objects:
            _attach_objects({task.number: task for task in tasks}, batch)
        unfinished = self.functions.unfinished
        for task in tasks:
            known[task.number] = task
            unfinished[task.function] += 1
        client.credit_granted = max(0, client.credit_granted - len(tasks))
        client.credit_moved_at = now
        if self.monitor.listening:
            # The batch's own column wherever no task of it was dropped.
            numbers = batch.numbers if len(tasks) == len(batch.numbers) else [task.number for task in tasks]
            self.monitor.record(m.TaskEvent.SUBMITTED, tasks, numbers, "", now)
        if batch.flags & m.TaskFlag.REANNOUNCED:
            tasks = self.lifecycle.recover(client, tasks, now)
        if tasks:
            self.ready.add_all(tasks)
            self.marks.placement_due = True

    def _on_graph_submit(self, client: ClientRecord, message: m.GraphSubmit, now: float) -> None:
        self._check_functions(client, message.functions, message.serializer)
        options = client.options_for(
            message.depth,
            m.TaskKind.CALL,
            message.flags & ~m.TaskFlag.REANNOUNCED,
            message.capabilities,
            message.serializer,
            self.config.enforce_capabilities,
        )
        if message.capabilities and not self.config.enforce_capabilities:
            tell_ignored(client, self.outbox)
        graph = Graph(message, options)
        client.graphs.append(graph)
        if message.flags & m.TaskFlag.REANNOUNCED:
            self._restart_graph(client, graph)
        self.lifecycle.queue_new(client, graph.release_roots(), now)

    def _restart_graph(self, client: ClientRecord, graph: Graph) -> None:
        """All rows run anew: stop what agents still hold of them, and never give an attempt's number twice."""
        for number in range(graph.first_number, graph.first_number + graph.row_count):
            claim = self.recovery.take_claim(client.id, number)
            if claim is not None:
                graph.attempts_before = max(graph.attempts_before, claim.attempt)
                self.outbox.send(claim.agent, m.TaskCancel(client.id, [number], [claim.attempt]))

    def _on_task_cancel(self, client: ClientRecord, message: m.TaskCancel, now: float) -> None:
        to_agents: dict[AgentRecord, list[Task]] = {}
        for number in message.numbers:
            task = client.tasks.get(number)
            if task is None:
                self.lifecycle.cancel_row(client, number, now)
            elif task.agent is not None:
                if not task.canceled:
                    task.canceled = True
                    to_agents.setdefault(task.agent, []).append(task)
            else:
                self.lifecycle.withdraw(task)
                self.lifecycle.answer(task, m.Status.CANCELED, b"", now)
        for agent, tasks in to_agents.items():
            self._send_cancel(agent, tasks)

    def _on_credit_request(self, client: ClientRecord, message: m.CreditRequest, now: float) -> None:
        client.credit_wanted = message.count
        self.marks.credit_due = True

    def _on_shutdown(self, client: ClientRecord, message: m.Shutdown, now: float) -> None:
        if self.config.protected:
            notice = m.Notice("this scheduler is protected: clients cannot shut it down", kind="protected")
            self.outbox.send_plain(client, notice)
            return
        self._shut_down(f"client {client.hello.name} asked for it")

    def _on_result_batch(self, agent: AgentRecord, batch: m.ResultBatch, now: float) -> None:
        if batch.capacity:
            agent.capacity = batch.capacity
        self.agents.changed(agent)
        self.marks.placement_due = True
        client = self.clients.get(batch.client)
        if client is None:
            self.recovery.keep_result(batch, now + self.config.client_timeout)
            return
        tasks = self.lifecycle.finish_plain(agent, client, batch)
        if tasks is None:
            self.lifecycle.finish_mixed(agent, client, batch, now)
            return
        self.monitor.success_count += len(tasks)
        if self.scaling is not None:
            self.scaling.observe(tasks, batch.durations)
        if self.monitor.listening:
            self.monitor.record(
                m.TaskEvent.SUCCESS, tasks, batch.numbers, agent.name, now, batch.durations, batch.slots
            )
        client.finished_count += len(tasks)
        self.outbox.send(client, batch)

    def _on_task_return(self, agent: AgentRecord, message: m.TaskReturn, now: float) -> None:
        self.agents.changed(agent)
        self.recovery.withdraw_claims(message.client, message.numbers, agent)
        client = self.clients.get(message.client)
        if client is None:
            return
        returned = []
        for number, attempt in zip(message.numbers, message.attempts, strict=False):
            task = client.tasks.get(number)
            if task is None or task.agent is not agent or task.attempt != attempt:
                continue
            self.lifecycle.unassign(task)
            returned.append(task)
        for task in returned:
            if task.canceled and task.state is not _FORGOTTEN:
                self.lifecycle.answer(task, m.Status.CANCELED, b"", now)
        # What needed a cancelled one has ended with it.
        returned = [task for task in returned if task.state is not _FORGOTTEN]
        if self.monitor.listening:
            self.monitor.record(m.TaskEvent.RETURNED, returned, [task.number for task in returned], agent.name, now)
        for task in reversed(returned):
            self.lifecycle.requeue(task)

    def _on_inventory(self, agent: AgentRecord, message: m.Inventory, now: float) -> None:
        """An agent in a new session says what it holds: adopt what is still wanted, stop the rest."""
        client = self.clients.get(message.client)
        unwanted = m.TaskCancel(message.client, [], [])
        for number, attempt in zip(message.numbers, message.attempts, strict=True):
            task = client.tasks.get(number) if client is not None else None
            graph = client.graph_of(number) if client is not None else None
            if client is None or (task is None and graph is None and self.lifecycle.may_still_announce(client, now)):
                deadline = (
                    now + self.config.client_timeout if client is None else self.lifecycle.announcement_deadline(client)
                )
                self.recovery.claim(message.client, number, Claim(agent, attempt), deadline)
                continue
            if task is not None and task.agent is None:
                self.lifecycle.withdraw(task)
                self.lifecycle.adopt(task, agent, attempt)
            else:
                if graph is not None:
                    graph.attempts_before = max(graph.attempts_before, attempt)
                unwanted.numbers.append(number)  # type: ignore[attr-defined]
                unwanted.attempts.append(attempt)  # type: ignore[attr-defined]
        if unwanted.numbers:
            self.outbox.send(agent, unwanted)
        # The agent knows this client's functions from before.
        agent.functions.setdefault(message.client, set())

    def _on_client_gone(self, agent: AgentRecord, message: m.ClientGone, now: float) -> None:
        client = self.clients.get(message.client)
        # Only the agent a client is relayed by can say so.
        if client is not None and client.peer == RelayedPeer(agent.peer, client.id):
            self._drop(client, "it ended", now, counted=False)

    def _on_drain(self, agent: AgentRecord, message: m.Drain, now: float) -> None:
        agent.draining = True
        self.agents.changed(agent)

    def _on_output(self, agent: AgentRecord, message: m.Output, now: float) -> None:
        client = self.clients.get(message.client)
        if client is not None:
            self.outbox.send_plain(client, message)

    def _on_chunk_failures(self, agent: AgentRecord, message: m.ChunkFailures, now: float) -> None:
        client = self.clients.get(message.client)
        task = client.tasks.get(message.number) if client is not None else None
        if client is None or task is None or task.agent is not agent or task.attempt != message.attempt:
            return
        if not message.count:
            self.monitor.note_short_form(task, message.payload)
            return
        client.failed_item_count += message.count
        name = self.functions.name(task.function)
        self.monitor.note_chunk_failures(task, message.count, message.payload, agent.name, name, now)

    def _on_relay(self, agent: AgentRecord, message: m.Relay, now: float) -> None:
        """A sign of life, no more: the shell hands the relayed message over as an event of its own."""

    def _set_capacity(self, agent: AgentRecord, capacity: int) -> None:
        if agent.capacity != capacity:
            agent.capacity = capacity
            self.agents.changed(agent)
            self.marks.placement_due = True

    def _on_tick(self, tick: Tick, now: float) -> None:
        self._watched = tick.monitors > 0
        if tick.joined and tick.store_asked:
            # What was last heard of the store is as old as the last monitor, or nothing yet.
            self._snapshot_at = max(self._snapshot_due, now + STORE_ANSWER_SECONDS)
        if self.monitor.listening and not tick.events:
            self.monitor.forget_events()
        self.monitor.listening = tick.events
        if tick.unix_time:
            self._unix_offset = tick.unix_time - now
        if self.recovering and now >= self.started_at + self.config.recovery_grace:
            self._end_recovery()
        if now >= self._maintenance_at:
            self._maintenance_at = now + MAINTENANCE_INTERVAL_SECONDS
            self._look_after_peers(now)
            self._unservable.report(now)
            self._expire(now)
            self.placement.lapse_credits(now)
            for client in self.clients.values():
                client.compact()
        if now >= self._balance_at:
            self._balance_at = now + self.config.load_balance_interval
            self.placement.balance()
        if self.scaling is not None and not self.stopping:
            self.scaling.look(now)
        if self._watched:
            self._publish(tick, now)

    def _look_after_peers(self, now: float) -> None:
        for record in list(self._peers.values()):
            if self._peers.get(record.peer) is not record:
                continue
            is_agent = isinstance(record, AgentRecord)
            timeout = self.config.worker_timeout if is_agent else self.config.client_timeout
            silent = now - record.last_seen
            if isinstance(record, AgentRecord) and now >= record.lost_at:
                self.outbox.log("warning", f"agent {record.name} lost its connection and did not come back: given up")
                self._drop(record, "its connection closed and it did not come back", now, counted=True)
            elif silent > timeout:
                kind = "agent" if is_agent else "client"
                self.outbox.log("warning", f"{kind} {record.hello.name} was silent for {silent:.0f} s: given up")
                self._drop(record, f"silent for {silent:.0f} s", now, counted=True, retain=True)
            elif record.session.acknowledge_pending or silent > PROBE_AFTER_HEARTBEATS * self.config.heartbeat:
                self.outbox.send_plain(record, m.Heartbeat())

    def _expire(self, now: float) -> None:
        for client_id in self.recovery.expired(now):
            claims = self.recovery.drop_client(client_id)
            if client_id in self.clients:
                # It is back, and did not announce these: they were answered before.
                for number, claim in claims.items():
                    self.outbox.send(claim.agent, m.TaskCancel(client_id, [number], [claim.attempt]))
                continue
            self.outbox.log("info", f"client {short(client_id)} did not come back: its tasks are dropped")
            for agent in self.agents.by_peer.values():
                if agent.functions.pop(client_id, None) is not None:
                    self.outbox.send(agent, m.ClientGone(client_id))
            self.outbox.to_store(m.ClientGone(client_id))
        for client_id in [c for c, deadline in self._retained.items() if now >= deadline]:
            del self._retained[client_id]
            self.outbox.to_store(m.ClientGone(client_id))

    def _end_recovery(self) -> None:
        tasks = list(self.recovering)
        self.recovering.clear()
        for task in tasks:
            task.state = _READY
            self.ready.add(task)
        self.marks.placement_due = True

    def _publish(self, tick: Tick, now: float) -> None:
        if self.monitor.listening:
            events = self.monitor.take_events(self.functions, now, self._unix_offset)
            if events is not None:
                self.outbox.add(Publish(events))
        failures = self.monitor.failures(self._unix_offset, all_kept=tick.joined)
        if failures is not None:
            self.outbox.add(Publish(failures))
        if now >= self._snapshot_at:
            self._snapshot_at = self._snapshot_due = now + self.config.snapshot_interval
            if self.scaling is not None:
                self.monitor.adapters = self.scaling.statuses()
            snapshot = self.monitor.snapshot(
                now,
                tick.unix_time,
                self.started_at,
                tick.cpu_percent,
                tick.rss_bytes,
                list(self.agents.by_peer.values()),
                self.clients.values(),
                self.functions,
            )
            self.outbox.add(Publish(snapshot))

    def _announce_end(self, reason: str) -> None:
        """Tell clients, those inside tasks too, that the cluster ends. Nobody waits any more for what has not started."""
        if self.stopping or self._is_announced:
            return
        self._is_announced = True
        for client in self.clients.values():
            # Not a goodbye: after that a client waits for a successor.
            self.outbox.send_plain(client, m.Shutdown(reason))

    def _shut_down(self, reason: str) -> None:
        """End the whole cluster."""
        if self.stopping:
            return
        self._announce_end(reason)
        for agent in self.agents.by_peer.values():
            self.outbox.send_plain(agent, m.Shutdown(reason))
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        """End this process only: clients and agents keep what they hold, and find the scheduler that comes after it."""
        if self.stopping:
            return
        self.stopping = True
        self.outbox.log("info", f"stopping: {reason}")
        self.outbox.to_store(m.Shutdown(reason))
        self.outbox.add(Stop(reason))

    def _send_cancel(self, agent: AgentRecord, tasks: Sequence[Task]) -> None:
        by_client: dict[bytes, list[Task]] = {}
        for task in tasks:
            by_client.setdefault(task.options.client.id, []).append(task)
        for client_id, group in by_client.items():
            numbers, attempts = [task.number for task in group], [task.attempt & 0xFFFF for task in group]
            self.outbox.send(agent, m.TaskCancel(client_id, numbers, attempts))

    def _check_functions(self, client: ClientRecord, functions: Sequence[bytes], serializer: bytes) -> None:
        for function_id in (*functions, serializer) if serializer else functions:
            if not self.functions.knows(client.id, function_id):
                raise SessionError(f"{client.name} uses function {short(function_id)} before defining it")


def _first_of_units(tasks: Iterable[Task], count: int) -> list[Task]:
    """Return the first of `tasks`, but no more than one of each chain."""
    first: list[Task] = []
    chains: set[Chain] = set()
    for task in tasks:
        if len(first) == count:
            break
        if task.chain is not None:
            if task.chain in chains:
                continue
            chains.add(task.chain)
        first.append(task)
    return first


def _attach_objects(tasks: dict[int, Task], batch: m.TaskBatch) -> None:
    for row, object_id in zip(batch.object_positions, batch.objects, strict=True):
        task = tasks.get(batch.numbers[row])
        if task is not None:
            task.objects = (*task.objects, object_id)
