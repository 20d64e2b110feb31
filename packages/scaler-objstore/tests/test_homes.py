"""Objects in the stores of worker hosts, as object storage knows them: told as conversations, without sockets or waiting."""

from __future__ import annotations

import random

import pytest

from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import Limits, MemoryStorage, StoreCore, effects, events
from scaler_protocol.wire import messages as m

STORE = b"S" * 16
ALICE, BOB, SCHEDULER = b"a" * 16, b"b" * 16, b"s" * 16
ONE, TWO, READER = b"1" * 16, b"2" * 16, b"r" * 16
ROLES = {
    ALICE: m.Role.CLIENT,
    BOB: m.Role.CLIENT,
    ONE: m.Role.AGENT,
    TWO: m.Role.AGENT,
    READER: m.Role.AGENT,
    SCHEDULER: m.Role.SCHEDULER,
}
NAMES = {ONE: "host-one", TWO: "host-two"}
ADDRESSES = {ONE: "tcp://10.0.0.1:7", TWO: "tcp://10.0.0.2:7"}
X, Y = b"x" * 16, b"y" * 16
LIMITS = Limits()

Sent = list[tuple[bytes, m.Message]]


class Store:
    """A core with peers that have said hello; every step checks the invariants."""

    def __init__(self) -> None:
        self.core = StoreCore(STORE, MemoryStorage(1_000_000), KeyedContentHash(b"12345678"))
        self.now = 0.0
        for peer in ROLES:
            self.hello(peer)

    def hello(self, peer: bytes) -> Sent:
        return self.say(peer, m.Hello(ROLES[peer], NAMES.get(peer, ""), peer, to_object_storage=True))

    def say(self, peer: bytes, message: m.Message) -> Sent:
        return self.handle(events.Incoming(peer, message))

    def handle(self, event: events.Event) -> Sent:
        self.core.handle(event, self.now)
        self.core.check_invariants()
        return [(one.peer, one.message) for one in self.core.take_effects() if isinstance(one, effects.Send)]

    def wait(self, seconds: float) -> Sent:
        self.now += seconds
        return self.handle(events.Tick())

    def hold(self, agent: bytes, *ids: bytes, owner: bytes = ALICE) -> Sent:
        return self.say(agent, m.ObjectsHeld(1, owner, ids, ADDRESSES[agent]))

    def unreached(self, sent: Sent) -> str:
        (message,) = (message for _, message in sent if isinstance(message, m.ObjectPutReply))
        assert message.status == m.ObjectStatus.UNREACHED
        return message.text


def test_agents_are_told_that_homes_are_taken_and_clients_are_not() -> None:
    store = Store()
    told = {
        peer: message.takes_homes
        for peer in ROLES
        for _, message in store.hello(peer)
        if isinstance(message, m.Welcome)
    }
    assert {peer for peer, takes in told.items() if takes} == {ONE, TWO, READER}


def test_a_reader_that_follows_is_told_all_homes_that_are_there() -> None:
    store = Store()
    assert store.hold(ONE, X) == [(ONE, m.ObjectPutReply(1))]
    store.hold(TWO, X)
    get = m.ObjectGet(5, X, follows_homes=True)
    assert store.say(READER, get) == [(READER, m.ObjectHomes(5, X, (ADDRESSES[ONE], ADDRESSES[TWO])))]
    store.handle(events.PeerGone(ONE))
    assert store.say(READER, get) == [(READER, m.ObjectHomes(5, X, (ADDRESSES[TWO],)))]
    store.hello(ONE)
    assert store.say(READER, get) == [(READER, m.ObjectHomes(5, X, (ADDRESSES[ONE], ADDRESSES[TWO])))]


def test_a_get_that_came_before_the_object_is_answered_when_a_home_has_it() -> None:
    store = Store()
    assert store.say(READER, m.ObjectGet(5, X, 10.0, follows_homes=True)) == []
    assert store.say(BOB, m.ObjectGet(6, X, 10.0)) == []
    assert store.hold(ONE, X) == [
        (READER, m.ObjectHomes(5, X, (ADDRESSES[ONE],))),
        (ONE, m.ObjectWanted(X)),
        (ONE, m.ObjectPutReply(1)),
    ]


def test_who_does_not_follow_gets_the_object_through_the_agent_of_its_home() -> None:
    store = Store()
    store.hold(ONE, X)
    assert store.say(ALICE, m.ObjectGet(5, X)) == [(ONE, m.ObjectWanted(X))]
    # The request is repeated, and so is the question: one of them may have been lost.
    assert store.say(ALICE, m.ObjectGet(5, X)) == [(ONE, m.ObjectWanted(X))]
    sent = store.say(ONE, m.ObjectPut(2, X, ALICE, [b"bytes"]))
    assert sent == [(ALICE, m.ObjectData(5, X, [b"bytes"])), (ONE, m.ObjectPutReply(2))]
    assert store.say(READER, m.ObjectGet(7, X, follows_homes=True)) == [(READER, m.ObjectData(7, X, [b"bytes"]))]


