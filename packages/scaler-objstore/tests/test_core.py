"""The store's core, told as conversations. No sockets, no waiting: time is a number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import Limits, MemoryStorage, StoreCore, contents, effects, events
from scaler_objstore.core.contents import OBJECT_BYTES
from scaler_objstore.core.leases import SWEEPS
from scaler_protocol.version import PROTOCOL_VERSION
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Frame

STORE = b"S" * 16
ALICE, BOB, AGENT, SCHEDULER = b"a" * 16, b"b" * 16, b"g" * 16, b"s" * 16
ROLES = {ALICE: m.Role.CLIENT, BOB: m.Role.CLIENT, AGENT: m.Role.AGENT, SCHEDULER: m.Role.SCHEDULER}
ONLY_LEASES = Limits().retention_seconds / SWEEPS
"""When something is due at first if nothing waits."""
X, Y, Z = b"x" * 16, b"y" * 16, b"z" * 16


class Store:
    """A core with peers that have said hello; every step checks the invariants."""

    def __init__(
        self, limits: Limits | None = None, memory_bytes: int = 1_000_000, content_hash: object = None
    ) -> None:
        hash_function = KeyedContentHash(b"12345678") if content_hash is None else content_hash
        self.core = StoreCore(STORE, MemoryStorage(memory_bytes), hash_function, limits)  # type: ignore[arg-type]
        self.now = 0.0
        for peer, role in ROLES.items():
            self.say(peer, m.Hello(role, "", peer, to_object_storage=True))

    def say(self, peer: bytes, message: m.Message) -> list[effects.Effect]:
        self.core.handle(events.Incoming(peer, message), self.now)
        return self.effects()

    def effects(self) -> list[effects.Effect]:
        self.core.check_invariants()
        return self.core.take_effects()

    def answer(self, peer: bytes, message: m.Message) -> m.Message:
        # Others, whose wait this ends, are answered before.
        *_, effect = self.say(peer, message)
        assert isinstance(effect, effects.Send)
        assert effect.peer == peer
        return effect.message

    def put(self, peer: bytes, object_id: bytes, *buffers: Frame, owner: bytes | None = None) -> m.ObjectPutReply:
        message = m.ObjectPut(1, object_id, peer if owner is None else owner, list(buffers))
        reply = self.answer(peer, message)
        assert isinstance(reply, m.ObjectPutReply)
        return reply

    def get(self, peer: bytes, object_id: bytes) -> list[Frame] | None:
        reply = self.answer(peer, m.ObjectGet(1, object_id))
        assert isinstance(reply, m.ObjectData)
        assert reply.id == object_id
        return None if reply.missing else reply.buffers

    def delete(self, peer: bytes, *ids: bytes, owner: bytes | None = None) -> m.ObjectDeleteReply:
        reply = self.answer(peer, m.ObjectDelete(1, peer if owner is None else owner, ids))
        assert isinstance(reply, m.ObjectDeleteReply)
        return reply


def end_of(owner: bytes) -> m.ObjectDelete:
    """What a scheduler says when a client has ended."""
    return m.ObjectDelete(9, owner, ())


# --- who is who


def test_hello_is_answered_with_the_incarnation_of_the_store_and_the_number_of_the_hello() -> None:
    assert Store().answer(
        ALICE, m.Hello(m.Role.CLIENT, "alice", ALICE, hello_number=7, to_object_storage=True)
    ) == m.Welcome(STORE, hello_number=7)


def test_a_stranger_is_asked_for_a_hello_whatever_it_wants() -> None:
    store = Store()
    for message in (
        m.ObjectPut(1, X, ALICE, [b"x"]),
        m.ObjectGet(1, X),
        m.ObjectDelete(1, ALICE, (X,)),
        m.ObjectDelete(1, ALICE, ()),
        m.Shutdown(),
    ):
        assert store.answer(b"stranger", message) == m.UnknownPeer()
    assert store.say(b"stranger", m.Goodbye("")) == []
    assert store.core.snapshot().object_count == 0


def test_another_protocol_version_is_refused_with_a_sentence_and_may_do_nothing() -> None:
    store = Store()
    refused = store.answer(
        b"old", m.Hello(m.Role.CLIENT, "old", BOB, protocol_version=99, software_version="9.9", to_object_storage=True)
    )
    text = f"this object storage server speaks protocol version {PROTOCOL_VERSION}, old (scaler 9.9) version 99"
    assert refused == m.Refused(text)
    assert store.answer(b"old", m.ObjectGet(1, X)) == m.UnknownPeer()


@pytest.mark.parametrize("role", [m.Role.CLIENT, m.Role.AGENT])
def test_who_says_hello_to_a_scheduler_is_told_and_may_do_nothing(role: m.Role) -> None:
    store = Store()
    warning, answer = store.say(b"lost", m.Hello(role, "lost", BOB))
    assert isinstance(warning, effects.Warn)
    assert warning.text == "lost takes this object storage server for a scheduler"
    assert isinstance(answer, effects.Send)
    assert answer.message == m.Refused("this is an object storage server; the scheduler has another address")
    assert store.answer(b"lost", m.ObjectGet(1, X)) == m.UnknownPeer()


def test_answers_to_nothing_are_ignored() -> None:
    assert Store().say(b"stranger", m.UnknownPeer()) == []


@pytest.mark.parametrize("message", [m.Heartbeat(), m.TaskRecall(1)])
def test_who_takes_it_for_a_scheduler_is_told_and_reported(message: m.Message) -> None:
    warning, answer = Store().say(ALICE, message)
    assert isinstance(warning, effects.Warn)
    assert type(message).__name__ in warning.text
    assert isinstance(answer, effects.Send)
    assert answer.message == m.Refused("this is an object storage server; the scheduler has another address")


def test_the_peer_silent_longest_is_forgotten_when_there_are_too_many() -> None:
    store = Store(Limits(peers_max=4))
    store.say(ALICE, m.ObjectGet(5, X, wait_seconds=30.0))
    store.say(BOB, m.ObjectGet(1, X))
    for peer in (AGENT, SCHEDULER, ALICE, BOB):
        store.say(peer, m.Heartbeat())
    store.say(BOB, m.ObjectGet(1, X))
    store.say(AGENT, m.ObjectGet(1, X))
    store.say(SCHEDULER, m.ObjectGet(1, X))
    store.say(b"fifth", m.Hello(m.Role.CLIENT, "", b"5" * 16, to_object_storage=True))
    assert store.answer(ALICE, m.ObjectGet(6, X)) == m.UnknownPeer()
    assert store.core.next_deadline() == ONLY_LEASES, "its waiting gets are forgotten too"


# --- put, get, delete


def test_what_was_put_can_be_got_by_whoever_knows_its_id() -> None:
    store = Store()
    body = bytearray(b"body")
    assert store.put(ALICE, X, b"header", memoryview(body)) == m.ObjectPutReply(1)
    buffers = store.get(BOB, X)
    assert buffers is not None
    assert [bytes(buffer) for buffer in buffers] == [b"header", b"body"]
    assert isinstance(buffers[1], memoryview)
    assert buffers[1].obj is body, "the received buffer itself is kept and sent, not a copy"
    assert store.get(BOB, Y) is None


def test_an_object_may_be_empty() -> None:
    store = Store()
    store.put(ALICE, X)
    store.put(ALICE, Y, b"")
    assert store.get(BOB, X) == []
    assert store.get(BOB, Y) == [b""]


def test_a_repeated_put_is_confirmed_again_and_changes_nothing() -> None:
    store = Store()
    assert store.put(ALICE, X, b"1") == store.put(ALICE, X, b"1") == m.ObjectPutReply(1)
    assert store.core.snapshot().object_count == 1


def test_an_object_never_changes() -> None:
    store = Store()
    store.put(ALICE, X, b"first")
    assert store.put(ALICE, X, b"other").status == m.ObjectStatus.CONFLICT
    assert store.put(ALICE, X, b"fir", b"st").status == m.ObjectStatus.CONFLICT
    assert store.get(ALICE, X) == [b"first"]


def test_delete_frees_and_may_be_repeated() -> None:
    store = Store()
    store.put(ALICE, X, b"x" * 1000)
    assert store.delete(ALICE, X, Y).status == m.ObjectStatus.DONE
    assert store.delete(ALICE, X, Y).status == m.ObjectStatus.DONE
    assert (store.core.snapshot().object_count, store.core.snapshot().used_bytes) == (0, 0)


def _with_many(store: Store, count: int) -> list[bytes]:
    ids = [number.to_bytes(16, "big") for number in range(count)]
    for object_id in ids:
        store.core.handle(events.Incoming(ALICE, m.ObjectPut(1, object_id, ALICE, [object_id])), store.now)
    store.effects()
    return ids


@pytest.mark.parametrize("by", ["ids", "the end of the owner"])
def test_hundreds_of_objects_are_freed_in_portions_and_seen_by_nobody_meanwhile(by: str) -> None:
    store = Store()
    ids = _with_many(store, 300)
    portion = Limits().frees_max
    if by == "ids":
        store.delete(ALICE, *ids)
    else:
        store.answer(SCHEDULER, end_of(ALICE))
    assert store.core.snapshot().object_count == 300 - portion
    assert store.get(BOB, ids[-1]) is None
    turns = 0
    while store.core.next_deadline() <= store.now:
        left = store.core.snapshot().object_count
        store.core.handle(events.Tick(), store.now)
        assert store.effects() == []
        assert 0 <= left - store.core.snapshot().object_count <= portion
        turns += 1
    assert store.core.snapshot().object_count == 0
    assert turns == -(-(300 - portion) // portion)


def test_what_was_deleted_and_is_not_freed_yet_makes_room_and_may_be_put_anew() -> None:
    store = Store(memory_bytes=100_000)
    ids = _with_many(store, 100)
    store.delete(ALICE, *ids)
    assert store.put(ALICE, ids[-1], b"other bytes").status == m.ObjectStatus.DONE
    assert store.put(ALICE, X, bytes(95_000)).status == m.ObjectStatus.DONE
    assert store.get(BOB, ids[-1]) == [b"other bytes"]
    while store.core.next_deadline() <= store.now:
        store.core.handle(events.Tick(), store.now)
    assert store.core.snapshot().object_count == 2


def test_a_delete_with_number_zero_is_done_and_not_answered() -> None:
    store = Store()
    store.put(ALICE, X, b"x")
    assert store.say(ALICE, m.ObjectDelete(0, ALICE, (X,))) == []
    assert store.say(ALICE, m.ObjectDelete(0, BOB, (X,))) == []
    assert store.core.snapshot().object_count == 0


# --- ownership


def test_a_client_can_neither_store_nor_delete_nor_replace_what_is_another_clients() -> None:
    store = Store()
    store.put(ALICE, X, b"hers")
    assert store.put(BOB, Y, b"planted", owner=ALICE).status == m.ObjectStatus.NOT_YOURS
    assert store.put(BOB, X, b"hers").status == m.ObjectStatus.NOT_YOURS
    assert store.delete(BOB, X).status == m.ObjectStatus.NOT_YOURS
    assert store.delete(BOB, X, owner=ALICE).status == m.ObjectStatus.NOT_YOURS
    assert store.get(ALICE, X) == [b"hers"]


def test_a_refused_delete_deletes_nothing() -> None:
    store = Store()
    store.put(ALICE, X, b"hers")
    store.put(BOB, Y, b"his")
    assert store.delete(BOB, Y, X).status == m.ObjectStatus.NOT_YOURS
    assert store.core.snapshot().object_count == 2


def test_agents_and_the_scheduler_act_for_the_client_they_name() -> None:
    store = Store()
    assert store.put(AGENT, X, b"result", owner=ALICE).status == m.ObjectStatus.DONE
    assert store.delete(SCHEDULER, X, owner=BOB).status == m.ObjectStatus.NOT_YOURS
    assert store.delete(SCHEDULER, X, owner=ALICE).status == m.ObjectStatus.DONE


def test_everything_of_a_client_ends_when_the_scheduler_says_so_and_only_then() -> None:
    store = Store()
    store.put(ALICE, X, b"1" * 100)
    store.put(AGENT, Y, b"2" * 100, owner=ALICE)
    store.put(BOB, Z, b"3" * 100)
    for peer in (ALICE, BOB, AGENT):
        store.say(peer, end_of(ALICE))
    assert store.core.snapshot().object_count == 3
    assert store.answer(SCHEDULER, end_of(ALICE)) == m.ObjectDeleteReply(9)
    # The answer may have been lost.
    assert store.answer(SCHEDULER, end_of(ALICE)) == m.ObjectDeleteReply(9)
    assert store.get(BOB, Z) == [b"3" * 100]
    assert store.core.snapshot().object_count == 1


def test_a_scheduler_that_is_not_first_any_more_deletes_nothing() -> None:
    """It may take clients for gone that are with the scheduler that took over."""
    store, newer = Store(), b"n" * 16
    store.put(ALICE, X, b"1" * 100)
    store.put(ALICE, Y, b"2" * 100)
    store.say(newer, m.Hello(m.Role.SCHEDULER, "", newer, to_object_storage=True, term=131_073))
    assert store.answer(SCHEDULER, end_of(ALICE)) == m.ObjectDeleteReply(9)
    assert store.delete(SCHEDULER, X, owner=ALICE).status == m.ObjectStatus.DONE
    assert store.core.snapshot().object_count == 2
    assert store.delete(newer, X, owner=ALICE).status == m.ObjectStatus.DONE
    assert store.answer(newer, end_of(ALICE)) == m.ObjectDeleteReply(9)
    assert store.core.snapshot().object_count == 0


def test_late_results_for_a_client_that_ended_are_refused_for_a_while() -> None:
    store = Store()
    store.say(SCHEDULER, end_of(ALICE))
    refused = store.put(AGENT, X, b"late", owner=ALICE)
    assert (refused.status, refused.text) == (m.ObjectStatus.NOT_YOURS, "client 61616161 has ended")
    store.now = Limits().ended_owner_seconds
    assert store.put(AGENT, X, b"late", owner=ALICE).status == m.ObjectStatus.DONE


def test_a_client_that_had_been_given_up_and_comes_back_may_go_on() -> None:
    store = Store()
    store.say(SCHEDULER, end_of(ALICE))
    assert store.answer(ALICE, m.ObjectGet(1, X)) == m.UnknownPeer()
    store.say(ALICE, m.Hello(m.Role.CLIENT, "", ALICE, to_object_storage=True))
    assert store.put(AGENT, X, b"result", owner=ALICE).status == m.ObjectStatus.DONE


def test_what_a_client_sent_before_its_end_does_not_bring_it_back() -> None:
    store = Store()
    store.put(ALICE, X, b"1")
    store.say(SCHEDULER, end_of(ALICE))
    for late in (m.ObjectDelete(2, ALICE, (X,)), m.ObjectPut(3, Y, ALICE, [b"2"])):
        assert store.answer(ALICE, late) == m.UnknownPeer()
    assert store.put(AGENT, Z, b"3", owner=ALICE).status == m.ObjectStatus.NOT_YOURS
    assert store.core.snapshot().object_count == 0


def test_ended_clients_are_remembered_within_bounds() -> None:
    store = Store(Limits(ended_owners_max=3))
    for number in range(10):
        store.say(SCHEDULER, end_of(bytes([number]) * 16))
    assert store.put(AGENT, X, b"", owner=bytes([0]) * 16).status == m.ObjectStatus.DONE
    assert store.put(AGENT, Y, b"", owner=bytes([9]) * 16).status == m.ObjectStatus.NOT_YOURS


def test_a_client_that_says_goodbye_takes_its_objects_along() -> None:
    store = Store()
    store.put(ALICE, X, b"1")
    store.put(AGENT, Y, b"2", owner=BOB)
    store.say(AGENT, m.Goodbye("agent leaves"))
    assert store.core.snapshot().object_count == 2, "an agent's results belong to clients"
    store.say(ALICE, m.Goodbye("done"))
    assert store.core.snapshot().object_count == 1
    assert store.answer(ALICE, m.ObjectGet(1, X)) == m.UnknownPeer()


def test_only_the_scheduler_can_stop_the_store() -> None:
    store = Store()
    for peer in (ALICE, AGENT):
        (warning,) = store.say(peer, m.Shutdown("mine now"))
        assert isinstance(warning, effects.Warn)
    assert store.say(SCHEDULER, m.Shutdown("enough")) == [effects.Stop("enough")]


# --- content addressing


def test_identical_contents_are_kept_once_until_the_last_object_ends() -> None:
    store = Store()
    store.put(ALICE, X, b"same", b"bytes")
    used = store.core.snapshot().used_bytes
    store.put(BOB, Y, b"same", b"bytes")
    assert store.core.snapshot().used_bytes == used
    store.delete(ALICE, X)
    assert store.get(BOB, Y) == [b"same", b"bytes"]
    store.delete(BOB, Y)
    assert store.core.snapshot().used_bytes == 0


def test_objects_that_share_a_content_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Invariants are checked after each, which would take half a minute with as many as there may be.
    shared = 50
    monkeypatch.setattr(contents, "SHARED_BYTES_MIN", shared * OBJECT_BYTES)
    store = Store(memory_bytes=contents.SHARED_PART * shared * OBJECT_BYTES)
    replies = [store.put(ALICE, number.to_bytes(16, "big"), b"same") for number in range(shared + 2)]
    assert {reply.status for reply in replies[:-1]} == {m.ObjectStatus.DONE}
    assert replies[-1].status == m.ObjectStatus.STORAGE_FULL
    store.delete(ALICE, bytes(16))
    assert store.put(ALICE, X, b"same").status == m.ObjectStatus.DONE


def test_borders_between_buffers_are_part_of_the_content() -> None:
    store = Store()
    store.put(ALICE, X, b"ab", b"c")
    store.put(ALICE, Y, b"a", b"bc")
    assert store.get(ALICE, X) == [b"ab", b"c"]
    assert store.get(ALICE, Y) == [b"a", b"bc"]


def test_when_hashes_collide_the_bytes_decide() -> None:
    def always_collides(buffers: Sequence[Frame]) -> bytes:
        return b"same digest"

    store = Store(content_hash=always_collides)
    store.put(ALICE, X, b"mine")
    used = store.core.snapshot().used_bytes
    store.put(BOB, Y, b"his!")
    assert store.core.snapshot().used_bytes == 2 * used
    store.put(BOB, Z, b"mine")
    assert store.core.snapshot().used_bytes == 2 * used
    assert [store.get(ALICE, object_id) for object_id in (X, Y, Z)] == [[b"mine"], [b"his!"], [b"mine"]]
    store.delete(ALICE, X)
    assert [store.get(ALICE, object_id) for object_id in (X, Y, Z)] == [None, [b"his!"], [b"mine"]]


def test_the_hash_depends_on_its_key() -> None:
    assert KeyedContentHash(b"1" * 8)([b"x"]) != KeyedContentHash(b"2" * 8)([b"x"])
    assert len(KeyedContentHash(b"1" * 8)([])) == 16


# --- limits


def test_an_object_over_the_size_limit_is_refused() -> None:
    store = Store(Limits(object_bytes_max=10, object_buffers_max=3))
    assert store.put(ALICE, X, b"12345", b"67890").status == m.ObjectStatus.DONE
    refused = store.put(ALICE, Y, b"12345", b"678901")
    assert (refused.status, refused.text) == (
        m.ObjectStatus.TOO_LARGE,
        "an object of 11 bytes; at most 10 are accepted",
    )
    assert store.put(ALICE, Y, b"", b"", b"", b"").status == m.ObjectStatus.TOO_LARGE


def test_a_full_store_refuses_with_a_sentence_loses_nothing_and_recovers() -> None:
    store = Store(memory_bytes=10_000)
    accepted = []
    for number in range(20):
        object_id = bytes([number]) * 16
        reply = store.put(ALICE, object_id, bytes([number]) * 1000)
        if reply.status == m.ObjectStatus.DONE:
            accepted.append(object_id)
    assert 1 < len(accepted) < 10
    assert reply.status == m.ObjectStatus.STORAGE_FULL
    assert reply.text.startswith("object storage is full: ")
    assert all(store.get(BOB, object_id) for object_id in accepted)
    assert store.put(BOB, X, bytes([0]) * 1000).status == m.ObjectStatus.DONE, "what is there needs no room"
    store.delete(ALICE, accepted[1])
    assert store.put(ALICE, Y, b"y" * 1000).status == m.ObjectStatus.DONE


def test_many_empty_objects_count_against_the_memory_limit() -> None:
    store = Store(memory_bytes=10_000)
    statuses = [store.put(ALICE, bytes([n]) * 16, bytes([n])).status for n in range(30)]
    assert m.ObjectStatus.STORAGE_FULL in statuses


# --- waiting


def test_a_get_waits_for_its_object_and_is_answered_once() -> None:
    store = Store()
    assert store.say(BOB, m.ObjectGet(7, X, wait_seconds=5.0)) == []
    assert store.say(AGENT, m.ObjectGet(8, X, wait_seconds=9.0)) == []
    assert store.core.next_deadline() == 5.0
    assert store.say(ALICE, m.ObjectPut(1, X, ALICE, [b"x"])) == [
        effects.Send(BOB, m.ObjectData(7, X, [b"x"])),
        effects.Send(AGENT, m.ObjectData(8, X, [b"x"])),
        effects.Send(ALICE, m.ObjectPutReply(1)),
    ]
    assert store.core.next_deadline() == ONLY_LEASES


def test_a_wait_ends_with_missing_at_its_deadline() -> None:
    store = Store()
    store.say(BOB, m.ObjectGet(7, X, wait_seconds=5.0))
    store.now = 4.9
    store.core.handle(events.Tick(), store.now)
    assert store.effects() == []
    store.now = store.core.next_deadline()
    store.core.handle(events.Tick(), store.now)
    assert store.effects() == [effects.Send(BOB, m.ObjectData(7, X, missing=True))]


def wait_for_x(store: Store) -> m.ObjectData:
    """What is answered to a get of X at the end of its wait."""
    store.say(AGENT, m.ObjectGet(7, X, wait_seconds=1.0))
    store.now = store.core.next_deadline()
    store.core.handle(events.Tick(), store.now)
    (effect,) = store.effects()
    assert isinstance(effect, effects.Send)
    assert isinstance(effect.message, m.ObjectData)
    return effect.message


def test_a_missing_object_may_come_while_bytes_of_clients_do() -> None:
    store = Store()
    store.core.handle(events.Arriving([BOB]), store.now)
    assert wait_for_x(store) == m.ObjectData(7, X, missing=True, may_come=True)
    store.now = Limits().arriving_pause_seconds - 1.5
    assert wait_for_x(store).may_come
    assert not wait_for_x(store).may_come
    store.core.handle(events.Arriving([ALICE]), store.now)
    assert wait_for_x(store).may_come


def test_bytes_of_others_announce_no_object() -> None:
    store = Store()
    store.core.handle(events.Arriving([AGENT, SCHEDULER, b"unknown"]), store.now)
    assert wait_for_x(store) == m.ObjectData(7, X, missing=True)


def test_nobody_waits_for_what_its_client_cannot_send_again() -> None:
    store = Store()
    store.put(ALICE, Y, b"here")
    store.now = Limits().homes_return_seconds
    store.core.handle(events.Arriving((ALICE,)), store.now)
    assert store.say(AGENT, m.ObjectGet(7, X, wait_seconds=5.0)) == []
    assert store.say(ALICE, m.ObjectsGone((X, Y, Z))) == [
        effects.Send(AGENT, m.ObjectData(7, X, missing=True, gone=True))
    ]
    assert store.answer(AGENT, m.ObjectGet(8, Z, wait_seconds=5.0)) == m.ObjectData(8, Z, missing=True, gone=True)
    assert store.get(AGENT, Y) == [b"here"]
    # One that comes after all is there, and waited for again once it was deleted.
    store.put(ALICE, X, b"late")
    assert store.get(AGENT, X) == [b"late"]
    store.delete(ALICE, X)
    assert store.say(AGENT, m.ObjectGet(9, X, wait_seconds=5.0)) == []


def test_stores_of_hosts_have_time_to_say_what_they_have_of_a_client_that_has_it_no_more() -> None:
    store = Store()
    store.say(AGENT, m.ObjectGet(7, X, wait_seconds=5.0))
    assert store.say(ALICE, m.ObjectsGone((X,))) == []
    assert store.say(BOB, m.ObjectGet(3, X, wait_seconds=5.0)) == []
    store.now = 5.0
    store.core.handle(events.Arriving((ALICE,)), store.now)
    # Bytes of clients are coming, but not its.
    assert store.effects() == [
        effects.Send(BOB, m.ObjectData(3, X, missing=True)),
        effects.Send(AGENT, m.ObjectData(7, X, missing=True)),
    ]


def test_who_waits_already_waits_no_longer_than_the_stores_of_hosts_may_take() -> None:
    store = Store()
    start, store.now = 0.0, Limits().homes_return_seconds - 2.0
    store.core.handle(events.Tick(), start)
    store.say(AGENT, m.ObjectGet(7, X, wait_seconds=10.0))
    assert store.say(ALICE, m.ObjectsGone((X,))) == []
    assert store.say(BOB, m.ObjectGet(3, X, wait_seconds=10.0)) == []
    store.now += 2.0
    store.core.handle(events.Tick(), store.now)
    assert store.effects() == [
        effects.Send(BOB, m.ObjectData(3, X, missing=True, gone=True)),
        effects.Send(AGENT, m.ObjectData(7, X, missing=True, gone=True)),
    ]


def test_a_scheduler_says_what_will_not_come_too() -> None:
    store = Store()
    store.put(ALICE, Y, b"here")
    store.now = Limits().homes_return_seconds
    store.say(AGENT, m.ObjectGet(7, X, wait_seconds=5.0))
    assert store.say(SCHEDULER, m.ObjectsGone((X, Y))) == [
        effects.Send(AGENT, m.ObjectData(7, X, missing=True, gone=True))
    ]
    assert store.get(AGENT, Y) == [b"here"]


def test_what_a_store_of_a_host_has_is_not_gone() -> None:
    store = Store()
    store.say(ALICE, m.ObjectsGone((X,)))
    store.now = Limits().homes_return_seconds
    store.say(AGENT, m.ObjectsHeld(1, ALICE, (X,), "tcp://a:1"))
    store.say(ALICE, m.ObjectsGone((X,)))
    # It is asked to send it here.
    assert store.say(BOB, m.ObjectGet(3, X, wait_seconds=5.0)) == [effects.Send(AGENT, m.ObjectWanted(X))]


def test_objects_that_will_not_come_are_remembered_within_bounds() -> None:
    store = Store(Limits(gone_objects_max=2))
    store.say(ALICE, m.ObjectsGone((X, Y, Z)))
    store.now = Limits().homes_return_seconds
    assert store.say(AGENT, m.ObjectGet(7, X, wait_seconds=5.0)) == []
    assert store.answer(AGENT, m.ObjectGet(8, Y, wait_seconds=5.0)) == m.ObjectData(8, Y, missing=True, gone=True)


def test_a_repeated_get_waits_in_place_of_the_first() -> None:
    store = Store()
    store.say(BOB, m.ObjectGet(7, X, wait_seconds=5.0))
    store.now = 3.0
    store.say(BOB, m.ObjectGet(7, X, wait_seconds=5.0))
    assert store.core.next_deadline() == 8.0
    assert len(store.say(ALICE, m.ObjectPut(1, X, ALICE, [b"x"]))) == 2


@pytest.mark.parametrize("wait", [0.0, -1.0, float("nan"), float("-inf")])
def test_no_wait_means_an_answer_at_once(wait: float) -> None:
    assert Store().answer(BOB, m.ObjectGet(7, X, wait_seconds=wait)) == m.ObjectData(7, X, missing=True)


def test_no_wait_is_longer_than_the_limit() -> None:
    store = Store()
    store.say(BOB, m.ObjectGet(7, X, wait_seconds=float("inf")))
    assert store.core.next_deadline() == Limits().wait_seconds_max


def test_waiters_are_bounded_for_each_peer_and_in_all() -> None:
    store = Store(Limits(peer_waiters_max=2, waiters_max=3))
    for number in (1, 2):
        assert store.say(BOB, m.ObjectGet(number, X, wait_seconds=5.0)) == []
    assert store.answer(BOB, m.ObjectGet(3, X, wait_seconds=5.0)) == m.ObjectData(3, X, missing=True)
    assert store.say(ALICE, m.ObjectGet(1, X, wait_seconds=5.0)) == []
    assert store.answer(ALICE, m.ObjectGet(2, X, wait_seconds=5.0)) == m.ObjectData(2, X, missing=True)


def test_gets_of_a_peer_that_is_gone_do_not_wait_on() -> None:
    store = Store()
    store.say(BOB, m.ObjectGet(1, X, wait_seconds=5.0))
    store.say(ALICE, m.ObjectGet(1, X, wait_seconds=5.0))
    store.core.handle(events.PeerGone(BOB), 1.0)
    assert [
        effect.peer for effect in store.say(AGENT, m.ObjectPut(1, X, ALICE, [b"x"])) if isinstance(effect, effects.Send)
    ] == [
        ALICE,
        AGENT,
    ]


# --- everything at once


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_of_requests_keeps_the_invariants_and_matches_a_plain_model(seed: int) -> None:
    chance = random.Random(seed)
    # One byte of digest: collisions all the time.
    store = Store(content_hash=lambda buffers: bytes([len(buffers)]), memory_bytes=6_000)
    model: dict[bytes, tuple[bytes, list[Frame]]] = {}
    ids = [bytes([n]) * 16 for n in range(8)]
    for _ in range(400):
        store.now += chance.random()
        peer, object_id = chance.choice([ALICE, BOB]), chance.choice(ids)
        action = chance.randrange(7)
        if action in (0, 1):
            buffers: list[Frame] = [bytes([chance.randrange(3)]) for _ in range(chance.randint(0, 3))]
            if store.put(peer, object_id, *buffers).status == m.ObjectStatus.DONE:
                assert model.setdefault(object_id, (peer, buffers)) == (peer, buffers)
        elif action == 2:
            if store.delete(peer, object_id).status == m.ObjectStatus.DONE:
                assert model.pop(object_id, (peer, []))[0] == peer
        elif action == 3:
            assert store.get(peer, object_id) == (model[object_id][1] if object_id in model else None)
        elif action == 4 and object_id not in model:
            store.say(peer, m.ObjectGet(chance.randrange(5), object_id, wait_seconds=chance.random() * 3))
        elif action == 5 and chance.random() < 0.2:
            store.say(SCHEDULER, end_of(peer))
            # It lives after all, and is told that it has to say so.
            assert store.answer(peer, m.ObjectGet(1, X)) == m.UnknownPeer()
            store.say(peer, m.Hello(m.Role.CLIENT, "", peer, to_object_storage=True))
            model = {key: value for key, value in model.items() if value[0] != peer}
        else:
            store.core.handle(events.Tick(), store.now)
        store.effects()
    assert store.core.snapshot().object_count == len(model)


def test_the_scheduler_is_told_what_is_held_and_by_whom() -> None:
    store = Store()
    store.put(ALICE, X, b"head", b"12345678")
    store.put(BOB, Y, b"head", b"12345678")
    store.put(BOB, Z, b"head", b"123")
    status = store.answer(SCHEDULER, m.StoreStatusRequest(7))
    assert isinstance(status, m.StoreStatus)
    assert (status.request, status.object_count, status.limit_bytes) == (7, 3, 1_000_000)
    assert status.used_bytes == store.core.snapshot().used_bytes
    figures = zip(status.owner_objects, status.owner_bytes, strict=True)
    assert dict(zip(status.owners, figures, strict=True)) == {ALICE: (1, 12), BOB: (2, 19)}
    store.say(BOB, m.ObjectDelete(1, BOB, (Z,)))
    store.say(SCHEDULER, end_of(ALICE))
    status = store.answer(SCHEDULER, m.StoreStatusRequest(8))
    assert isinstance(status, m.StoreStatus)
    assert (status.owners, list(status.owner_objects), list(status.owner_bytes)) == ((BOB,), [1], [12])


def test_the_scheduler_is_told_which_objects_are_largest() -> None:
    store = Store(Limits(listed_objects=2, looked_at_objects=3))
    for number, size in enumerate((10, 30, 20, 40)):
        store.now = float(number)
        put = m.ObjectPut(1, b"%016d" % number, BOB, [bytes([number]) * size], f"number {number}")
        store.say(BOB, put)
    store.now = 10.0
    status = store.answer(SCHEDULER, m.StoreStatusRequest(7))
    assert isinstance(status, m.StoreStatus)
    # The last one is not looked at: it came after three others.
    assert status.objects == (
        m.StoredObjectStatus(b"%016d" % 1, BOB, "number 1", 30, 9.0, "memory"),
        m.StoredObjectStatus(b"%016d" % 2, BOB, "number 2", 20, 8.0, "memory"),
    )


def listed(store: Store, **asked: Any) -> tuple[int, int, list[str]]:
    """Matching and looked at, and the names of the objects that are told."""
    answer = store.answer(SCHEDULER, m.ObjectListRequest(7, **asked))
    assert isinstance(answer, m.ObjectList)
    assert (answer.request, answer.offset) == (7, asked.get("offset", 0))
    return answer.matching, answer.looked_at, [one.name for one in answer.objects]


def test_the_scheduler_is_told_of_objects_in_any_order_a_page_at_a_time() -> None:
    store = Store(Limits(listed_objects=2, looked_at_objects=5))
    for number, (name, owner, size) in enumerate(
        (("Quotes", BOB, 10), ("rates", ALICE, 30), ("quotes of May", ALICE, 20), ("", BOB, 30), ("curves", BOB, 5))
    ):
        store.now = float(number)
        store.say(owner, m.ObjectPut(1, b"%016d" % number, owner, [bytes([number]) * size], name))
    store.now = 10.0
    assert listed(store) == (5, 5, ["curves", "Quotes"])
    assert listed(store, order=m.ObjectOrder.SIZE, descending=True) == (5, 5, ["", "rates"])
    assert listed(store, order=m.ObjectOrder.SIZE, descending=True, offset=2) == (5, 5, ["quotes of May", "Quotes"])
    assert listed(store, order=m.ObjectOrder.SIZE, descending=True, offset=4) == (5, 5, ["curves"])
    assert listed(store, offset=99) == (5, 5, [])
    assert listed(store, order=m.ObjectOrder.AGE) == (5, 5, ["curves", ""])
    assert listed(store, order=m.ObjectOrder.NAME) == (5, 5, ["", "curves"])
    assert listed(store, order=m.ObjectOrder.OWNER) == (5, 5, ["rates", "quotes of May"])
    assert listed(store, order=m.ObjectOrder.PLACE) == listed(store, order=m.ObjectOrder.READERS)
    assert listed(store, order=m.ObjectOrder.HOMES)[0] == 5
    assert listed(store, order=200) == listed(store)
    assert listed(store, words="QUOTES") == (2, 5, ["Quotes", "quotes of May"])
    assert listed(store, words="may quo", owner=ALICE) == (1, 5, ["quotes of May"])
    assert listed(store, words="may quo", owner=BOB) == (0, 5, [])
    store.now = 11.0
    store.say(BOB, m.ObjectPut(1, b"%016d" % 9, BOB, [b"x" * 99], "late"))
    # The last one is not looked at: it came after five others.
    assert listed(store, order=m.ObjectOrder.SIZE, descending=True) == (5, 5, ["", "rates"])


@pytest.mark.parametrize("question", [m.StoreStatusRequest(1), m.ObjectListRequest(1)])
def test_nobody_else_is_told_what_is_held(question: m.Message) -> None:
    (effect,) = Store().say(ALICE, question)
    assert isinstance(effect, effects.Warn)


# --- segments

PLACE, OTHER_PLACE = b"1" * 24, b"2" * 24


def put_segment(store: Store, peer: bytes, object_id: bytes, place: bytes, *buffers: Frame) -> m.ObjectPutReply:
    """As the shell says it: with what lies at `place`, which is nothing where it cannot be opened."""
    reply = store.answer(peer, m.ObjectPut(1, object_id, ALICE, list(buffers), "", place))
    assert isinstance(reply, m.ObjectPutReply)
    return reply


def test_every_peer_is_offered_segments() -> None:
    core = StoreCore(STORE, MemoryStorage(1000), KeyedContentHash(b"12345678"), segment_offer=b"offer")
    core.handle(events.Incoming(ALICE, m.Hello(m.Role.CLIENT, "", ALICE, hello_number=3, to_object_storage=True)), 0.0)
    assert core.take_effects() == [effects.Send(ALICE, m.Welcome(STORE, hello_number=3, segment_offer=b"offer"))]


def test_who_can_map_is_told_the_place_and_everybody_else_gets_the_bytes() -> None:
    store = Store()
    assert put_segment(store, ALICE, X, PLACE, b"head", b"body").status == m.ObjectStatus.DONE
    assert store.answer(AGENT, m.ObjectGet(7, X, mappable=True)) == m.ObjectData(7, X, place=PLACE)
    assert store.get(BOB, X) == [b"head", b"body"]
    # What came in frames is in no segment.
    store.put(ALICE, Y, b"frames")
    assert store.answer(AGENT, m.ObjectGet(7, Y, mappable=True)) == m.ObjectData(7, Y, [b"frames"])


def test_who_waits_is_answered_in_the_way_it_asked_for() -> None:
    store = Store()
    store.say(AGENT, m.ObjectGet(1, X, 5.0, mappable=True))
    store.say(BOB, m.ObjectGet(1, X, 5.0))
    *answers, reply = store.say(ALICE, m.ObjectPut(1, X, ALICE, [b"body"], "", PLACE))
    assert reply == effects.Send(ALICE, m.ObjectPutReply(1))
    assert answers == [
        effects.Send(AGENT, m.ObjectData(1, X, place=PLACE)),
        effects.Send(BOB, m.ObjectData(1, X, [b"body"])),
    ]


def test_a_segment_that_cannot_be_opened_is_refused_so_that_its_bytes_can_be_sent() -> None:
    store = Store()
    reply = put_segment(store, ALICE, X, PLACE)
    assert reply.status == m.ObjectStatus.NO_SEGMENT
    assert "segment" in reply.text
    assert store.get(BOB, X) is None
    assert store.put(ALICE, X, b"body").status == m.ObjectStatus.DONE


def test_a_put_repeated_when_its_segment_has_other_bytes_is_confirmed() -> None:
    store = Store()
    put_segment(store, ALICE, X, PLACE, b"body")
    assert put_segment(store, ALICE, X, PLACE).status == m.ObjectStatus.DONE
    assert store.get(BOB, X) == [b"body"]


def test_equal_segments_of_clients_are_kept_once_and_results_are_not_compared() -> None:
    store = Store()
    put_segment(store, ALICE, X, PLACE, b"body")
    put_segment(store, ALICE, Y, OTHER_PLACE, b"body")
    assert store.answer(AGENT, m.ObjectGet(7, Y, mappable=True)) == m.ObjectData(7, Y, place=PLACE)
    used = store.core.snapshot().used_bytes
    put_segment(store, AGENT, Z, OTHER_PLACE, b"body")
    assert store.answer(AGENT, m.ObjectGet(7, Z, mappable=True)) == m.ObjectData(7, Z, place=OTHER_PLACE)
    assert store.core.snapshot().used_bytes == 2 * used


def test_segments_count_against_the_limit() -> None:
    store = Store(memory_bytes=2000)
    put_segment(store, ALICE, Y, PLACE, b"y" * 1000)
    assert put_segment(store, ALICE, X, PLACE, b"x" * 1000).status == m.ObjectStatus.STORAGE_FULL


def test_contents_of_equal_samples_are_told_apart() -> None:
    content_hash = KeyedContentHash(b"12345678")
    store = Store(memory_bytes=100_000_000)
    bodies = []
    for number in range(12):
        body = bytearray(3_000_000)
        body[1_500 + number] = 1
        bodies.append(body)
        store.put(ALICE, bytes([number]) * 16, bytes(body))
    assert len({content_hash([body]) for body in bodies}) == 1
    assert [store.get(BOB, bytes([number]) * 16) for number in range(12)] == [[bytes(body)] for body in bodies]
