"""The counters of one end, rule by rule."""

from __future__ import annotations

import pytest

from scaler_protocol.errors import SessionError
from scaler_protocol.session import Session, message_bytes
from scaler_protocol.session import sequencing as rules
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import RESEND, SEQUENCED, Envelope

NOTE = m.Notice("note")


def test_sequenced_messages_are_numbered_from_one_and_plain_ones_carry_the_last_number() -> None:
    session = Session(epoch=7)
    assert session.plain(NOTE).envelope == Envelope(0, 0, 0, 7)
    assert session.sequence(NOTE).envelope == Envelope(1, 0, SEQUENCED, 7)
    assert session.sequence(NOTE).envelope == Envelope(2, 0, SEQUENCED, 7)
    assert session.plain(NOTE).envelope == Envelope(2, 0, 0, 7)


def test_what_is_next_is_accepted_and_acknowledged_on_whatever_is_sent() -> None:
    session = Session()
    assert session.accept(Envelope(1, 0, SEQUENCED), 0.0)
    assert session.acknowledge_pending
    assert session.plain(NOTE).envelope.acknowledged == 1
    assert not session.acknowledge_pending


def test_what_was_seen_is_dropped_and_acknowledged_again() -> None:
    session = Session()
    session.accept(Envelope(1, 0, SEQUENCED), 0.0)
    session.plain(NOTE)
    assert not session.accept(Envelope(1, 0, SEQUENCED), 0.0)
    assert session.acknowledge_pending


def test_another_epoch_changes_nothing() -> None:
    session = Session(epoch=2)
    session.sequence(NOTE)
    assert not session.accept(Envelope(1, 1, SEQUENCED | RESEND, epoch=1), 0.0)
    assert (session.received, session.unacknowledged_count, session.resend_wanted) == (0, 1, False)


def test_acknowledgement_is_cumulative_and_frees_memory() -> None:
    session = Session()
    for _ in range(5):
        session.sequence(NOTE)
    session.accept(Envelope(0, 4, 0), 0.0)
    assert session.unacknowledged_count == 1
    session.accept(Envelope(0, 2, 0), 0.0)
    assert session.unacknowledged() == [NOTE]
    session.accept(Envelope(0, 5, 0), 0.0)
    assert (session.unacknowledged_count, session.outbox_bytes) == (0, 0)


def test_a_gap_is_asked_for_once_until_there_is_progress_or_time_has_passed() -> None:
    session = Session()
    assert not session.accept(Envelope(3, 0, SEQUENCED), 0.0)
    assert session.gap
    assert session.request_resend(0.0) == Envelope(0, 0, RESEND)
    assert not session.accept(Envelope(4, 0, SEQUENCED), 0.5)
    assert not session.gap, "asked already"
    session.accept(Envelope(4, 0, 0), rules.RESEND_INTERVAL_SECONDS)
    assert session.gap, "the request or its answer was lost"


def test_a_lost_last_message_shows_in_the_number_a_heartbeat_carries() -> None:
    session = Session()
    assert session.accept(Envelope(1, 0, 0), 0.0), "a plain message is never held back"
    assert session.gap


def test_a_gap_that_was_filled_is_not_asked_for() -> None:
    session = Session()
    session.accept(Envelope(2, 0, 0), 0.0)
    session.accept(Envelope(1, 0, SEQUENCED), 0.0)
    session.accept(Envelope(2, 0, SEQUENCED), 0.0)
    assert not session.gap


def test_a_resend_repeats_everything_unacknowledged_in_order_with_the_same_numbers() -> None:
    session = Session(epoch=3)
    texts = [m.Notice(str(number)) for number in range(4)]
    for text in texts:
        session.sequence(text)
    session.accept(Envelope(0, 1, RESEND, epoch=3), 0.0)
    assert session.resend_wanted
    again = session.resend()
    assert [(outgoing.envelope.sequence, outgoing.message) for outgoing in again] == [
        (2, texts[1]),
        (3, texts[2]),
        (4, texts[3]),
    ]
    assert all(outgoing.envelope.flags == SEQUENCED for outgoing in again)
    assert not session.resend_wanted


def test_acknowledging_what_was_never_sent_ends_the_session() -> None:
    with pytest.raises(SessionError, match="acknowledges message 1, only 0"):
        Session().accept(Envelope(0, 1, 0), 0.0)


def test_an_outbox_over_its_bound_ends_the_session_but_one_large_message_always_fits() -> None:
    session = Session(outbox_bytes_max=1000)
    large = m.Output(b"c" * 16, 1, 1, b"x" * 5000)
    session.sequence(large)
    with pytest.raises(SessionError, match="1 messages are not acknowledged"):
        session.sequence(NOTE)


def test_an_acknowledgement_is_due_after_many_messages_or_many_bytes() -> None:
    session = Session()
    for number in range(1, rules.ACKNOWLEDGE_MESSAGES):
        session.accept(Envelope(number, 0, SEQUENCED), 0.0)
    assert not session.acknowledge_due
    session.accept(Envelope(rules.ACKNOWLEDGE_MESSAGES, 0, SEQUENCED), 0.0)
    assert session.acknowledge_due
    session.plain(NOTE)
    assert not session.acknowledge_due
    session.accept(Envelope(session.received + 1, 0, SEQUENCED), 0.0, rules.ACKNOWLEDGE_BYTES)
    assert session.acknowledge_due


def test_the_size_of_a_message_follows_what_it_carries() -> None:
    rows = 1000
    client = b"c" * 16
    numbers = range(rows)
    payloads = Packed([8] * rows, bytes(8 * rows))
    small = message_bytes(NOTE)
    large: list[m.Message] = [
        m.TaskBatch(client, numbers, (b"f" * 16,), payloads),
        m.ResultBatch(client, numbers, numbers, payloads),
        m.GraphSubmit(client, 0, (b"f" * 16,), payloads, [0] * rows, (), ()),
        m.FunctionDefine(client, (b"f" * 16,), payloads),
        m.TaskCancel(client, numbers),
        m.TaskReturn(client, numbers),
        m.Output(client, 1, 1, bytes(8 * rows)),
    ]
    for message in large:
        assert message_bytes(message) >= small + 8 * rows
