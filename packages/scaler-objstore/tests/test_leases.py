"""The objects of clients that vanish while no scheduler is there to say so."""

from __future__ import annotations

import pytest

from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import MemoryStorage, StoreCore, effects, events
from scaler_objstore.core.leases import SCHEDULERS_MAX, Leases
from scaler_objstore.core.limits import Limits
from scaler_protocol.wire import messages as m

SECONDS = 100.0
LATER = b"t" * 16
"""Another scheduler."""


ALICE, BOB, AGENT, SCHEDULER = b"a" * 16, b"b" * 16, b"g" * 16, b"s" * 16
ROLES = {ALICE: m.Role.CLIENT, BOB: m.Role.CLIENT, AGENT: m.Role.AGENT, SCHEDULER: m.Role.SCHEDULER}
X, Y = b"x" * 16, b"y" * 16


class Store:
    """A core with peers that have said hello, and a clock."""

    def __init__(self, *owners: bytes) -> None:
        """Each of `owners` has an object, which an agent has stored."""
        limits = Limits(retention_seconds=SECONDS)
        self.core = StoreCore(b"S" * 16, MemoryStorage(1_000_000), KeyedContentHash(b"12345678"), limits)
        self.now = 0.0
        for peer in ROLES:
            self.hello(peer)
        for owner, object_id in zip(owners, (X, Y), strict=False):
            self.put(AGENT, object_id, owner)

    def say(self, peer: bytes, message: m.Message) -> list[effects.Effect]:
        self.core.handle(events.Incoming(peer, message), self.now)
        self.core.check_invariants()
        return self.core.take_effects()

    def hello(self, peer: bytes) -> None:
        self.say(peer, m.Hello(ROLES.get(peer, m.Role.SCHEDULER), "", peer, to_object_storage=True))

    def put(self, peer: bytes, object_id: bytes, owner: bytes) -> None:
        self.say(peer, m.ObjectPut(1, object_id, owner, [b"data"]))

    def tick_at(self, now: float) -> list[effects.Effect]:
        self.now = now
        self.core.handle(events.Tick(), now)
        self.core.check_invariants()
        return self.core.take_effects()

    def run_until(self, end: float, *speakers: bytes) -> None:
        """Let time pass, while these repeat their hello."""
        while self.now < end:
            for peer in speakers:
                self.hello(peer)
            self.tick_at(self.now + 3.0)

    @property
    def owners(self) -> frozenset[bytes]:
        return self.core.snapshot().owners


def test_nobody_speaks() -> None:
    store = Store(ALICE)
    store.tick_at(SECONDS - 1)
    assert store.owners == {ALICE}
    said = store.tick_at(2 * SECONDS)
    assert store.owners == frozenset()
    (log,) = [effect for effect in said if isinstance(effect, effects.Log)]
    assert "1 objects (4 bytes) are deleted" in log.text
    assert not log.is_error
    assert store.core.next_deadline() == float("inf")


def test_a_client_that_lives_keeps_its_objects() -> None:
    store = Store(ALICE, BOB)
    store.run_until(5 * SECONDS, ALICE)
    assert store.owners == {ALICE}


def test_a_scheduler_keeps_the_objects_of_clients_that_it_knows() -> None:
    store = Store(ALICE, BOB)
    store.say(SCHEDULER, m.ClientsKnown((ALICE,)))
    store.run_until(5 * SECONDS, SCHEDULER)
    assert store.owners == {ALICE}
    store.run_until(7 * SECONDS)
    assert store.owners == frozenset()


def test_each_list_of_a_scheduler_replaces_the_one_before() -> None:
    store = Store(ALICE, BOB)
    store.say(SCHEDULER, m.ClientsKnown((ALICE,)))
    store.run_until(SECONDS / 2, SCHEDULER)
    store.say(SCHEDULER, m.ClientsKnown((BOB,)))
    store.run_until(5 * SECONDS, SCHEDULER)
    assert store.owners == {BOB}


