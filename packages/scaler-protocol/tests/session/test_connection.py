"""The initiating end: hello, welcome, heartbeats, silence, resuming."""

from __future__ import annotations

import pytest

from scaler_protocol.errors import SessionError
from scaler_protocol.session import Connection, Established, HeartbeatDue, Lost, Outgoing, Received, RefusedByPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import RESEND, SEQUENCED, UNSEQUENCED, Envelope

ME, SCHEDULER, OTHER_SCHEDULER = b"m" * 16, b"s" * 16, b"t" * 16
NOTE = m.Notice("note")


def make() -> Connection:
    return Connection(m.Hello(m.Role.CLIENT, "me", ME), heartbeat_seconds=2.0, give_up_seconds=10.0)


def sent(connection: Connection) -> list[Outgoing]:
    outgoing = list(connection.outgoing)
    connection.outgoing.clear()
    return outgoing


def hello_of(connection: Connection) -> m.Hello:
    hello = sent(connection)[-1].message
    assert isinstance(hello, m.Hello)
    return hello


def welcome(connection: Connection, now: float, number: int, **fields: object) -> list[object]:
    envelope = fields.pop("envelope", Envelope(0, 0, 0, number))
    message = m.Welcome(**{"incarnation": SCHEDULER, "hello_number": number, **fields})  # type: ignore[arg-type]
    return list(connection.receive(envelope, message, now))  # type: ignore[arg-type]


def established() -> Connection:
    connection = make()
    connection.start(0.0)
    welcome(connection, 0.0, hello_of(connection).hello_number)
    assert connection.established
    return connection


def test_hello_is_said_at_the_start_and_repeated_until_it_is_answered() -> None:
    connection = make()
    connection.start(0.0)
    (first,) = sent(connection)
    assert first.envelope == UNSEQUENCED
    assert connection.tick(0.5) == []
    assert sent(connection) == []
    connection.tick(connection.next_deadline())
    assert hello_of(connection).hello_number == 2


def test_only_the_last_hello_counts_and_only_its_first_answer() -> None:
    connection = make()
    connection.start(0.0)
    connection.tick(1.0)
    assert welcome(connection, 1.1, 1) == []
    assert not connection.established
    (event,) = welcome(connection, 1.2, 2)
    assert isinstance(event, Established)
    assert not event.resumed
    connection.send(NOTE)
    assert welcome(connection, 1.3, 2) == [], "a second answer must not reset the counters"
    assert connection.session.sent == 1


def test_nothing_is_sent_into_a_session_that_does_not_exist() -> None:
    connection = make()
    connection.start(0.0)
    with pytest.raises(SessionError, match="none is established"):
        connection.send(NOTE)


def test_messages_arrive_once_and_heartbeats_are_not_the_owners_business() -> None:
    connection = established()
    envelope = Envelope(1, 0, SEQUENCED, 1)
    assert connection.receive(envelope, NOTE, 1.0) == [Received(NOTE)]
    assert connection.receive(envelope, NOTE, 1.0) == []
    assert connection.receive(Envelope(1, 0, 0, 1), m.Heartbeat(echo_seconds=1.0), 1.25) == []
    assert connection.latency_seconds == 0.25


def test_a_gap_is_answered_with_a_request() -> None:
    connection = established()
    assert connection.receive(Envelope(2, 0, SEQUENCED, 1), NOTE, 1.0) == []
    (request,) = sent(connection)
    assert request.envelope.flags == RESEND


def test_a_request_is_answered_with_everything_unacknowledged() -> None:
    connection = established()
    connection.send(NOTE)
    connection.send(NOTE)
    sent(connection)
    connection.receive(Envelope(0, 1, RESEND, 1), m.Heartbeat(), 1.0)
    (again,) = sent(connection)
    assert again == Outgoing(Envelope(2, 0, SEQUENCED, 1), NOTE)


def test_heartbeats_are_due_in_time_and_at_the_pace_the_scheduler_asks_for() -> None:
    connection = make()
    connection.start(0.0)
    welcome(connection, 0.0, 1, heartbeat_seconds=0.5)
    sent(connection)
    assert connection.next_deadline() == 0.5
    assert connection.tick(0.5) == [HeartbeatDue()]
    connection.heartbeat(m.Heartbeat(capacity=3), 0.5)
    (beat,) = sent(connection)
    assert beat.message == m.Heartbeat(sent_at_seconds=0.5, capacity=3)
    assert connection.tick(0.6) == []