def test_a_home_that_does_not_answer_is_named_and_soon() -> None:
    store = Store()
    store.hold(ONE, X)
    store.say(ALICE, m.ObjectGet(5, X))
    assert store.handle(events.PeerGone(ONE)) == []
    text = store.unreached(store.wait(LIMITS.home_away_seconds))
    assert text == f"object {X.hex()} is in the store of host-one, which does not answer"
    # Who comes later is told at once.
    assert store.unreached(store.say(BOB, m.ObjectGet(6, X))) == text


def test_a_home_that_has_lost_an_object_leaves_its_readers_to_others_then_names_it() -> None:
    store = Store()
    store.hold(ONE, X)
    store.hold(TWO, X)
    store.say(ALICE, m.ObjectGet(5, X))
    assert store.say(ONE, m.ObjectsGone((X,))) == [(TWO, m.ObjectWanted(X))]
    text = store.unreached(store.say(TWO, m.ObjectsGone((X,))))
    assert text == f"object {X.hex()} is lost: it was in the store of host-two, which has ended"
    # It may come again.
    store.hold(ONE, X)
    assert store.say(READER, m.ObjectGet(7, X, follows_homes=True)) == [
        (READER, m.ObjectHomes(7, X, (ADDRESSES[ONE],)))
    ]


def test_a_delete_reaches_all_homes_and_is_repeated_until_they_have_done_it() -> None:
    store = Store()
    store.hold(ONE, X)
    store.hold(TWO, X)
    told = m.ObjectDelete(0, ALICE, (X,))
    assert store.say(ALICE, m.ObjectDelete(3, ALICE, (X,))) == [
        (ONE, told),
        (TWO, told),
        (ALICE, m.ObjectDeleteReply(3)),
    ]
    store.say(ONE, m.ObjectsGone((X,)))
    assert (ONE, told) not in store.hello(ONE)
    assert (TWO, told) in store.hello(TWO)
    assert store.say(BOB, m.ObjectGet(5, X)) == [(BOB, m.ObjectData(5, X, missing=True))]


def test_what_is_deleted_while_it_is_uploaded_does_not_come_back() -> None:
    store = Store()
    store.hold(ONE, X)
    store.say(BOB, m.ObjectGet(5, X))
    store.say(ALICE, m.ObjectDelete(3, ALICE, (X,)))
    assert store.say(ONE, m.ObjectPut(2, X, ALICE, [b"bytes"])) == [(ONE, m.ObjectPutReply(2))]
    assert store.core.snapshot().object_count == 0


@pytest.mark.parametrize("end", [m.ObjectDelete(9, ALICE, ()), None], ids=["the scheduler says so", "nobody is heard"])
def test_the_end_of_an_owner_reaches_homes(end: m.Message | None) -> None:
    store = Store()
    store.hold(ONE, X)
    if end is not None:
        sent = store.say(SCHEDULER, end)
    else:
        store.now = 2 * LIMITS.retention_seconds
        sent = store.hello(ONE)
    assert (ONE, m.ObjectDelete(0, ALICE, (X,))) in sent
    assert not store.core.snapshot().owners
    refused = m.ObjectPutReply(1, m.ObjectStatus.NOT_YOURS, f"client {ALICE.hex()[:8]} has ended")
    assert store.hold(ONE, Y)[0][1] == refused


def test_only_agents_say_what_hosts_have_and_nobody_takes_an_object_over() -> None:
    store = Store()
    for peer, owner in ((ALICE, ALICE), (SCHEDULER, ALICE)):
        (_, reply), *_ = store.say(peer, m.ObjectsHeld(1, owner, (X,), "tcp://h:1"))
        assert isinstance(reply, m.ObjectPutReply)
        assert reply.status == m.ObjectStatus.NOT_YOURS
    store.hold(ONE, X)
    for message in (m.ObjectsHeld(1, BOB, (X,), "tcp://h:1"), m.ObjectDelete(1, BOB, (X,))):
        ((_, refused),) = store.say(TWO, message)
        assert isinstance(refused, m.ObjectPutReply | m.ObjectDeleteReply)
        assert refused.status == m.ObjectStatus.NOT_YOURS


