"""Who is connected: greetings, sequences, silence. What an accepted message means is for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from scaler_protocol.errors import SessionError
from scaler_protocol.ids import short
from scaler_protocol.runtime.counted import counted
from scaler_protocol.session import Session, message_bytes
from scaler_protocol.version import PROTOCOL_VERSION, SOFTWARE_VERSION
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.departures import Departures
from scaler_scheduler.core.events import Peer, RelayedPeer
from scaler_scheduler.core.limits import (
    INSIDE_AGENT_MAX,
    NAME_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    excess_of,
)
from scaler_scheduler.core.records import NEVER, AgentRecord, ClientRecord, PeerRecord
from scaler_scheduler.core.refusal_log import RefusalLog
from scaler_scheduler.core.shutdown import Shutdown
from scaler_scheduler.core.state import SchedulerState

PROBE_AFTER_HEARTBEATS = 1.5
"""A peer that missed so many heartbeats is sent one: if its connection is gone, the transport says so."""

Record = TypeVar("Record", AgentRecord, ClientRecord)
"""Whoever may send a message."""

Handler = Callable[[Record, Any, float], None]
"""Takes the sender, its message and the time."""


class PeerSessions:
    """The sessions of all peers."""

    def __init__(
        self,
        state: SchedulerState,
        departures: Departures,
        shutdown: Shutdown,
        from_clients: Mapping[type[Any], Handler[ClientRecord]],
        from_agents: Mapping[type[Any], Handler[AgentRecord]],
        on_heartbeat: Callable[[AgentRecord, m.Heartbeat], None],
    ) -> None:
        """`from_clients` and `from_agents`: what to do about each kind of message that only they may send."""
        self._config = state.config
        self._policy = state.policy
        self._peers = state.peers
        self._clients = state.clients
        self._inside_tasks = state.inside_tasks
        self._agents = state.agents
        self._monitor = state.monitor
        self._outbox = state.outbox
        self._groups = state.groups
        self._refusals = RefusalLog(state.outbox)
        self._marks = state.marks
        self._departures = departures
        self._shutdown = shutdown
        self._on_agent_heartbeat = on_heartbeat
        self._handlers: dict[type[Any], tuple[type[PeerRecord], Callable[[Any, Any, float], None]]] = {
            **{kind: (ClientRecord, on_request) for kind, on_request in from_clients.items()},
            **{kind: (AgentRecord, on_report) for kind, on_report in from_agents.items()},
        }

    def receive(self, peer: Peer, envelope: Envelope, message: m.Message, now: float) -> None:
        """Take a message in. Raises SessionError where the peer breaks the rules."""
        kind = type(message)
        self._monitor.received[kind.__name__] += 1
        if kind is m.Hello:
            self._on_hello(peer, envelope, message, now)  # type: ignore[arg-type]
            return
        record = self._peers.get(peer)
        if record is None:
            if kind is m.SchedulerStatus:
                if isinstance(peer, bytes):
                    self._outbox.add(effects.StatusHeard(peer, message))  # type: ignore[arg-type]
            elif self._config.is_first:
                self._outbox.send_outside_session(peer, m.UnknownPeer())
            return
        if envelope.epoch != record.session.epoch:
            return
        record.last_seen = now
        if type(record) is AgentRecord:
            record.lost_at = NEVER
        session = record.session
        accepted = session.accept(envelope, now, message_bytes(message))
        if session.gap:
            self._outbox.request_resend(record, now)
        if session.resend_wanted:
            self._outbox.send_all(peer, session.resend())
        elif session.acknowledge_due:
            self._outbox.send_plain(record, m.Heartbeat())
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
            self._on_heartbeat(record, message)  # type: ignore[arg-type]
        elif kind is m.Goodbye:
            self._on_goodbye(record, message, now)  # type: ignore[arg-type]
        else:
            raise SessionError(f"a {kind.__name__} is not for the scheduler")

    def _on_hello(self, peer: Peer, envelope: Envelope, hello: m.Hello, now: float) -> None:
        refusal = self.refusal(peer, hello)
        if refusal is not None:
            name = hello.name[:NAME_CHARACTERS_MAX] or short(hello.incarnation)
            self._refusals.note(f"refused {hello.role.name.lower()} {name}: {refusal}", now)
            self._outbox.send_outside_session(peer, m.Refused(refusal))
            return
        if not self._config.is_first or hello.term > self._config.term:
            self._turn_away(peer, hello)
            return
        record = self._peers.get(peer)
        resumed = (
            record is not None
            and hello.scheduler_incarnation == self._config.incarnation
            and record.id == hello.incarnation
            and record.session.epoch == envelope.epoch
        )
        if record is None or not resumed:
            if record is not None and record.is_untouched(hello):
                # One of several hellos that waited in the network together: nothing has happened since the last.
                record.begin_session(hello)
            else:
                if record is not None:
                    self._departures.remove(record, "it started its session anew", now, counted=False)
                record = self._admit(peer, hello, now)
        record.last_seen = now
        session = record.session
        if resumed:
            session.accept(envelope, now)
        self._outbox.send_plain(record, self._welcome(hello, resumed=resumed))
        if resumed:
            self._outbox.send_all(peer, session.resend())

    def _turn_away(self, peer: Peer, hello: m.Hello) -> None:
        """Another scheduler is first, or was after this one."""
        self._outbox.add(effects.PeerAsked(hello.term))
        self._outbox.send_outside_session(peer, self._not_first())

    def _not_first(self) -> m.SchedulerStatus:
        return m.SchedulerStatus(self._config.term, False, self._config.incarnation, answers=True)

    def dismiss_all(self) -> None:
        """This scheduler is not first any more: have all peers look for the one that is. They keep what they hold."""
        for peer in self._peers:
            if isinstance(peer, bytes):
                self._outbox.send_outside_session(peer, self._not_first())

    def _welcome(self, hello: m.Hello, *, resumed: bool) -> m.Welcome:
        config = self._config
        is_agent = hello.role is m.Role.AGENT
        return m.Welcome(
            incarnation=config.incarnation,
            resumed=resumed,
            object_storage_address=config.object_storage_address,
            monitor_address=config.monitor_address,
            heartbeat_seconds=config.heartbeat_seconds,
            timeout_seconds=config.worker_timeout_seconds if is_agent else config.client_timeout_seconds,
            protected=config.protected or not self._shutdown.may_be_asked_by(hello.incarnation),
            task_credit=-1 if config.max_number_of_tasks_waiting < 0 else 0,
            capability_policy=self._policy.enforces_capabilities,
            hello_number=hello.hello_number,
            ends_cluster=config.ends_cluster,
            dashboard_url=config.dashboard_url,
            term=config.term,
        )

    def refusal(self, peer: Peer, hello: m.Hello) -> str | None:
        """Return why a peer with this hello is not let in; None: it is."""
        if hello.protocol_version != PROTOCOL_VERSION:
            return (
                f"this scheduler (Scaler {SOFTWARE_VERSION}) speaks protocol version {PROTOCOL_VERSION}, you "
                f"(Scaler {hello.software_version}) speak {hello.protocol_version}; install the same Scaler version "
                f"on both sides"
            )
        excess = excess_of(hello)
        if excess is not None:
            return excess
        if hello.to_object_storage:
            return "this is a scheduler; object storage has another address"
        if hello.role not in (m.Role.CLIENT, m.Role.AGENT):
            return f"a {hello.role.name.lower()} does not connect here"
        if self._shutdown.stopping or self._shutdown.announced:
            return "the scheduler is stopping"
        if isinstance(peer, RelayedPeer) and (
            hello.role is not m.Role.CLIENT or peer.agent not in self._agents.by_peer
        ):
            return "only clients inside tasks of a connected agent are relayed"
        if isinstance(peer, RelayedPeer) and hello.incarnation != peer.client:
            return "the relayed client is another one than it says"
        if isinstance(peer, RelayedPeer) and peer not in self._peers:
            count = list(self._inside_tasks.values()).count(peer.agent)
            if count >= INSIDE_AGENT_MAX:
                return f"the tasks of its agent have {count} clients, at most {INSIDE_AGENT_MAX} are accepted"
        known = self._clients.get(hello.incarnation) or self._agents.by_peer.get(hello.incarnation)
        if known is not None and known.peer != peer:
            # Otherwise it would get the results of the other one.
            return f"another connection has the identity of this {hello.role.name.lower()}"
        if self._groups is not None and hello.role is m.Role.CLIENT:
            misplaced = self._groups.refusal(peer, hello.group)
            if misplaced is not None:
                return misplaced
        # Only agents count: a client of another version must not keep everybody else out. All of them passed this check, so
        # one comparison speaks for all.
        for agent in self._agents.by_peer.values():
            return _misfit(hello, agent)
        return None

    def _admit(self, peer: Peer, hello: m.Hello, now: float) -> PeerRecord:
        session = Session(hello.hello_number)
        if hello.role is m.Role.AGENT:
            assert isinstance(peer, bytes)
            agent = AgentRecord(peer, hello, session, now)
            is_first = not self._agents.by_peer
            self._agents.add(agent)
            self._peers[peer] = agent
            if is_first:
                self._give_up_misfits(agent, now)
            self._marks.placement_due = True
            self._outbox.log(
                "info", f"agent {hello.name} with {counted(agent.slots, 'worker')} connected from {hello.hostname}"
            )
            return agent
        client = ClientRecord(peer, hello, session, now)
        self._clients[client.id] = client
        if isinstance(peer, RelayedPeer):
            self._inside_tasks[client.id] = peer.agent
        if self._groups is not None:
            self._groups.admit(client, self._clients)
        self._peers[peer] = client
        self._departures.keep(client.id)
        self._departures.note_back(client)
        self._outbox.add(effects.KeepOwner(client.id))
        if not isinstance(peer, RelayedPeer):
            self._outbox.log("info", f"client {hello.name} connected from {hello.hostname}")
        return client

    def _give_up_misfits(self, agent: AgentRecord, now: float) -> None:
        """The first agent decides about the Python version. Clients that were here before it are told when they return."""
        for client in list(self._clients.values()):
            misfit = _misfit(client.hello, agent)
            if misfit is not None:
                self.give_up(client.peer, misfit, now)

    def _on_heartbeat(self, record: PeerRecord, heartbeat: m.Heartbeat) -> None:
        if isinstance(record, AgentRecord):
            self._on_agent_heartbeat(record, heartbeat)
        if heartbeat.sent_at_seconds:
            self._outbox.send_plain(record, m.Heartbeat(echo_seconds=heartbeat.sent_at_seconds))

    def _on_goodbye(self, record: PeerRecord, message: m.Goodbye, now: float) -> None:
        kind = "agent" if isinstance(record, AgentRecord) else "client"
        reason = message.text[:REASON_CHARACTERS_MAX]
        if not isinstance(record.peer, RelayedPeer):
            self._outbox.log("info", f"{kind} {record.hello.name} left: {reason}")
        self._departures.remove(record, reason or "it left", now, counted=False)

    def on_unreachable(self, event: events.PeerUnreachable, now: float) -> None:
        """A connection is gone. Alone that is no reason to give a peer up: it may reconnect and resume.

        But an agent that was heard from until just now did not fall silent in a network failure: its process ended, or its
        connection was reset. Either it is back within `disconnect_grace_seconds`, or its tasks go elsewhere.
        """
        record = self._peers.get(event.peer)
        if not isinstance(record, AgentRecord) or record.lost_at != NEVER:
            return
        if now - record.last_seen < PROBE_AFTER_HEARTBEATS * 2 * self._config.heartbeat_seconds:
            record.lost_at = now + self._config.disconnect_grace_seconds
            self._outbox.log("debug", f"agent {record.name} is unreachable: {event.reason}")

    def give_up(self, peer: Peer, reason: str, now: float, *, retain: bool = False) -> None:
        """End a peer's session, and its connection too, unless it is a client inside a task: its agent has broken no rule.

        `retain`: the peer has broken no rule either and may come back, so its connection stays, and a client's objects are
        kept for a while.
        """
        record = self._peers.get(peer)
        if record is None:
            return
        self._outbox.log("warning", f"gave up {record.hello.name}: {reason}")
        self._departures.remove(record, reason, now, counted=True, retain=retain)
        # It learns from this that its session has ended, should it still live.
        self._outbox.send_outside_session(peer, m.UnknownPeer())
        if not retain and isinstance(peer, bytes):
            self._outbox.add(effects.Disconnect(peer, reason))

    def log_refusals(self, now: float) -> None:
        """Say how many refused peers were left out of the log. To be called now and then."""
        self._refusals.end_period(now)

    def look_after(self, record: PeerRecord, now: float) -> bool:
        """Give a peer up if it is gone for good, or probe or acknowledge it where that is due. Return whether it goes on."""
        is_agent = isinstance(record, AgentRecord)
        timeout = self._config.worker_timeout_seconds if is_agent else self._config.client_timeout_seconds
        silent = now - record.last_seen
        excess = record.excess() if isinstance(record, ClientRecord) else None
        if excess is not None:
            self.give_up(record.peer, excess, now)
        elif record.overflowed:
            self.give_up(record.peer, "it does not keep up with what it is sent", now, retain=True)
        elif isinstance(record, AgentRecord) and now >= record.lost_at:
            self._outbox.log("warning", f"agent {record.name} lost its connection and did not come back: given up")
            self._departures.remove(record, "its connection closed and it did not come back", now, counted=True)
        elif silent > timeout:
            kind = "agent" if is_agent else "client"
            self._outbox.log("warning", f"{kind} {record.hello.name} was silent for {silent:.0f} s: given up")
            self._departures.remove(record, f"silent for {silent:.0f} s", now, counted=True, retain=True)
        else:
            if record.session.acknowledge_pending or silent > PROBE_AFTER_HEARTBEATS * self._config.heartbeat_seconds:
                self._outbox.send_plain(record, m.Heartbeat())
            return True
        return False


def _misfit(hello: m.Hello, agent: AgentRecord) -> str | None:
    """Return why tasks cannot move between a peer and the agents; None if they can."""
    if hello.python_version == agent.hello.python_version:
        return None
    if not hello.python_version and hello.role is m.Role.CLIENT:
        # Not written in Python: it sends plain data and no pickles.
        return None
    return (
        f"Python {hello.python_version} does not fit this cluster, where {agent.name} runs Python "
        f"{agent.hello.python_version}: pickled functions do not move between Python versions"
    )
