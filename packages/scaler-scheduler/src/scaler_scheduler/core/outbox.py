"""What the core wants sent and done, in order. Every message to a peer passes here, is counted, and gets its envelope."""

from __future__ import annotations

from collections.abc import Iterable

from scaler_protocol import messages as m
from scaler_protocol.errors import SessionError
from scaler_protocol.session import Outgoing
from scaler_protocol.wire import UNSEQUENCED
from scaler_scheduler.core.agents import AgentRecord
from scaler_scheduler.core.clients import ClientRecord
from scaler_scheduler.core.effects import Effect, Log, Send, ToStore
from scaler_scheduler.core.events import Peer
from scaler_scheduler.core.monitor import Monitor

# Without the detour over the class's own constructor: this is done for every message.
_new = tuple.__new__

PeerRecord = ClientRecord | AgentRecord


class Outbox:
    """Effects that the shell has not taken yet."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._effects: list[Effect] = []

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def to_store(self, message: m.ClientGone | m.ObjectDelete | m.Shutdown) -> None:
        self._effects.append(ToStore(message))

    def send(self, record: PeerRecord, message: m.Message) -> None:
        """Send what must not be lost."""
        self._monitor.sent[type(message).__name__] += 1
        try:
            envelope, message = record.session.sequence(message)
        except SessionError as error:
            # Too much waits for this peer. It is given up at the next look, not in the middle of a transition.
            record.last_seen = float("-inf")
            self.log("warning", f"{record.hello.name} does not keep up: {error}")
            return
        self._effects.append(_new(Send, (record.peer, envelope, message)))

    def send_plain(self, record: PeerRecord, message: m.Message) -> None:
        """Send what may be lost."""
        self._monitor.sent[type(message).__name__] += 1
        self._effects.append(Send(record.peer, *record.session.plain(message)))

    def send_all(self, peer: Peer, outgoing: Iterable[Outgoing]) -> None:
        self._effects.extend(Send(peer, envelope, message) for envelope, message in outgoing)

    def send_outside_session(self, peer: Peer, message: m.Message) -> None:
        self._monitor.sent[type(message).__name__] += 1
        self._effects.append(Send(peer, UNSEQUENCED, message))

    def log(self, level: str, text: str) -> None:
        self._effects.append(Log(level, text))