def test_each_scheduler_speaks_for_its_own_clients() -> None:
    """A later one may never have heard of a client that vanished together with the first one, or never reached any."""
    store = Store(ALICE, BOB)
    store.say(SCHEDULER, m.ClientsKnown((ALICE,)))
    store.run_until(SECONDS / 2, SCHEDULER, LATER)
    # What came by a link that was slow is no sign of life of which the later one knows.
    store.put(ALICE, b"z" * 16, ALICE)
    store.say(LATER, m.ClientsKnown((BOB,)))
    store.run_until(3 * SECONDS, LATER)
    assert store.owners == {BOB}


def test_an_agent_speaks_for_everybody_at_the_store_of_its_host() -> None:
    """There it is what the scheduler is at the server of all."""
    store = Store(ALICE, BOB)
    store.say(SCHEDULER, m.ClientsKnown((), everybody=True))
    store.run_until(5 * SECONDS, SCHEDULER)
    assert store.owners == {ALICE, BOB}
    store.say(SCHEDULER, m.ObjectDelete(1, ALICE, ()))
    assert store.owners == {BOB}


def test_nobody_but_schedulers_speaks_for_others() -> None:
    store = Store(ALICE)
    store.say(BOB, m.ClientsKnown((ALICE,)))
    store.say(AGENT, m.ClientsKnown((ALICE,)))
    store.run_until(3 * SECONDS, BOB, AGENT)
    assert store.owners == frozenset()


def test_words_from_before_an_end_that_was_told_do_not_last() -> None:
    """They came by another connection than the scheduler's, and later."""
    store = Store()
    store.say(SCHEDULER, m.ClientsKnown((ALICE,)))
    store.say(SCHEDULER, m.ObjectDelete(1, ALICE, ()))
    store.hello(ALICE)
    store.put(ALICE, X, ALICE)
    assert store.owners == {ALICE}
    store.put(AGENT, Y, BOB)
    store.say(SCHEDULER, m.ClientsKnown((BOB,)))
    store.run_until(3 * SECONDS, SCHEDULER)
    assert store.owners == {BOB}


def test_a_client_that_lives_after_its_end_was_told_speaks_for_itself() -> None:
    store = Store()
    store.say(SCHEDULER, m.ObjectDelete(1, ALICE, ()))
    store.hello(ALICE)
    store.put(ALICE, X, ALICE)
    store.run_until(5 * SECONDS, SCHEDULER, ALICE)
    assert store.owners == {ALICE}
    store.run_until(7 * SECONDS, SCHEDULER)
    assert store.owners == frozenset()


@pytest.mark.parametrize("keeps", ["put", "delete"])
def test_whoever_does_something_for_a_client_renews_its_lease(keeps: str) -> None:
    store = Store(ALICE)
    for number in range(20):
        store.tick_at(number * SECONDS / 2)
        if keeps == "put":
            store.put(AGENT, number.to_bytes(16, "big"), ALICE)
        else:
            store.say(AGENT, m.ObjectDelete(1, ALICE, (Y,)))
    assert store.owners == {ALICE}


def test_whoever_comes_back_too_late_says_hello_and_goes_on() -> None:
    store = Store(ALICE)
    store.tick_at(2 * SECONDS)
    assert store.say(ALICE, m.ObjectGet(1, X)) == [effects.Send(ALICE, m.UnknownPeer())]
    store.hello(ALICE)
    store.put(ALICE, X, ALICE)
    assert store.owners == {ALICE}


def test_what_is_known_is_bounded() -> None:
    leases = Leases(SECONDS)
    for number in range(3 * SCHEDULERS_MAX):
        leases.on_scheduler(number.to_bytes(16, "big"), 0.0)
        leases.renew(number.to_bytes(16, "big"), 0.0)
    assert leases.take_ended([], SECONDS / 2) == []
    assert len(leases) == 0
    assert leases.next_deadline() == float("inf")
