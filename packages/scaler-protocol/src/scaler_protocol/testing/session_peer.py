"""The scheduler's end of a session, for tests that play the scheduler by hand. It owns no socket and no clock."""

from __future__ import annotations

from typing import Any

from scaler_protocol.session import Outgoing, Session
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope


class SessionPeer:
    """A scheduler that knows one peer and obeys the rules of the session; what it is to send lies in `outgoing`.

    A hello is answered by `welcome`, which the test calls: with or without the session that was there before.
    """

    def __init__(self, incarnation: bytes = b"s" * 16) -> None:
        self.incarnation = incarnation
        self.session: Session | None = None
        self.hello: m.Hello | None = None
        """The last one received."""
        self.may_resume = False
        """Whether the last hello goes on with the session that is there."""
        self.outgoing: list[Outgoing] = []

    def receive(self, envelope: Envelope, message: m.Message, now: float) -> m.Message | None:
        """Take a message in; return it if it counts: a hello, or one of the session that has not come before."""
        session = self.session
        if isinstance(message, m.Hello):
            self.may_resume = (
                session is not None
                and self.hello is not None
                and self.hello.incarnation == message.incarnation
                and self.incarnation == message.scheduler_incarnation
                and session.epoch == envelope.epoch
            )
            if session is not None and self.may_resume:
                session.accept(envelope, now)
            self.hello = message
            return message
        if session is None:
            self.outgoing.append(Outgoing(UNSEQUENCED, m.UnknownPeer()))
            return None
        if session.epoch != envelope.epoch:
            return None
        accepted = session.accept(envelope, now)
        if session.gap:
            self.outgoing.append(Outgoing(session.request_resend(now), m.Heartbeat()))
        if session.resend_wanted:
            self.outgoing.extend(session.resend())
        elif session.acknowledge_due:
            self.outgoing.append(session.plain(m.Heartbeat()))
        if accepted and isinstance(message, m.Heartbeat) and message.sent_at_seconds:
            self.outgoing.append(session.plain(m.Heartbeat(echo_seconds=message.sent_at_seconds)))
        return message if accepted else None

    def welcome(self, *, resumed: bool | None = None, **fields: Any) -> Outgoing:
        """Return the answer to the last hello, and queue what a resumed session has to send again.

        `resumed` is what the rules say, unless given. `fields` are the welcome's.
        """
        assert self.hello is not None, "no hello has come"
        resumed = self.may_resume if resumed is None else resumed
        if self.session is None or not resumed:
            self.session = Session(self.hello.hello_number)
        welcome = m.Welcome(self.incarnation, resumed, hello_number=self.hello.hello_number, **fields)
        answer = self.session.plain(welcome)
        if resumed:
            self.outgoing.extend(self.session.resend())
        return answer

    def say(self, message: m.Message) -> Outgoing:
        """Return a message of the session in its envelope."""
        assert self.session is not None, "there is no session"
        return self.session.sequence(message)

    def say_plain(self, message: m.Message) -> Outgoing:
        """Return a message that may be lost, in its envelope."""
        return Outgoing(UNSEQUENCED, message) if self.session is None else self.session.plain(message)

    def take_outgoing(self) -> list[Outgoing]:
        """Return the messages to send, and forget them."""
        outgoing, self.outgoing = self.outgoing, []
        return outgoing