def test_silence_is_met_by_hellos_and_reported_once() -> None:
    connection = established()
    events = []
    while connection.next_deadline() < 30.0:
        now = connection.next_deadline()
        for event in connection.tick(now):
            if isinstance(event, HeartbeatDue):
                connection.heartbeat(m.Heartbeat(), now)
            else:
                events.append(event)
    assert events == [Lost(10.0)]
    hellos = [o for o in sent(connection) if isinstance(o.message, m.Hello)]
    assert 5 < len(hellos) < 20
    assert all(o.message.scheduler_incarnation == SCHEDULER and o.envelope.epoch == 1 for o in hellos)  # type: ignore[union-attr]
    assert connection.established, "it goes on trying"


def test_a_resumed_session_sends_again_what_was_not_acknowledged() -> None:
    connection = established()
    connection.send(m.Notice("1"))
    connection.send(m.Notice("2"))
    connection.tick(4.0)
    number = hello_of(connection).hello_number
    (event,) = welcome(connection, 4.1, number, resumed=True, envelope=Envelope(0, 1, 0, 1))
    assert isinstance(event, Established)
    assert event.resumed
    assert [o.message for o in sent(connection)] == [m.Notice("2")]
    assert connection.session.epoch == 1


def test_a_session_that_could_not_be_resumed_starts_from_nothing() -> None:
    connection = established()
    connection.send(NOTE)
    connection.tick(4.0)
    number = hello_of(connection).hello_number
    (event,) = welcome(connection, 4.1, number, incarnation=OTHER_SCHEDULER)
    assert isinstance(event, Established)
    assert not event.resumed
    assert (connection.session.sent, connection.session.epoch) == (0, number)
    assert sent(connection) == []


def test_a_scheduler_cannot_resume_the_session_of_another() -> None:
    connection = established()
    connection.tick(4.0)
    number = hello_of(connection).hello_number
    (event,) = welcome(connection, 4.1, number, incarnation=OTHER_SCHEDULER, resumed=True)
    assert isinstance(event, Established)
    assert not event.resumed


def test_many_messages_to_a_scheduler_that_forgot_us_cause_one_hello() -> None:
    connection = established()
    for _ in range(100):
        connection.receive(UNSEQUENCED, m.UnknownPeer(), 1.0)
    (hello,) = sent(connection)
    assert isinstance(hello.message, m.Hello)


def test_a_refusal_is_final() -> None:
    connection = make()
    connection.start(0.0)
    assert connection.receive(UNSEQUENCED, m.Refused("no"), 0.1) == [RefusedByPeer("no")]
    assert connection.next_deadline() == float("inf")
    assert connection.tick(100.0) == []
    assert connection.receive(UNSEQUENCED, m.UnknownPeer(), 0.2) == []


def test_goodbye_is_said_once() -> None:
    connection = established()
    connection.close("done")
    connection.close("done")
    assert [o.message for o in sent(connection)] == [m.Goodbye("done")]
    assert connection.receive(Envelope(1, 0, SEQUENCED, 1), NOTE, 1.0) == []


def test_goodbye_before_the_welcome_belongs_to_the_last_hello() -> None:
    connection = make()
    connection.start(0.0)
    connection.tick(1.0)
    assert hello_of(connection).hello_number == 2
    connection.close("interrupted")
    assert sent(connection) == [Outgoing(Envelope(0, 0, 0, 2), m.Goodbye("interrupted"))]
    connection.close("again")
    assert sent(connection) == []


def test_goodbye_while_it_is_not_known_whether_a_session_still_stands_is_said_in_both() -> None:
    connection = established()
    connection.tick(9.0)
    assert hello_of(connection).hello_number == 2
    connection.close("done")
    assert [(each.envelope.epoch, each.message) for each in sent(connection)] == [
        (1, m.Goodbye("done")),
        (2, m.Goodbye("done")),
    ]


def test_nothing_is_said_to_somebody_who_never_heard_a_hello() -> None:
    connection = make()
    connection.close("not begun")
    assert sent(connection) == []
