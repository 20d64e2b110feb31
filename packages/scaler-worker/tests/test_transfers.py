"""The objects of a host: which are fetched before tasks ask for them, and in what order."""

from __future__ import annotations

from scaler_protocol.runtime.core import Outbox
from scaler_protocol.wire.batch_rows import Reported
from scaler_worker.core import effects, events
from scaler_worker.core.transfers import (
    AHEAD_MAX,
    AHEAD_PART,
    MISSING_MAX,
    PREFETCHES_MAX,
    ObjectTransfers,
    StoredResult,
)

CACHE_BYTES = 4000
PROCESSOR = 7


class Host:
    """Transfers, and what they ask for."""

    def __init__(self) -> None:
        self.outbox: Outbox[effects.Effect] = Outbox()
        self.transfers = ObjectTransfers(CACHE_BYTES, self.outbox)
        self.transfers.available = True
        self.requests: dict[bytes, int] = {}
        self.waits: dict[bytes, bool] = {}
        self.answered: list[bytes] = []
        self.dropped: list[bytes] = []
        self.puts: dict[bytes, int] = {}

    def asked(self) -> list[bytes]:
        """Return what is asked for since the last look, in order."""
        asked = []
        for effect in self.outbox.take():
            if isinstance(effect, effects.FetchObject):
                self.requests[effect.id] = effect.request
                self.waits[effect.id] = effect.waits
                asked.append(effect.id)
            elif isinstance(effect, effects.AnswerObject):
                self.answered.append(effect.id)
            elif isinstance(effect, effects.DropObject):
                self.dropped.append(effect.id)
            elif isinstance(effect, effects.PutObject):
                self.puts[effect.id] = effect.request
        return asked

    def come(self, object_id: bytes, size: int = 1, *, missing: bool = False) -> list[bytes]:
        """An object comes. Returns what is asked for because of it."""
        self.transfers.on_fetched(events.ObjectFetched(self.requests[object_id], size, missing=missing))
        return self.asked()

    def store(self, object_id: bytes, size: int) -> None:
        """A task here has this result."""
        result = StoredResult(b"client", int.from_bytes(object_id, "little"), 1, b"", Reported(), 0)
        assert self.transfers.store(object_id, size, result) is None
        self.asked()


def ids(count: int, start: int = 0) -> list[bytes]:
    return [number.to_bytes(16, "little") for number in range(start, start + count)]


def test_all_that_a_batch_names_is_fetched_some_at_a_time() -> None:
    host, wanted = Host(), ids(300)
    host.transfers.prefetch(wanted)
    asked = host.asked()
    assert asked == wanted[:PREFETCHES_MAX]
    for object_id in wanted:
        asked += host.come(object_id)
    assert asked == wanted
    host.transfers.prefetch(wanted)
    assert host.asked() == []


def test_no_more_than_a_part_of_the_cache_comes_before_a_task_asks() -> None:
    host, wanted = Host(), ids(300)
    host.transfers.prefetch(wanted)
    asked = host.asked()
    each = CACHE_BYTES // AHEAD_PART // 10
    for object_id in wanted[:10]:
        asked += host.come(object_id, each)
    assert asked == wanted[: PREFETCHES_MAX + 9]
    assert [one for object_id in asked[10:] for one in host.come(object_id, each)] == []
    # A processor has read what there is, and waits: first what it asks for, then what comes behind.
    reached = len(asked)
    host.transfers.want(PROCESSOR, wanted[reached], False)
    assert host.asked() == wanted[reached : reached + PREFETCHES_MAX]
    host.come(wanted[reached])
    assert host.answered == [wanted[reached]]


def test_nothing_more_is_fetched_ahead_once_objects_are_missing() -> None:
    host, wanted = Host(), ids(300)
    host.transfers.prefetch(wanted)
    host.asked()
    assert host.come(wanted[0], missing=True) == []
    assert [one for object_id in wanted[1:PREFETCHES_MAX] for one in host.come(object_id)] == []
    host.transfers.want(PROCESSOR, wanted[-1], False)
    assert host.asked() == [wanted[-1]]


def test_what_is_to_be_fetched_is_bounded() -> None:
    host = Host()
    host.transfers.prefetch(ids(AHEAD_MAX + 100))
    host.asked()
    assert len(host.transfers._ahead) == AHEAD_MAX - PREFETCHES_MAX


def test_what_is_being_stored_stays_until_it_is() -> None:
    """The store that is asked first may refuse it, and then another one has to get it from here."""
    host, (first, second, read, third) = Host(), ids(4)
    host.store(first, CACHE_BYTES // 2)
    host.store(second, CACHE_BYTES)
    host.transfers.prefetch([read])
    host.asked()
    host.come(read, CACHE_BYTES)
    assert host.dropped == []
    host.store(third, CACHE_BYTES)
    assert host.dropped == [read]
    for object_id in (first, second):
        host.transfers.on_stored(events.ObjectStored(host.puts[object_id]))
    host.store(read, 1)
    assert sorted(host.dropped) == sorted([read, first, second])


def test_what_was_waited_for_ahead_in_vain_is_not_waited_for_again() -> None:
    host = Host()
    lost, late = ids(2)
    host.transfers.prefetch([lost, late])
    assert host.asked() == [lost, late]
    assert host.waits == {lost: True, late: True}
    assert host.come(lost, missing=True) == []
    assert host.come(late, missing=True) == []
    host.transfers.prefetch([lost])
    assert host.asked() == []
    for object_id in (lost, late):
        host.transfers.want(PROCESSOR, object_id, place_gone=False)
        assert host.asked() == [object_id]
        assert not host.waits[object_id]
    host.come(lost, missing=True)
    host.come(late)
    assert host.answered == [lost, late]
    # Its next task is another matter.
    host.transfers.want(PROCESSOR, lost, place_gone=False)
    assert host.asked() == [lost]
    assert host.waits[lost]


def test_only_so_many_are_known_to_be_missing() -> None:
    host, lost = Host(), ids(MISSING_MAX + 1)
    for object_id in lost:
        host.transfers.prefetch([object_id])
        host.asked()
        host.come(object_id, missing=True)
    for object_id in (lost[0], lost[1]):
        host.transfers.want(PROCESSOR, object_id, place_gone=False)
    host.asked()
    assert host.waits[lost[0]]
    assert not host.waits[lost[1]]
