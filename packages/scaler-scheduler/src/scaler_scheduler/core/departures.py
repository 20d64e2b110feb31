"""What ends with a peer: an agent's tasks go elsewhere, and everything of a client is given up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_lists import portions_of
from scaler_scheduler.core.answers import Answers
from scaler_scheduler.core.events import RelayedPeer
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.placement import forget_ended
from scaler_scheduler.core.records import AgentRecord, Chain, ClientRecord, PeerRecord, Task
from scaler_scheduler.core.recovery import Claim
from scaler_scheduler.core.state import SchedulerState


class Departures:
    """Removes peers, at once or when the time in which they may come back is over."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle, rows: GraphRows, answers: Answers) -> None:
        self._config = state.config
        self._peers = state.peers
        self._clients = state.clients
        self._inside_tasks = state.inside_tasks
        self._agents = state.agents
        self._functions = state.functions
        self._recovery = state.recovery
        self._lost_attempts = state.lost_attempts
        self._resources = state.resources
        self._monitor = state.monitor
        self._outbox = state.outbox
        self._marks = state.marks
        self._locks = state.locks
        self._groups = state.groups
        self._lifecycle = lifecycle
        self._rows = rows
        self._answers = answers
        self._retained: dict[bytes, float] = {}
        """Clients that are given up, and until when their objects are kept."""
        self._forget_client: Callable[[bytes], None]

    def begin(self, forget_client: Callable[[bytes], None]) -> None:
        """To be called first. `forget_client` ends what a client, by its id, waits for beside its tasks."""
        self._forget_client = forget_client

    def remove(self, record: PeerRecord, reason: str, now: float, *, counted: bool, retain: bool = False) -> None:
        """End a peer's session and everything that belongs to it.

        `counted`: what an agent was running has used up an attempt. `retain`: a client's objects are kept for a while.
        """
        if self._peers.get(record.peer) is record:
            del self._peers[record.peer]
        if isinstance(record, AgentRecord):
            self._remove_agent(record, reason, now, counted)
        else:
            self._remove_client(record, now, retain)

    def remove_job(self, client: ClientRecord, now: float) -> None:
        """A job is forgotten, for which this record stood among the clients."""
        self._remove_client(client, now, retain=False)

    def keep(self, client_id: bytes) -> None:
        """A client is here again: its objects stay."""
        self._retained.pop(client_id, None)

    def _remove_agent(self, agent: AgentRecord, reason: str, now: float, counted: bool) -> None:
        self._agents.remove(agent)
        self._recovery.drop_agent(agent)
        for client in [self._clients[client_id] for client_id in self._inside_tasks]:
            if isinstance(client.peer, RelayedPeer) and client.peer.agent == agent.peer:
                self.remove(client, "its worker is gone", now, counted=False)
        held = list(agent.tasks)
        # Oldest first is the order in which an agent starts tasks: as many as it has workers may have been running. Only
        # these have used up an attempt; the others just waited there.
        suspects = _first_of_units(held, agent.slots) if counted else []
        for task in suspects:
            self._lifecycle.note_failed_attempt(task)
        if self._monitor.listening:
            self._record_returned(agent, held, set(suspects), now)
        lost = f"agent {agent.name} (pid {agent.hello.pid} on {agent.hello.hostname}) was lost: {reason}"
        for task in reversed(held):
            if task.agent is not agent:
                # It was released behind one that has just failed, and ended with that.
                continue
            self._lost_attempts.note(agent, task.options.client.id, task.number, task.attempt)
            self._lifecycle.unassign(task)
            self._answers.answer_or_requeue(task, lost, now)
        # What its tasks had of the cluster's limits, and of the limits of their groups, is free for others.
        self._marks.placement_due = True
        # Groups of agents forget this one late.
        forget_ended(agent)

    def _record_returned(self, agent: AgentRecord, held: list[Task], began: set[Task], now: float) -> None:
        by_client: dict[bytes, list[Task]] = {}
        for task in held:
            if task not in began and not task.canceled:
                by_client.setdefault(task.options.client.id, []).append(task)
        for tasks in by_client.values():
            self._monitor.record(m.TaskEvent.RETURNED, tasks, [task.number for task in tasks], agent.name, now)

    def _remove_client(self, client: ClientRecord, now: float, retain: bool) -> None:
        del self._clients[client.id]
        self._inside_tasks.pop(client.id, None)
        self._lifecycle.drop_all(client)
        self._locks.drop_client(client.id)
        self._forget_client(client.id)
        if self._groups is not None:
            self._groups.remove(client)
        has_serializer = client.has_serializer
        client.forget_options()
        self._rows.close_all(client)
        self._functions.drop_client(client.id)
        self._recovery.drop_client(client.id)
        self._monitor.drop_client(client, self._clients)
        # Its environment, which travels as a serializer, may be where only tasks of its tasks have run.
        self._tell_agents(client.id, all_of_them=has_serializer)
        if retain and self._config.object_retention_seconds > 0:
            self._retained[client.id] = now + self._config.object_retention_seconds
        else:
            self._outbox.to_store(m.ClientGone(client.id))
        self._marks.placement_due = self._marks.credit_due = True

    def _tell_agents(self, client_id: bytes, all_of_them: bool = False) -> None:
        for agent in self._agents.by_peer.values():
            has_grants = self._resources.leave(agent, client_id)
            if agent.forget_functions(client_id) or all_of_them or has_grants:
                self._outbox.send(agent, m.ClientGone(client_id))

    @property
    def awaited(self) -> Collection[bytes]:
        """Clients that have ended, and whose end object storage is to hear later."""
        return self._retained.keys()

    def note_back(self, client: ClientRecord) -> None:
        """A client has a session, which may have had one with an earlier scheduler."""
        for number, attempt in self._recovery.take_refused(client.id).items():
            self._lifecycle.note_refused_attempt(client, number, attempt)

    def expire(self, now: float) -> None:
        """Give up what is kept for clients that did not come back in time."""
        for client_id in self._recovery.expired(now):
            client = self._clients.get(client_id)
            if client is not None and self._rows.takes_up(client):
                # These take their time, and have begun to wait before.
                continue
            claims = self._recovery.drop_client(client_id)
            if client is not None:
                # It is back, and did not announce these: they were answered before.
                self._stop_claimed(client, claims)
                continue
            self._outbox.log("info", f"client {short(client_id)} did not come back: its tasks are dropped")
            self._tell_agents(client_id)
            self._outbox.to_store(m.ClientGone(client_id))
        for client_id in [c for c, deadline in self._retained.items() if now >= deadline]:
            del self._retained[client_id]
            self._outbox.to_store(m.ClientGone(client_id))

    def _stop_claimed(self, client: ClientRecord, claims: Mapping[int, Claim]) -> None:
        by_agent: dict[AgentRecord, dict[int, int]] = {}
        for number, claim in claims.items():
            self._lifecycle.note_refused_attempt(client, number, claim.attempt)
            by_agent.setdefault(claim.agent, {})[number] = claim.attempt
        for agent, attempts in by_agent.items():
            for portion in portions_of(m.TaskCancel(client.id, list(attempts), list(attempts.values()))):
                self._outbox.send(agent, portion)


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
