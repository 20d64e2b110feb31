"""Spilling to a tier below memory, told as conversations with the core. The tier is a table; every step checks the invariants."""

from __future__ import annotations

import random

from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import Limits, MemoryStorage, StoreCore, effects, events
from scaler_objstore.core.spill_header import SpillHeader, pack_header, unpack_header
from scaler_objstore.core.storage import Buffers
from scaler_objstore.core.tiering import FILE_OVERHEAD_BYTES, RETRY_SECONDS
from scaler_protocol.wire import messages as m

ALICE, BOB, AGENT, SCHEDULER = b"a" * 16, b"b" * 16, b"g" * 16, b"s" * 16
ROLES = {ALICE: m.Role.CLIENT, BOB: m.Role.CLIENT, AGENT: m.Role.AGENT, SCHEDULER: m.Role.SCHEDULER}
BODY_BYTES = 9_300
"""With its bookkeeping, ten of them fill the memory of these stores."""
MEMORY_BYTES = 100_000
FULL, DONE = m.ObjectStatus.STORAGE_FULL, m.ObjectStatus.DONE


def body_of(number: int) -> bytes:
    return number.to_bytes(2, "little") * (BODY_BYTES // 2)


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "little")


class Store:
    """A core with peers that have said hello, and a tier whose work is done when the test says so."""

    def __init__(
        self,
        stored: dict[str, tuple[bytes, Buffers]] | None = None,
        *,
        disk_bytes: int | None = None,
        incarnation: bytes = b"S" * 16,
        limits: Limits | None = None,
    ) -> None:
        content_hash = KeyedContentHash(b"12345678")
        self.core = StoreCore(incarnation, MemoryStorage(MEMORY_BYTES), content_hash, limits)
        self.core.use_tier(disk_bytes)
        self.now = 0.0
        self.tier = {} if stored is None else stored
        self.spills: list[effects.Spill] = []
        self.loads: list[effects.Load] = []
        self.logs: list[str] = []
        self.answers: list[tuple[bytes, m.Message]] = []
        found = [events.StoredContent(name, header) for name, (header, _) in self.tier.items()]
        self.handle(events.Restored(found))
        for peer, role in ROLES.items():
            if peer is not BOB or stored is None:
                self.say(peer, m.Hello(role, "", peer, to_object_storage=True))
        self.answers.clear()

    def handle(self, event: events.Event) -> None:
        self.core.handle(event, self.now)
        self.core.check_invariants()
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                self.answers.append((effect.peer, effect.message))
            elif isinstance(effect, effects.Spill):
                self.spills.append(effect)
            elif isinstance(effect, effects.Load):
                self.loads.append(effect)
            elif isinstance(effect, effects.Discard):
                for name in effect.names:
                    self.tier.pop(name, None)
            elif isinstance(effect, effects.Log):
                self.logs.append(effect.text)

    def say(self, peer: bytes, message: m.Message) -> None:
        self.handle(events.Incoming(peer, message))

    def free_all(self) -> None:
        """Turns follow until all is freed that was deleted."""
        while self.core.next_deadline() <= self.now:
            self.handle(events.Tick())

    def put(self, number: int, owner: bytes = ALICE, body: bytes | None = None) -> int | None:
        """Put an object; return the status of its answer, or None while it waits."""
        self.say(owner, m.ObjectPut(number, id_of(number), owner, [body_of(number) if body is None else body]))
        return self.put_status(number)

    def put_status(self, number: int) -> int | None:
        replies = [
            message
            for _, message in self.answers
            if isinstance(message, m.ObjectPutReply) and message.request == number
        ]
        return replies[-1].status if replies else None

    def get(self, number: int, *, peer: bytes = BOB, mappable: bool = False) -> m.ObjectData | None:
        """Ask for an object; return the answer, or None while it is read."""
        self.say(peer, m.ObjectGet(number, id_of(number), mappable=mappable))
        return self.got(number, peer)

    def got(self, number: int, peer: bytes = BOB) -> m.ObjectData | None:
        found = [
            message
            for asker, message in self.answers
            if asker == peer and isinstance(message, m.ObjectData) and message.request == number
        ]
        return found[-1] if found else None

    def spill_all(self) -> None:
        """The tier does all that it is asked to write."""
        while self.spills:
            spill = self.spills.pop(0)
            self.tier[spill.name] = spill.header, [bytes(buffer) for buffer in spill.buffers]
            self.handle(events.Spilled(spill.name))

    def fail_spills(self, text: str = "no space left") -> None:
        while self.spills:
            self.handle(events.SpillFailed(self.spills.pop(0).name, text))

    def load_all(self, place: bytes = b"") -> None:
        while self.loads:
            load = self.loads.pop(0)
            self.handle(events.Loaded(load.name, self.tier[load.name][1], place))

    def full_text(self) -> str:
        return next(
            message.text
            for _, message in self.answers
            if isinstance(message, m.ObjectPutReply) and message.status == FULL
        )


