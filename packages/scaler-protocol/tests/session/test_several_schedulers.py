"""A connection with several addresses: which one it asks, when it goes on, and that it never goes back to a lower term."""

from __future__ import annotations

from scaler_protocol.session import AddressChanged, Connection, Established, HeartbeatDue, Outgoing
from scaler_protocol.session.address_round import PATIENCE_SECONDS, PATIENCE_SECONDS_MAX, AddressRound
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope

ME, FIRST, SECOND = b"m" * 16, b"a" * 16, b"b" * 16
A, B = "tcp://a:1", "tcp://b:1"
NOT_FIRST = m.SchedulerStatus(5, False, SECOND, answers=True)


def make(*addresses: str) -> Connection:
    connection = Connection(
        m.Hello(m.Role.CLIENT, "me", ME), heartbeat_seconds=2.0, give_up_seconds=60.0, addresses=addresses or (A, B)
    )
    connection.start(0.0)
    return connection


def sent(connection: Connection) -> list[Outgoing]:
    outgoing = list(connection.outgoing)
    connection.outgoing.clear()
    return outgoing


def last_hello(connection: Connection) -> m.Hello:
    return [one.message for one in sent(connection) if isinstance(one.message, m.Hello)][-1]


def welcome(
    connection: Connection, now: float, term: int, incarnation: bytes = FIRST, *, resumed: bool = False
) -> list[object]:
    number = last_hello(connection).hello_number
    message = m.Welcome(incarnation, resumed, hello_number=number, term=term)
    return list(connection.receive(Envelope(0, 0, 0, number), message, now))


def run_until_moved(connection: Connection, now: float, limit: float = 30.0) -> tuple[float, str]:
    end = now + limit
    while (now := connection.next_deadline()) <= end:
        for event in connection.tick(now):
            if isinstance(event, AddressChanged):
                return now, event.address
            if isinstance(event, HeartbeatDue):
                connection.heartbeat(m.Heartbeat(), now)
    raise AssertionError("it stays where it is")


def test_with_one_address_nothing_changes() -> None:
    connection = make(A)
    for second in range(1, 50):
        assert not any(isinstance(event, AddressChanged) for event in connection.tick(float(second)))
    connection.receive(UNSEQUENCED, NOT_FIRST, 50.0)
    assert connection.met_standby
    assert not any(isinstance(event, AddressChanged) for event in connection.tick(55.0))


def test_an_address_where_nobody_answers_is_left_for_the_next_one_in_a_circle() -> None:
    connection = make()
    now, address = run_until_moved(connection, 0.0)
    assert (now, address) == (1.0, B)
    assert last_hello(connection).hello_number > 1
    assert run_until_moved(connection, now)[1] == A
    assert run_until_moved(connection, now)[1] == B


def test_a_scheduler_that_is_not_first_is_left_at_once() -> None:
    connection = make()
    connection.receive(UNSEQUENCED, NOT_FIRST, 0.1)
    now, address = run_until_moved(connection, 0.1)
    assert address == B
    assert now < 0.5
    assert any(isinstance(event, Established) for event in welcome(connection, now, 7))
    assert not connection.met_standby


def test_silence_has_the_next_address_asked_and_its_hello_says_the_term() -> None:
    connection = make()
    welcome(connection, 0.0, 65_536)
    now, address = run_until_moved(connection, 0.0)
    assert address == B
    assert now == PATIENCE_SECONDS
    hello = last_hello(connection)
    assert (hello.term, hello.scheduler_incarnation) == (65_536, FIRST)


def test_a_scheduler_with_a_lower_term_is_not_obeyed() -> None:
    connection = make()
    welcome(connection, 0.0, 9)
    now, address = run_until_moved(connection, 0.0)
    assert welcome(connection, now, 8, SECOND) == []
    assert connection.session.epoch == 1, "the session before goes on"
    assert run_until_moved(connection, now)[1] == A
    assert address == B


def test_a_new_scheduler_with_the_same_term_is_obeyed() -> None:
    """One that was started anew at its address."""
    connection = make(A)
    welcome(connection, 0.0, 65_536)
    connection.tick(4.0)
    assert welcome(connection, 4.1, 65_536, SECOND) == [Established(connection.welcome, False)]  # type: ignore[arg-type]


def test_what_was_for_the_scheduler_before_is_not_sent_to_the_next_one() -> None:
    connection = make()
    welcome(connection, 0.0, 9)
    connection.send(m.Notice("a task"))
    run_until_moved(connection, 0.0)
    assert [type(one.message) for one in connection.outgoing] == [m.Hello]
    # Back where it was, the session goes on with it.
    connection.receive(UNSEQUENCED, NOT_FIRST, 3.0)
    now, address = run_until_moved(connection, 3.0)
    assert address == A
    welcome(connection, now, 9, resumed=True)
    assert m.Notice("a task") in [one.message for one in sent(connection)]


def test_false_alarms_make_it_patient() -> None:
    connection = make()
    welcome(connection, 0.0, 9)
    now, patience = 0.0, []
    for _ in range(8):
        began = now
        now, _ = run_until_moved(connection, now, limit=100.0)
        patience.append(round(now - began, 6))
        connection.receive(UNSEQUENCED, NOT_FIRST, now)
        now, _ = run_until_moved(connection, now)
        welcome(connection, now, 9, resumed=True)
    assert patience == sorted(patience)
    assert patience[0] == PATIENCE_SECONDS
    assert patience[-1] == PATIENCE_SECONDS_MAX


def test_standbys_are_no_sign_of_life() -> None:
    connection = make()
    silent_since = connection.silent_since
    connection.receive(UNSEQUENCED, NOT_FIRST, 5.0)
    assert connection.silent_since == silent_since


def test_rounds_in_vain_give_each_address_more_time() -> None:
    addresses = AddressRound((A, B))
    addresses.start(0.0)
    spent = []
    for _ in range(40):
        now = addresses.next_deadline(0.0)
        addresses.go_on(now)
        spent.append(addresses.next_deadline(0.0) - now)
    assert spent[0] < 1.0
    assert spent[-1] == 5.0