def test_a_home_that_leaves_is_forgotten_and_what_it_handed_over_stays() -> None:
    store = Store()
    store.hold(ONE, X, Y)
    store.say(ONE, m.ObjectPut(2, X, ALICE, [b"bytes"]))
    store.say(ONE, m.Goodbye("the worker stops"))
    assert store.say(BOB, m.ObjectGet(5, X)) == [(BOB, m.ObjectData(5, X, [b"bytes"]))]
    assert "is lost: it was in the store of host-one" in store.unreached(store.say(BOB, m.ObjectGet(6, Y)))


@pytest.mark.parametrize("seed", range(50))
def test_whatever_comes_every_get_is_answered_and_tables_agree(seed: int) -> None:
    draw = random.Random(seed)
    store = Store()
    asked: set[tuple[bytes, int]] = set()
    answered: set[tuple[bytes, int]] = set()

    def note(sent: Sent) -> None:
        answered.update(
            (peer, message.request)
            for peer, message in sent
            if isinstance(message, m.ObjectData | m.ObjectHomes)
            or (isinstance(message, m.ObjectPutReply) and message.status == m.ObjectStatus.UNREACHED)
        )

    for number in range(10, 300):
        agent, object_id = draw.choice((ONE, TWO)), draw.choice((X, Y))
        what = draw.randrange(9)
        if what == 0:
            note(store.hold(agent, object_id))
        elif what == 1:
            note(store.say(agent, m.ObjectsGone((object_id,))))
        elif what == 2:
            note(store.handle(events.PeerGone(agent)))
        elif what == 3:
            note(store.say(agent, m.Goodbye("")))
        elif what == 4:
            note(store.hello(agent))
        elif what == 5:
            note(store.say(ALICE, m.ObjectDelete(1, ALICE, (object_id,))))
        elif what == 6:
            note(store.say(agent, m.ObjectPut(1, object_id, ALICE, [object_id])))
        elif what == 7:
            note(store.wait(draw.random() * 3))
        else:
            asked.add((READER, number))
            note(
                store.say(
                    READER, m.ObjectGet(number, object_id, draw.choice((0.0, 5.0)), follows_homes=draw.random() < 0.5)
                )
            )
    note(store.wait(LIMITS.upload_seconds_max + 1))
    assert asked == answered & asked, f"seed {seed}"


def lost_in(sent: Sent) -> dict[str, set[bytes]]:
    """What schedulers are told, by host."""
    told = [(peer, message) for peer, message in sent if isinstance(message, m.ObjectsLost)]
    assert all(peer == SCHEDULER for peer, _ in told)
    return {message.host: set(message.ids) for _, message in told}


def test_schedulers_hear_at_once_what_a_home_has_lost_that_no_other_store_has() -> None:
    store = Store()
    z = b"z" * 16
    store.hold(ONE, X, Y, z)
    store.hold(TWO, Y)
    store.say(ONE, m.ObjectPut(3, z, ALICE, [b"bytes"]))
    assert lost_in(store.say(ONE, m.ObjectsGone((X, Y, z)))) == {"host-one": {X}}
    assert lost_in(store.say(ONE, m.ObjectsGone((X, Y, z)))) == {}
    assert lost_in(store.say(TWO, m.Goodbye("it ends"))) == {"host-two": {Y}}


def test_schedulers_hear_of_what_is_lost_once_a_home_has_been_away_for_too_long_and_before_readers_do() -> None:
    store = Store()
    store.hold(ONE, X, Y)
    store.hold(TWO, Y)
    store.handle(events.PeerGone(ONE))
    store.say(READER, m.ObjectGet(5, X, wait_seconds=60.0))
    assert store.core.next_deadline() == LIMITS.home_away_seconds
    assert store.wait(LIMITS.home_away_seconds - 1) == []
    sent = store.wait(1.0)
    assert lost_in(sent) == {"host-one": {X}}
    assert [type(message) for _, message in sent] == [m.ObjectsLost, m.ObjectPutReply]
    assert store.core.next_deadline() > store.now + 100
    # It comes back with all it had, and is given up anew when it goes again.
    store.hello(ONE)
    assert (READER, m.ObjectHomes(6, X, (ADDRESSES[ONE],))) in store.say(READER, m.ObjectGet(6, X, follows_homes=True))
    store.handle(events.PeerGone(ONE))
    assert lost_in(store.wait(LIMITS.home_away_seconds)) == {"host-one": {X}}
    store.handle(events.PeerGone(TWO))
    assert lost_in(store.wait(LIMITS.home_away_seconds)) == {"host-one, host-two": {Y}}