def filled(count: int, **arguments: int) -> Store:
    """A store with so many objects, of which those that do not fit are in the tier."""
    store = Store(disk_bytes=arguments.get("disk_bytes"))
    for number in range(count):
        store.put(number)
        store.spill_all()
        assert store.put_status(number) == DONE
    return store


def test_what_does_not_fit_goes_to_the_tier_and_comes_back_as_it_was() -> None:
    store = filled(50)
    assert store.core.snapshot().object_count == 50
    assert store.core.snapshot().used_bytes <= MEMORY_BYTES
    for number in range(50):
        if store.get(number) is None:
            store.load_all()
        data = store.got(number)
        assert data is not None
        assert data.buffers == [body_of(number)]


def test_the_least_recently_used_go_first_and_early_so_that_puts_need_not_wait() -> None:
    store = Store()
    for number in range(7):
        store.put(number)
    assert not store.spills
    store.get(0)
    store.put(7)
    assert [bytes(spill.buffers[0]) for spill in store.spills] == [body_of(1), body_of(2), body_of(3)]
    # They are still in memory, and stay there as long as there is room.
    store.spill_all()
    assert len(store.tier) == 3
    assert store.get(1) is not None
    for number in (8, 9, 10):
        assert store.put(number) == DONE
    assert store.get(2) is None
    assert store.get(1) is not None


def test_a_content_is_served_from_memory_while_it_is_written() -> None:
    store = Store()
    for number in range(8):
        store.put(number)
    assert store.spills
    data = store.get(0)
    assert data is not None
    assert data.buffers == [body_of(0)]


def test_one_reading_serves_all_who_ask() -> None:
    store = filled(30)
    for peer in (ALICE, BOB, AGENT):
        assert store.get(0, peer=peer) is None
    assert store.get(0, peer=BOB) is None
    assert len(store.loads) == 1
    store.load_all()
    for peer in (ALICE, BOB, AGENT):
        data = store.got(0, peer)
        assert data is not None
        assert data.buffers == [body_of(0)]
    assert sum(isinstance(message, m.ObjectData) for _, message in store.answers) == 3
    assert store.get(0) is not None


def test_a_reader_on_the_host_gets_the_place_of_a_file() -> None:
    store = filled(30)
    store.get(0, mappable=True)
    store.get(0, peer=ALICE)
    store.load_all(place=b"p" * 24)
    mapped, copied = store.got(0), store.got(0, ALICE)
    assert mapped == m.ObjectData(0, id_of(0), place=b"p" * 24)
    assert copied is not None
    assert copied.buffers == [body_of(0)]


def test_what_finds_no_room_in_memory_is_served_all_the_same() -> None:
    store = filled(30)
    assert store.get(0) is None
    for number in range(100, 105):
        store.put(number)
    store.load_all(place=b"p" * 24)
    data = store.got(0)
    assert data is not None
    assert data.buffers == [body_of(0)]


