"""The initiating end of a session: hello, welcome, heartbeats, silence, resuming. Clients and agents own one each.

    CONNECTING ──welcome──▶ ESTABLISHED ──silence──▶ (hello again, still ESTABLISHED) ──welcome, resumed──▶ …
        │                       │                                     └─welcome, new──▶ everything is announced again
        └──refused──▶ CLOSED ◀──┴── silence for `give_up_seconds` ──▶ Lost

`receive` and `tick` return what happened, as events. Messages to send are in `outgoing`, in order.

Where there are several schedulers, one of them is first, and its *term* is higher than that of those before it. A connection
remembers the highest term it has obeyed, says it in each hello, and never goes back to a scheduler with a lower one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from scaler_protocol.errors import SessionError
from scaler_protocol.runtime.values import value
from scaler_protocol.session.address_round import HEARTBEAT_SECONDS, AddressRound
from scaler_protocol.session.sequencing import Outgoing, Session, message_bytes
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope


@value
class Established:
    """There is a session. Unless it is `resumed`, the other end knows nothing of this one: announce everything unfinished."""

    welcome: m.Welcome
    resumed: bool


@value
class Received:
    """A new message for the owner, in order."""

    message: m.Message


@value
class RefusedByPeer:
    """The other end refuses this one for good."""

    reason: str


@value
class HeartbeatDue:
    """It is time for the owner to call `heartbeat`."""


@value
class Lost:
    """Nothing was heard for `give_up_seconds`; reported once per silence. The connection goes on trying."""

    silent_seconds: float


@value
class AddressChanged:
    """The scheduler is sought at another address from now on. What is in `outgoing` is to be sent there."""

    address: str


ConnectionEvent = Established | Received | RefusedByPeer | HeartbeatDue | Lost | AddressChanged


_OUTSIDE_SESSIONS = (m.Refused, m.Welcome, m.UnknownPeer, m.SchedulerStatus)


class ConnectionState(Enum):
    """The state of a connection."""

    CONNECTING = "connecting"
    ESTABLISHED = "established"
    CLOSED = "closed"


class Connection:
    """See the module. `hello` is repeated with what is needed to resume; `give_up_seconds` bounds every silence.

    `addresses`: those of all schedulers, of which the owner connects to the first one. With one, or none, nothing changes ever.
    """

    def __init__(
        self,
        hello: m.Hello,
        *,
        heartbeat_seconds: float = 2.0,
        give_up_seconds: float = 60.0,
        addresses: Sequence[str] = (),
    ) -> None:
        self.state = ConnectionState.CONNECTING
        self.established = False
        """Whether `state` is ESTABLISHED. An attribute and no property, because it is read many times for every message."""
        self.outgoing: list[Outgoing] = []
        self.session = Session()
        self.welcome: m.Welcome | None = None
        self.latency_seconds = 0.0
        self.silent_since = 0.0
        self.term = 0
        """The highest term obeyed."""
        self.met_standby = False
        """Whether what answered last was a scheduler that is not first."""
        self._addresses = AddressRound(addresses)
        if self._addresses.several:
            heartbeat_seconds = min(heartbeat_seconds, HEARTBEAT_SECONDS)
        self._hello = hello
        self._hello_number = 0
        self._hello_at = 0.0
        self._hello_unanswered = False
        self._heartbeat_seconds = heartbeat_seconds
        self._heartbeat_at = 0.0
        self._give_up_seconds = give_up_seconds
        self._reported_lost = False

    @property
    def address(self) -> str:
        """The address in use; empty where the owner has given none."""
        return self._addresses.current

    def is_silent(self, now: float) -> bool:
        """Whether the other end has left a hello unanswered, which it is sent after two heartbeats without an answer."""
        return not self.established or (
            self._hello_unanswered and now >= self.silent_since + 2 * self._heartbeat_seconds
        )

    # --- sending

    def start(self, now: float) -> None:
        """Say hello for the first time."""
        self.silent_since = now
        self._addresses.start(now)
        self._say_hello(now)

    def send(self, message: m.Message) -> None:
        """Send a message that must not be lost. Only while established: until then, the owner keeps it.

        Raises SessionError if there is no session, or if too many bytes are not acknowledged.
        """
        if not self.established:
            raise SessionError("a sequenced message needs a session, and none is established")
        self.outgoing.append(self.session.sequence(message))

    def send_plain(self, message: m.Message) -> None:
        """Send a message that may be lost."""
        self.outgoing.append(self.session.plain(message))

    def heartbeat(self, heartbeat: m.Heartbeat, now: float) -> None:
        """Send a heartbeat, stamped with `now`."""
        heartbeat.sent_at_seconds = now
        self._heartbeat_at = now
        self.send_plain(heartbeat)

    def close(self, reason: str) -> None:
        """Say goodbye; nothing is sent or accepted afterwards."""
        if self.state is ConnectionState.CLOSED:
            return
        goodbye = m.Goodbye(reason)
        if self.established:
            self.outgoing.append(self.session.plain(goodbye))
        if self._hello_unanswered:
            # The other end may have begun a session with this hello, and accepts no message of an earlier one.
            self.outgoing.append(Session(self._hello_number).plain(goodbye))
        self._enter(ConnectionState.CLOSED)

    # --- receiving

    def receive(self, envelope: Envelope, message: m.Message, now: float) -> list[ConnectionEvent]:
        """Take one message in. Raises SessionError when the other end breaks the rules."""
        if isinstance(message, _OUTSIDE_SESSIONS):
            return self._receive_outside(envelope, message, now)
        if not self.accept(envelope, message, now):
            return []
        if isinstance(message, m.Heartbeat):
            if message.echo_seconds:
                self.latency_seconds = max(0.0, now - message.echo_seconds)
            return []
        return [Received(message)]

    def accept(self, envelope: Envelope, message: m.Message, now: float) -> bool:
        """Take in a message of a session; return whether it is new and in order. Raises as `receive`.

        For owners that have looked at the kind of message already; `receive` does the same for all kinds.
        """
        session = self.session
        if not self.established or envelope.epoch != session.epoch:
            return False
        self.silent_since = now
        self._reported_lost = False
        accepted = session.accept(envelope, now, message_bytes(message))
        if session.gap or session.resend_wanted or session.acknowledge_due:
            self._answer_session(now)
        return accepted

    def _receive_outside(
        self,
        envelope: Envelope,
        message: m.Refused | m.Welcome | m.UnknownPeer | m.SchedulerStatus,
        now: float,
    ) -> list[ConnectionEvent]:
        if self.state is ConnectionState.CLOSED:
            return []
        if isinstance(message, m.Welcome):
            return self._on_welcome(envelope, message, now)
        if isinstance(message, m.SchedulerStatus):
            # No sign of life: what is waited for is the first scheduler. `tick` goes on to the next address.
            self.met_standby = True
            self._addresses.on_not_first(now)
            return []
        self.silent_since = now
        if isinstance(message, m.Refused):
            self._enter(ConnectionState.CLOSED)
            return [RefusedByPeer(message.text)]
        # Every message in transit is answered like this; one hello is enough for all.
        if not self._hello_unanswered:
            self._say_hello(now)
        return []

    def tick(self, now: float) -> list[ConnectionEvent]:
        """Do what is due at `now`. Call it at `next_deadline()` or more often."""
        if self.state is ConnectionState.CLOSED:
            return []
        events: list[ConnectionEvent] = []
        silent = now - self.silent_since
        if silent >= self._give_up_seconds and not self._reported_lost:
            self._reported_lost = True
            events.append(Lost(silent))
        if now >= self._addresses.next_deadline(self.silent_since):
            # What is there was for the address before. Sequenced messages are sent again if the session goes on.
            self.outgoing.clear()
            events.append(AddressChanged(self._addresses.go_on(now)))
            self._say_hello(now)
        elif now >= self._hello_due():
            self._say_hello(now)
        if self.established and now >= self._heartbeat_at + self._heartbeat_seconds:
            events.append(HeartbeatDue())
        return events

    def next_deadline(self) -> float:
        """When `tick` has something to do next."""
        if self.state is ConnectionState.CLOSED:
            return float("inf")
        deadline = min(self._hello_due(), self._addresses.next_deadline(self.silent_since))
        if not self._reported_lost:
            deadline = min(deadline, self.silent_since + self._give_up_seconds)
        if self.established:
            deadline = min(deadline, self._heartbeat_at + self._heartbeat_seconds)
        return deadline

    # --- inside

    def _enter(self, state: ConnectionState) -> None:
        self.state = state
        self.established = state is ConnectionState.ESTABLISHED

    def _hello_due(self) -> float:
        if self.state is ConnectionState.CONNECTING:
            return self._hello_at + min(1.0, self._heartbeat_seconds)
        if self._hello_unanswered:
            # Other messages, such as UnknownPeer, come from an end that has not received this hello yet.
            return self._hello_at + self._heartbeat_seconds
        # Two heartbeats are unanswered: ask whether the session still exists.
        return self.silent_since + 2 * self._heartbeat_seconds

    def _say_hello(self, now: float) -> None:
        self._hello_number += 1
        self._hello_at = now
        self._hello_unanswered = True
        known = self.welcome.incarnation if self.welcome is not None else b""
        hello = replace(self._hello, scheduler_incarnation=known, hello_number=self._hello_number, term=self.term)
        envelope = self.session.plain(hello).envelope if known else UNSEQUENCED
        self.outgoing.append(Outgoing(envelope, hello))

    def _on_welcome(self, envelope: Envelope, welcome: m.Welcome, now: float) -> list[ConnectionEvent]:
        if welcome.hello_number != self._hello_number or not self._hello_unanswered:
            return []
        if welcome.term < self.term:
            # It was first once and does not know yet that another one is.
            self._addresses.on_not_first(now)
            return []
        self.term = welcome.term
        self.met_standby = False
        self._hello_unanswered = False
        self._heard(now)
        resumed = welcome.resumed and self.welcome is not None and self.welcome.incarnation == welcome.incarnation
        if resumed:
            # The welcome acknowledges what arrived before the silence; everything else is sent again. The other end does
            # the same after its welcome, so this one need not ask for messages that are missing there.
            self.session.accept(envelope, now)
            self.session.gap = False
            self.outgoing.extend(self.session.resend())
        else:
            self.session = Session(welcome.hello_number)
            self._heartbeat_at = now
        self.welcome = welcome
        if welcome.heartbeat_seconds > 0:
            self._heartbeat_seconds = min(self._heartbeat_seconds, welcome.heartbeat_seconds)
        self._enter(ConnectionState.ESTABLISHED)
        self._addresses.on_welcome(resumed=resumed)
        return [Established(welcome, resumed)]

    def _heard(self, now: float) -> None:
        self.silent_since = now
        self._reported_lost = False

    def _answer_session(self, now: float) -> None:
        session = self.session
        if session.gap:
            self.outgoing.append(Outgoing(session.request_resend(now), m.Heartbeat(sent_at_seconds=now)))
        if session.resend_wanted:
            self.outgoing.extend(session.resend())
        elif session.acknowledge_due:
            self.outgoing.append(session.plain(m.Heartbeat(sent_at_seconds=now)))
