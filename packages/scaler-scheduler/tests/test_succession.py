"""Which of two schedulers is first: leases, terms, and what both say to each other."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.succession import FIRST_TERM, FIRST_WAIT_SECONDS, TERM_STEP, Change, Succession

FIRST, STANDBY = b"first" + bytes(11), b"standby" + bytes(9)
LEASE = 3.0


def first(now: float = 0.0) -> Succession:
    return Succession(FIRST, dials=False, lease_seconds=LEASE, now=now)


def standby(now: float = 0.0) -> Succession:
    return Succession(STANDBY, dials=True, lease_seconds=LEASE, now=now)


def talk(dialling: Succession, answering: Succession, now: float) -> list[Change | None]:
    """Have the one dial the other, which answers. Return what each becomes by that: the one that dials, the other."""
    dialling.tick(now)
    (status,) = dialling.take_outgoing()
    assert answering.accepts(status, now)
    other = answering.on_status(status, now)
    return [dialling.on_status(answering.status(answers=True), now), other]


def test_a_standby_dials_several_times_in_each_lease() -> None:
    two = standby()
    two.tick(0.0)
    assert [status.is_first for status in two.take_outgoing()] == [False]
    assert 0.0 < two.next_deadline() <= LEASE / 3
    assert first().next_deadline() == float("inf")


def test_a_standby_takes_over_when_the_lease_is_over_and_a_peer_asks() -> None:
    one, two = first(), standby()
    assert talk(two, one, 10.0) == [None, None]
    assert two.on_asked(0, 12.9) is None
    two.tick(60.0)
    assert not two.is_first, "nobody has asked"
    assert two.on_asked(FIRST_TERM, 60.0) is Change.TAKE_OVER
    assert two.is_first
    assert two.term > one.term


def test_a_standby_whose_first_scheduler_answers_is_asked_in_vain() -> None:
    one, two = first(), standby()
    for second in range(1, 30):
        talk(two, one, float(second))
        assert two.on_asked(FIRST_TERM, second + 0.9) is None


def test_a_standby_that_has_heard_of_no_scheduler_waits_longer() -> None:
    two = standby()
    assert two.on_asked(0, LEASE + 0.1) is None
    assert two.on_asked(0, FIRST_WAIT_SECONDS) is Change.TAKE_OVER


def test_a_peer_that_has_obeyed_a_scheduler_proves_that_there_was_one() -> None:
    two = standby()
    two.on_asked(7 * TERM_STEP, 0.1)
    assert two.on_asked(0, LEASE) is Change.TAKE_OVER
    assert two.term > 7 * TERM_STEP


def test_a_former_first_scheduler_steps_down_when_the_other_one_tells_it() -> None:
    one, two = first(), standby()
    talk(two, one, 0.0)
    two.on_asked(FIRST_TERM, 10.0)
    assert talk(two, one, 11.0) == [None, Change.STEP_DOWN]
    assert (one.is_first, two.is_first) == (False, True)
    # And is a standby like others: it takes over again in its turn.
    assert one.on_asked(two.term, 13.0) is None
    assert one.on_asked(two.term, 14.0) is Change.TAKE_OVER
    assert one.term > two.term
    assert talk(two, one, 15.0) == [Change.STEP_DOWN, None]


def test_a_former_first_scheduler_steps_down_when_a_peer_tells_it() -> None:
    one = first()
    assert one.on_asked(FIRST_TERM, 1.0) is None
    assert one.on_asked(2 * TERM_STEP + 5, 1.0) is Change.STEP_DOWN
    # The other one may be gone: then nobody is first until the lease is over.
    assert one.on_asked(2 * TERM_STEP + 5, 2.0) is None
    assert one.on_asked(2 * TERM_STEP + 5, 4.0) is Change.TAKE_OVER
    assert one.term > 2 * TERM_STEP + 5


def test_two_that_take_over_at_once_have_different_terms() -> None:
    terms = set()
    for number in range(1, 200):
        one = Succession(number.to_bytes(16, "little"), dials=True, lease_seconds=LEASE, now=0.0)
        one.on_asked(FIRST_TERM, 0.0)
        one.on_asked(FIRST_TERM, LEASE)
        terms.add(one.term)
    assert len(terms) == 199


def test_an_orderly_end_needs_no_lease() -> None:
    one, two = first(), standby()
    talk(two, one, 0.0)
    two.on_status(one.status(answers=True, ends=True), 1.0)
    assert two.on_asked(FIRST_TERM, 1.1) is Change.TAKE_OVER


def test_a_second_standby_is_refused_while_there_is_one() -> None:
    one, two = first(), standby()
    third = Succession(b"third" + bytes(11), dials=True, lease_seconds=LEASE, now=0.0)
    talk(two, one, 0.0)
    assert not one.accepts(third.status(), 1.0)
    third.on_refused()
    assert third.on_asked(FIRST_TERM, 1_000.0) is None, "the other standby is first by then"
    # The first one is gone: a standby that was started anew takes its place.
    assert one.accepts(third.status(), 2 * LEASE)


def test_a_standby_says_nothing_that_keeps_another_one_waiting() -> None:
    one, two = first(), standby()
    talk(two, one, 0.0)
    one.on_asked(3 * TERM_STEP, 1.0)
    again = Succession(b"again" + bytes(11), dials=True, lease_seconds=LEASE, now=1.0)
    for second in (1.0, 2.0, 3.0, 3.9):
        talk(again, one, second)
    assert one.on_asked(3 * TERM_STEP, 4.0) is Change.TAKE_OVER


def test_terms_that_are_out_of_bounds_are_ignored() -> None:
    one, two = first(), standby()
    assert one.on_status(m.SchedulerStatus(m.TERM_MAX, True, STANDBY), 0.0) is None
    assert one.on_asked(m.TERM_MAX, 0.0) is None
    assert two.on_status(m.SchedulerStatus(2**64 - 1, True, FIRST), 0.0) is None
    assert two.term == 0