def test_a_put_waits_while_the_tier_makes_room() -> None:
    store = Store()
    waiting = [number for number in range(14) if store.put(number) is None]
    assert waiting == [10, 11]
    # Too many bytes wait already.
    assert store.put_status(13) == FULL
    # Said again, they keep their turn.
    store.put(10)
    store.spill_all()
    assert [store.put_status(number) for number in waiting] == [DONE, DONE]
    assert sum(isinstance(message, m.ObjectPutReply) and message.request == 10 for _, message in store.answers) == 1


def test_a_put_that_has_waited_too_long_is_refused_with_both_limits() -> None:
    store = Store(disk_bytes=1_000_000)
    for number in range(11):
        store.put(number)
    assert store.put_status(10) is None
    store.now = store.core.next_deadline()
    store.handle(events.Tick())
    assert store.put_status(10) == FULL
    assert f"of {MEMORY_BYTES} bytes of memory (--memory-limit-bytes)" in store.full_text()
    assert "of 1000000 bytes below it (--disk-limit-bytes)" in store.full_text()


def test_beyond_both_limits_a_put_is_refused_and_nothing_is_lost() -> None:
    size = BODY_BYTES + FILE_OVERHEAD_BYTES
    store = Store(disk_bytes=20 * size)
    stored = []
    for number in range(60):
        status = store.put(number)
        store.spill_all()
        if (status or store.put_status(number)) == DONE:
            stored.append(number)
    assert 28 <= len(stored) <= 30
    assert store.put_status(59) == FULL
    for number in stored:
        if store.get(number) is None:
            store.load_all()
        data = store.got(number)
        assert data is not None
        assert data.buffers == [body_of(number)]
    # What is deleted makes room again.
    store.say(ALICE, m.ObjectDelete(1000, ALICE, tuple(map(id_of, stored[:10]))))
    store.answers.clear()
    store.put(200)
    store.spill_all()
    assert store.put_status(200) == DONE


def test_a_get_waits_on_for_an_object_that_finds_no_room() -> None:
    store = Store()
    for number in range(12):
        store.put(number)
    store.fail_spills()
    assert store.put(50) == FULL
    store.say(AGENT, m.ObjectGet(50, id_of(50), wait_seconds=10.0))
    store.say(AGENT, m.ObjectGet(51, id_of(51), wait_seconds=10.0))
    for _ in range(20):
        store.now += 2.0
        assert store.put(50) == FULL
        store.fail_spills()
    assert store.got(50, AGENT) is None
    missing = store.got(51, AGENT)
    assert missing is not None
    assert missing.missing
    store.say(ALICE, m.ObjectDelete(100, ALICE, (id_of(0),)))
    assert store.put(50) == DONE
    data = store.got(50, AGENT)
    assert data is not None
    assert data.buffers == [body_of(50)]
    # Nobody tries again: then it is missing.
    assert store.put(60) == FULL
    store.say(AGENT, m.ObjectGet(60, id_of(60), wait_seconds=10.0))
    store.now += 20.0
    store.handle(events.Tick())
    missing = store.got(60, AGENT)
    assert missing is not None
    assert missing.missing


def test_an_object_larger_than_memory_is_refused_for_good() -> None:
    assert Store().put(1, body=bytes(MEMORY_BYTES)) == m.ObjectStatus.TOO_LARGE


def test_a_failing_tier_is_logged_once_tried_again_and_loses_nothing() -> None:
    store = Store()
    for number in range(8):
        store.put(number)
    store.fail_spills()
    assert store.put(8) == DONE
    assert store.put(9) == DONE
    assert store.put(10) == FULL
    assert "which fails: no space left" in store.full_text()
    assert not store.spills
    for _ in range(3):
        store.now += RETRY_SECONDS
        assert store.core.next_deadline() <= store.now
        store.handle(events.Tick())
        # One attempt shows whether it works again.
        assert len(store.spills) == 1
        store.fail_spills()
    assert len([text for text in store.logs if "no space left" in text]) == 1
    store.now += RETRY_SECONDS
    store.handle(events.Tick())
    store.spill_all()
    assert "the storage below memory works again" in store.logs
    assert store.put(11) == DONE
    assert all(store.get(number) is not None or store.loads for number in range(10))


