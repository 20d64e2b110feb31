"""Who is first where a lease decides: the rules alone, with a store that answers late, not at all, or with an older value."""

from __future__ import annotations

import random

import pytest

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.lease import HOLD_SHARE, Exchange, Lease, LeaseRecord, read_record
from scaler_scheduler.core.succession import TERM_STEP, Change

LEASE = 3.0
A, B = b"a" * 16, b"b" * 16


class Store:
    """One value, and answers at once."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def exchange(self, request: Exchange) -> bytes | None:
        if request.after is not None and self.value == request.before:
            self.value = request.after
        return self.value


def lease(incarnation: bytes = A, now: float = 0.0) -> Lease:
    return Lease(incarnation, "host:1", lease_seconds=LEASE, now=now)


def ask(one: Lease, store: Store, now: float) -> Change | None:
    """Ask the store, if that is due."""
    request = one.next_request(now)
    return None if request is None else one.on_answer(request, store.exchange(request), now, now)


def run(one: Lease, store: Store, start: float, end: float) -> list[Change]:
    """Ask whenever that is due."""
    changes = []
    now = start
    while now < end:
        changes += [change for change in (one.tick(now), ask(one, store, now)) if change is not None]
        now = max(now + 0.01, one.next_deadline())
    return changes


def holding(store: Store, incarnation: bytes = A) -> tuple[Lease, float]:
    """Return a scheduler that is first, and the time."""
    one = lease(incarnation)
    assert run(one, store, 0.0, LEASE + 1.0) == [Change.TAKE_OVER]
    return one, LEASE + 1.0


def test_nobody_is_first_in_the_first_lease_of_a_store() -> None:
    store, one = Store(), lease()
    assert run(one, store, 0.0, LEASE) == []
    assert read_record(store.value or b"").holder == f"nobody-{A.hex()}"  # type: ignore[union-attr]
    assert run(one, store, LEASE, LEASE + 1) == [Change.TAKE_OVER]
    assert one.is_first
    assert one.term > 0
    record = read_record(store.value or b"")
    assert record is not None
    assert (record.term, record.holder, record.name) == (one.term, A.hex(), "host:1")


def test_a_holder_stays_first_as_long_as_the_store_answers() -> None:
    store = Store()
    one, now = holding(store)
    other = lease(B, now)
    for _ in range(100):
        now += LEASE / 12
        assert one.tick(now) is None
        assert ask(one, store, now) is None
        assert ask(other, store, now) is None
    assert one.is_first
    assert not other.is_first


@pytest.mark.parametrize("begins", range(10))
def test_an_outage_of_half_a_lease_goes_unnoticed(begins: int) -> None:
    store = Store()
    one, now = holding(store)
    away_from = now + begins * LEASE / 10
    away_until = away_from + LEASE / 2
    while now < away_until + LEASE:
        assert one.tick(now) is None
        request = one.next_request(now)
        if request is not None and away_from <= now < away_until:
            one.on_silence(request)
        elif request is not None:
            assert one.on_answer(request, store.exchange(request), now, now) is None
        now = max(now + 0.001, one.next_deadline())
    assert one.is_first


def test_a_holder_stops_before_another_one_begins() -> None:
    store = Store()
    one, now = holding(store)
    other = lease(B, now)
    ask(one, store, now)
    renewed = now
    ask(other, store, now)
    assert one.tick(renewed + HOLD_SHARE * LEASE - 0.01) is None
    assert one.tick(renewed + HOLD_SHARE * LEASE) is Change.STEP_DOWN
    assert run(other, store, now, renewed + LEASE) == []
    assert run(other, store, renewed + LEASE, renewed + LEASE + 1) == [Change.TAKE_OVER]
    assert other.term > one.term


def test_a_slow_answer_counts_from_its_request() -> None:
    store = Store()
    one, now = holding(store)
    request = one.next_request(now)
    assert request is not None
    one.on_answer(request, store.exchange(request), now, now + 2.0)
    assert one.tick(now + HOLD_SHARE * LEASE) is Change.STEP_DOWN


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    store = Store()
    one, now = holding(store)
    other = lease(B, now)
    ask(other, store, now)
    assert one.on_end() is Change.STEP_DOWN
    assert ask(one, store, now) is None
    assert not one.is_first
    assert one.on_end() is None
    assert one.next_request(now + 100) is None, "that was the last request"
    assert run(other, store, now + 0.5, now + 0.6) == [Change.TAKE_OVER]


def test_a_holder_that_comes_back_takes_over_with_a_higher_term_if_nobody_else_did() -> None:
    store = Store()
    one, now = holding(store)
    before = one.term
    assert one.tick(now + 60) is Change.STEP_DOWN
    assert ask(one, store, now + 60) is Change.TAKE_OVER
    assert one.term >= before + TERM_STEP - 2**16 // 2


def test_a_holder_whose_value_somebody_replaced_steps_down() -> None:
    store = Store()
    one, now = holding(store)
    store.value = LeaseRecord(one.term + TERM_STEP, B.hex(), "host:2").encode()
    assert ask(one, store, now) is Change.STEP_DOWN
    assert one.term == read_record(store.value).term  # type: ignore[union-attr]
    assert run(one, store, now, now + LEASE) == []


@pytest.mark.parametrize("left", [None, LeaseRecord(1, B.hex(), "host:2").encode()], ids=["nothing", "an older value"])
def test_a_store_that_has_lost_the_value_is_given_it_again(left: bytes | None) -> None:
    store = Store()
    one, now = holding(store)
    term = one.term
    store.value = left
    other = lease(B, now)
    assert run(other, store, now, now + LEASE / 3) == []
    assert run(one, store, now + LEASE / 3, now + LEASE / 2) == []
    assert one.is_first
    assert one.term == term
    assert read_record(store.value or b"").holder == A.hex()  # type: ignore[union-attr]
    assert run(other, store, now + LEASE / 2, now + LEASE + LEASE / 3) == []


def test_a_lost_answer_is_asked_for_again() -> None:
    store = Store()
    one, now = holding(store)
    request = one.next_request(now)
    assert request is not None
    store.exchange(request)
    one.on_silence(request)
    assert run(one, store, now + 0.5, now + 1.0) == []
    assert one.is_first


def test_a_lost_answer_to_the_taking_costs_no_lease() -> None:
    store, one = Store(), lease()
    run(one, store, 0.0, LEASE)
    request = one.next_request(LEASE + 0.9)
    assert request is not None
    assert request.after is not None
    store.exchange(request)
    one.on_silence(request)
    assert run(one, store, LEASE + 1.0, LEASE + 2.0) == [Change.TAKE_OVER]


def test_a_peer_that_has_obeyed_a_higher_term_makes_the_holder_take_a_higher_one() -> None:
    store = Store()
    one, now = holding(store)
    higher = one.term + 5 * TERM_STEP
    assert one.on_asked(one.term, now) is None
    assert one.on_asked(m.TERM_MAX, now) is None
    assert one.on_asked(higher, now) is Change.STEP_DOWN
    assert ask(one, store, now) is Change.TAKE_OVER
    assert one.term > higher


@pytest.mark.parametrize("value", [b"", b"x", b"[]", b"{}", b'{"term": -1}', b"\xff", b'"text"', b"[" * 100_000])
def test_a_value_that_is_no_lease_is_never_replaced(value: bytes) -> None:
    assert read_record(value) is None
    store = Store()
    store.value = value
    assert run(lease(), store, 0.0, 10 * LEASE) == []
    assert store.value == value


class Machine:
    """A scheduler with its lease, in a world of delays. It asks the store as the shell does: one request at a time."""

    def __init__(self, world: World, incarnation: bytes) -> None:
        self.world = world
        self.rules = Lease(incarnation, "host", lease_seconds=LEASE, now=world.now)
        self.paused_until = 0.0
        self.pending: tuple[Exchange, float, float, float, bool] | None = None
        """A request, when it was made, when the store does it, when the answer is there, and whether it is lost."""
        self.answer: bytes | None = None
        self.is_done = False

    def step(self) -> None:
        now = self.world.now
        if self.pending is not None and not self.is_done and now >= self.pending[2]:
            self.is_done = True
            self.answer = self.world.store.exchange(self.pending[0])
        if now < self.paused_until:
            return
        self.rules.tick(now)
        if self.pending is not None and self.is_done and now >= self.pending[3]:
            request, began, _, _, is_lost = self.pending
            self.pending = None
            if is_lost:
                self.rules.on_silence(request)
            elif self.rules.on_answer(request, self.answer, began, now) is Change.TAKE_OVER:
                assert self.rules.term not in self.world.terms
                self.world.terms.append(self.rules.term)
        if self.pending is None and (due := self.rules.next_request(now)) is not None:
            self.pending = (due, now, *self.world.delays(now))
            self.is_done = False


class World:
    def __init__(self, seed: int, *, loses: bool) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.store = Store()
        self.terms: list[int] = []
        self.away_until = 0.0
        self.loses = loses
        self.lost_at = 0.0
        self.machines = [Machine(self, self.random.randbytes(16)) for _ in range(3)]

    def delays(self, now: float) -> tuple[float, float, bool]:
        to_store = now + self.random.choice((0.001, 0.01, 0.2))
        done = max(to_store, self.away_until)
        return done, done + self.random.choice((0.001, 0.2, 0.5)), self.random.random() < 0.1

    def step(self, *, pauses: bool) -> None:
        self.now += 0.01
        random = self.random
        if random.random() < 0.002:
            self.away_until = self.now + random.choice((0.5, 2.0, 5.0))
        if self.loses and random.random() < 0.002 and self.now > self.lost_at + 2 * LEASE:
            self.store.value, self.lost_at = None, self.now
        if random.random() < 0.001:
            # Killed, and started anew.
            place = random.randrange(len(self.machines))
            self.machines[place] = Machine(self, random.randbytes(16))
        for machine in self.machines:
            if pauses and random.random() < 0.0005:
                machine.paused_until = self.now + random.choice((1.0, 4.0, 10.0))
            machine.step()

    @property
    def first(self) -> list[Machine]:
        return [one for one in self.machines if one.rules.is_first and self.now >= one.paused_until]


@pytest.mark.parametrize("seed", range(20))
def test_two_are_never_first_at_once(seed: int) -> None:
    world = World(seed, loses=False)
    held = 0
    for _ in range(20_000):
        world.step(pauses=False)
        assert len(world.first) <= 1
        held += len(world.first)
    assert held > 10_000
    assert world.terms == sorted(set(world.terms))
    assert len(world.terms) > 2


@pytest.mark.parametrize("seed", range(20))
def test_terms_rise_though_processes_stand_still(seed: int) -> None:
    world = World(seed, loses=False)
    for _ in range(20_000):
        world.step(pauses=True)
    assert world.terms == sorted(set(world.terms))
    assert len(world.terms) > 2


@pytest.mark.parametrize("seed", range(20))
def test_a_store_that_is_restarted_empty_makes_nobody_first_beside_another(seed: int) -> None:
    world = World(seed, loses=True)
    for _ in range(20_000):
        world.step(pauses=False)
        assert len(world.first) <= 1
    assert len(world.terms) == len(set(world.terms))


def test_where_an_older_value_makes_two_first_they_have_different_terms_and_hear_of_each_other() -> None:
    store = Store()
    one, now = holding(store)
    other = lease(B, now)
    older = store.value
    ask(other, store, now)
    assert one.tick(now + LEASE) is Change.STEP_DOWN
    assert run(other, store, now + LEASE, now + LEASE + 1) == [Change.TAKE_OVER]
    store.value = older
    now += LEASE + 1
    # It has not seen that the other one was first.
    assert ask(one, store, now) is Change.TAKE_OVER
    assert one.is_first
    assert other.is_first
    mine, others = one.term, other.term
    assert mine != others
    assert one.on_asked(others, now) is (Change.STEP_DOWN if others > mine else None)
    assert other.on_asked(mine, now) is (Change.STEP_DOWN if mine > others else None)
    assert one.is_first is not other.is_first
