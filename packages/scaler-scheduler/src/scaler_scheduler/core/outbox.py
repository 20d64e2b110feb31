"""The effects that the core wants, in order. Every message to a peer is counted here and gets its envelope."""

from __future__ import annotations

from collections.abc import Iterable

from scaler_protocol.errors import SessionError
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.session import Outgoing
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope
from scaler_scheduler.core import effects
from scaler_scheduler.core.agents import AgentPool
from scaler_scheduler.core.events import Peer, RelayedPeer
from scaler_scheduler.core.monitor import Monitor
from scaler_scheduler.core.records import PeerRecord


class MessageOutbox(Outbox[effects.Effect]):
    """Effects that the shell has not taken yet."""

    __slots__ = ("_agents", "_monitor")

    def __init__(self, monitor: Monitor, agents: AgentPool) -> None:
        super().__init__()
        self._monitor = monitor
        self._agents = agents

    def to_store(self, message: m.ClientGone | m.ObjectDelete | m.ObjectsGone | m.Shutdown) -> None:
        """Send a message to the object storage server."""
        self.add(effects.ToStore(message))

    def send(self, record: PeerRecord, message: m.Message) -> None:
        """Send a message that must not be lost."""
        self._monitor.sent[type(message).__name__] += 1
        try:
            envelope, message = record.session.sequence(message)
        except SessionError as error:
            # Too many bytes wait for this peer. It is given up at the next look, because a transition may be under way now.
            if not record.overflowed:
                record.overflowed = True
                self.log("warning", f"{record.hello.name} does not keep up: {error}")
            return
        peer = record.peer
        if type(peer) is bytes:
            # The road of every task: neither a call of `add` nor one of the constructor.
            self._effects.append(new_tuple(effects.Send, (peer, envelope, message, None)))
        else:
            self._add_send(peer, envelope, message)

    def send_plain(self, record: PeerRecord, message: m.Message) -> None:
        """Send a message that may be lost."""
        self._monitor.sent[type(message).__name__] += 1
        self._add_send(record.peer, *record.session.plain(message))

    def send_all(self, peer: Peer, outgoing: Iterable[Outgoing]) -> None:
        """Send messages again that have their envelopes."""
        for envelope, message in outgoing:
            self._add_send(peer, envelope, message)

    def send_outside_session(self, peer: Peer, message: m.Message) -> None:
        """Send a message to a peer without a session."""
        self._monitor.sent[type(message).__name__] += 1
        self._add_send(peer, UNSEQUENCED, message)

    def request_resend(self, record: PeerRecord, now: float) -> None:
        """Ask a peer to repeat messages that were lost on the way here."""
        self._add_send(record.peer, record.session.request_resend(now), m.Heartbeat())

    def _add_send(self, peer: Peer, envelope: Envelope, message: m.Message) -> None:
        if isinstance(peer, RelayedPeer):
            agent = self._agents.by_peer.get(peer.agent)
            if agent is not None:
                # The envelope is made here, in order. Made later, it would count messages that leave after it. The agent
                # would miss them and ask for them again.
                self.add(effects.Send(peer, envelope, message, agent.session.plain(message).envelope))
            return
        self.add(effects.Send(peer, envelope, message))

    def log(self, level: str, text: str) -> None:
        """Write a line to the log. `level` is a name of the logging module, in lower case."""
        self.add(effects.Log(level, text))