def test_reading_goes_on_while_the_disk_is_full() -> None:
    store = filled(30)
    for number in range(100, 105):
        store.put(number)
    store.fail_spills()
    assert store.get(0) is None
    store.load_all()
    assert store.got(0) is not None


def test_what_cannot_be_read_now_is_read_later() -> None:
    store = filled(30)
    assert store.get(0) is None
    store.handle(events.LoadFailed(store.loads.pop().name, "input/output error", is_lost=False))
    assert store.got(0) is None
    assert not store.loads
    store.now += RETRY_SECONDS
    store.handle(events.Tick())
    store.load_all()
    data = store.got(0)
    assert data is not None
    assert data.buffers == [body_of(0)]


def test_a_damaged_record_is_dropped_named_and_answered_as_missing() -> None:
    store = filled(30)
    assert store.get(0) is None
    store.handle(events.LoadFailed(store.loads.pop().name, "it is damaged", is_lost=True))
    data = store.got(0)
    assert data is not None
    assert data.missing
    assert store.logs[-1] == f"1 object is lost ({id_of(0).hex()}): it is damaged"
    assert store.core.snapshot().object_count == 29


def test_deleting_is_right_at_every_moment() -> None:
    store = Store()
    for number in range(8):
        store.put(number)
    spill = store.spills[0]
    store.say(ALICE, m.ObjectDelete(100, ALICE, (id_of(0),)))
    # Deleted while it was written: it goes when that has ended.
    store.spill_all()
    assert spill.name not in store.tier
    store = filled(30)
    assert store.get(0) is None
    store.say(ALICE, m.ObjectDelete(100, ALICE, (id_of(0), id_of(1))))
    data = store.got(0)
    assert data is not None
    assert data.missing
    store.load_all()
    assert store.core.snapshot().object_count == 28
    before = len(store.tier)
    store.say(SCHEDULER, m.ObjectDelete(101, ALICE, ()))
    store.free_all()
    assert before > 10
    assert store.tier == {}
    assert store.core.snapshot().used_bytes == 0


def test_equal_contents_share_memory_until_they_are_written() -> None:
    store = Store()
    store.put(0)
    store.put(1, body=body_of(0))
    used = store.core.snapshot().used_bytes
    for number in range(2, 9):
        store.put(number)
    assert len(unpack_header(store.spills[0].header).objects) == 2  # type: ignore[union-attr]
    store.put(20, body=body_of(0))
    assert store.core.snapshot().used_bytes == 9 * used
    store.spill_all()
    store.say(ALICE, m.ObjectDelete(100, ALICE, (id_of(0),)))
    data = store.get(1)
    assert data is not None
    assert data.buffers == [body_of(0)]


def test_a_repeated_put_of_a_spilled_object_is_confirmed_and_another_length_is_not() -> None:
    store = filled(30)
    assert store.put(0) == DONE
    assert store.put(0, body=b"other") == m.ObjectStatus.CONFLICT


def test_another_process_has_what_was_spilled() -> None:
    first = filled(30)
    spilled = len(first.tier)
    second = Store(first.tier, incarnation=b"T" * 16)
    assert second.core.snapshot().object_count == spilled > 20
    second.say(BOB, m.Hello(m.Role.CLIENT, "", BOB, to_object_storage=True))
    assert second.get(0) is None
    second.load_all()
    data = second.got(0)
    assert data is not None
    assert data.buffers == [body_of(0)]
    # Its owner sends again what it had, and more.
    for number in range(30, 60):
        second.put(number)
        second.spill_all()
    assert second.core.snapshot().object_count == spilled + 30