def test_a_scheduler_that_connects_hears_what_was_lost_before() -> None:
    store = Store()
    store.hold(ONE, X)
    store.say(ONE, m.ObjectsGone((X,)))
    assert lost_in(store.hello(SCHEDULER)) == {}
    store.handle(events.PeerGone(SCHEDULER))
    assert lost_in(store.hello(SCHEDULER)) == {"host-one": {X}}
    store.say(SCHEDULER, m.ObjectDelete(1, ALICE, (X,)))
    store.handle(events.PeerGone(SCHEDULER))
    assert lost_in(store.hello(SCHEDULER)) == {}


def test_gets_that_wait_for_a_home_that_is_away_go_on_when_it_is_back() -> None:
    store = Store()
    store.hold(ONE, X, Y)
    store.handle(events.PeerGone(ONE))
    store.say(READER, m.ObjectGet(5, X, wait_seconds=60.0, follows_homes=True))
    store.say(READER, m.ObjectGet(6, Y, wait_seconds=60.0))
    store.wait(2.0)
    sent = store.hello(ONE)
    assert (READER, m.ObjectHomes(5, X, (ADDRESSES[ONE],))) in sent
    assert (ONE, m.ObjectWanted(Y)) in sent
    assert store.wait(LIMITS.home_away_seconds) == []
    assert (READER, m.ObjectData(6, Y, [b"bytes"])) in store.say(ONE, m.ObjectPut(3, Y, ALICE, [b"bytes"]))


def test_a_home_whose_connection_has_ended_is_not_named_and_given_up_in_time_unless_it_is_back() -> None:
    store = Store()
    store.hold(ONE, X)
    store.hold(TWO, X, Y)
    assert store.handle(events.ConnectionChanged(ONE, is_connected=False)) == []
    get = m.ObjectGet(5, X, follows_homes=True)
    assert store.say(READER, get) == [(READER, m.ObjectHomes(5, X, (ADDRESSES[TWO],)))]
    # Connected again it goes on as before, and what has waited for it too.
    store.handle(events.ConnectionChanged(TWO, is_connected=False))
    assert store.say(READER, m.ObjectGet(6, Y, wait_seconds=60.0)) == [(TWO, m.ObjectWanted(Y))]
    store.wait(LIMITS.home_away_seconds - 1)
    assert store.handle(events.ConnectionChanged(TWO, is_connected=True)) == [(TWO, m.ObjectWanted(Y))]
    # The time counts from the end of the connection, not from when somebody asks.
    assert lost_in(store.wait(1.0)) == {}
    store.handle(events.ConnectionChanged(TWO, is_connected=False))
    store.wait(LIMITS.home_away_seconds - 1)
    store.say(READER, m.ObjectGet(7, Y, wait_seconds=60.0))
    assert lost_in(store.wait(1.0)) == {"host-two": {Y}, "host-one, host-two": {X}}


def test_a_reader_hears_why_a_home_cannot_put_an_object_here() -> None:
    store = Store()
    store.hold(ONE, X)
    store.say(READER, m.ObjectGet(5, X, wait_seconds=60.0))
    sent = store.say(ONE, m.ObjectPut(3, X, ALICE, [bytes(1_000_001)]))
    refusals = dict[bytes, m.ObjectPutReply]((peer, one) for peer, one in sent if isinstance(one, m.ObjectPutReply))
    assert refusals[ONE].status == m.ObjectStatus.TOO_LARGE
    assert refusals[READER].status == m.ObjectStatus.UNREACHED
    assert refusals[READER].text == (
        f"object {X.hex()} is in the store of host-one and cannot be put into the central one: {refusals[ONE].text}"
    )


def test_deletes_at_homes_go_together() -> None:
    store = Store()
    store.hold(ONE, X, Y)
    store.hold(TWO, Y)
    sent = store.say(SCHEDULER, m.ObjectDelete(7, ALICE, (X, Y)))
    assert sent == [
        (ONE, m.ObjectDelete(0, ALICE, (X, Y))),
        (TWO, m.ObjectDelete(0, ALICE, (Y,))),
        (SCHEDULER, m.ObjectDeleteReply(7)),
    ]
    ids = [number.to_bytes(16, "big") for number in range(100)]
    store.hold(ONE, *ids)
    sent = store.say(SCHEDULER, m.ObjectDelete(8, ALICE, ()))
    for _ in ids:
        sent += store.wait(0.0)
    deletes = [one.ids for _, one in sent if isinstance(one, m.ObjectDelete)]
    assert sorted(one for some in deletes for one in some) == ids
    assert len(deletes) <= len(ids) / LIMITS.frees_max + 1
    # All of them at once, if the answers do not come.
    (again,) = [one.ids for _, one in store.hello(ONE) if isinstance(one, m.ObjectDelete)]
    assert set(again) == {X, Y, *ids}