def test_headers_of_others_and_objects_found_twice_are_dropped() -> None:
    header = pack_header([(id_of(1), ALICE)], (5,))
    stored: dict[str, tuple[bytes, Buffers]] = {
        "01": (header, [b"right"]),
        "02": (header, [b"again"]),
        "03": (b"\x09" + header[1:], [b"later"]),
        "04": (header[:-1], [b"short"]),
        "05": (b"", [b""]),
    }
    store = Store(stored)
    assert list(store.tier) == ["01"]
    assert store.core.snapshot().object_count == 1


def test_a_header_says_what_was_packed() -> None:
    for objects, lengths in (((), ()), (((id_of(1), ALICE), (id_of(2), BOB)), (0, 7, 1 << 40))):
        assert unpack_header(pack_header(objects, lengths)) == SpillHeader(tuple(objects), lengths)


def test_owners_that_ended_while_no_server_ran_lose_what_they_left() -> None:
    first = filled(20)
    for number in range(100, 130):
        first.put(number, owner=BOB)
        first.spill_all()
    second = Store(first.tier, incarnation=b"T" * 16)
    assert second.core.snapshot().owners == {ALICE, BOB}
    # ALICE says hello now and then; BOB does not come back.
    for _ in range(8):
        second.say(ALICE, m.Hello(m.Role.CLIENT, "", ALICE, to_object_storage=True))
        second.now = second.core.next_deadline()
        second.handle(events.Tick())
    assert second.core.snapshot().owners == {ALICE}
    third = Store(first.tier, incarnation=b"U" * 16)
    third.say(SCHEDULER, m.ObjectDelete(1, ALICE, ()))
    third.free_all()
    assert third.core.snapshot().owners == set()
    assert third.tier == {}


def test_a_cluster_that_ends_leaves_nothing() -> None:
    store = filled(30)
    assert store.tier
    store.say(SCHEDULER, m.Shutdown())
    assert store.tier == {}


def test_any_order_of_everything_serves_only_right_bytes() -> None:
    for seed in range(20):
        chosen = random.Random(seed)
        store = Store(disk_bytes=chosen.choice([None, 150_000]), limits=Limits(put_wait_seconds=3.0))
        stored: set[int] = set()
        for number in range(300):
            what = chosen.random()
            if what < 0.4:
                store.put(number)
            elif what < 0.6 and stored:
                wanted = chosen.choice(sorted(stored))
                store.say(
                    chosen.choice(list(ROLES)), m.ObjectGet(number, id_of(wanted), mappable=chosen.random() < 0.5)
                )
            elif what < 0.7 and stored:
                gone = chosen.choice(sorted(stored))
                stored.discard(gone)
                store.say(ALICE, m.ObjectDelete(number, ALICE, (id_of(gone),)))
            elif what < 0.9:
                if store.spills and chosen.random() < 0.2:
                    store.handle(events.SpillFailed(store.spills.pop(0).name, "busy"))
                elif store.spills:
                    spill = store.spills.pop(chosen.randrange(len(store.spills)))
                    store.tier[spill.name] = spill.header, list(spill.buffers)
                    store.handle(events.Spilled(spill.name))
                if store.loads:
                    load = store.loads.pop(chosen.randrange(len(store.loads)))
                    if chosen.random() < 0.2:
                        store.handle(events.LoadFailed(load.name, "busy", is_lost=False))
                    else:
                        store.handle(events.Loaded(load.name, store.tier[load.name][1]))
            else:
                store.now += chosen.random() * 3
                store.handle(events.Tick())
            for _, message in store.answers:
                if isinstance(message, m.ObjectPutReply) and message.status == DONE:
                    stored.add(message.request)
                elif isinstance(message, m.ObjectData) and not message.missing:
                    assert message.buffers == [body_of(int.from_bytes(message.id, "little"))]
            store.answers.clear()
            assert len(store.spills) <= 4
            assert len(store.loads) <= 8
        # Everything that was confirmed and not deleted is there.
        assert store.core.snapshot().object_count >= len(stored), seed
