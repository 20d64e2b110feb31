"""Objects of this host: which ones are in its cache, which are being fetched or stored. Pure bookkeeping.

A host fetches an object once, however many tasks name it. Requests to the object storage server are answered or repeated;
nothing waits for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from scaler_protocol import messages as m
from scaler_worker.core.effects import AnswerObject, DropObject, Effect, FetchObject, PutObject
from scaler_worker.core.events import ObjectFetched, ObjectStored

FETCH_WAIT_SECONDS = 5.0
"""How long one request lets the storage server wait for an object that has not arrived."""

FETCH_REPEAT_SECONDS = 10.0
MISSING_REPEAT_SECONDS = 0.2
MISSING_AFTER_SECONDS = 10.0
"""An object the server has not had for so long does not exist."""

GIVE_UP_SECONDS = 60.0
"""A server that has not answered for so long has failed."""

BYTES_PER_SECOND_MIN = 4 * 1024 * 1024
"""Slowest transfer that counts as progress: large objects get that much more time."""

PREFETCHES_MAX = 64


@dataclass(slots=True)
class StoredResult:
    """A task's success that is told once its object is stored."""

    client: bytes
    number: int
    attempt: int
    payload: bytes
    duration: int
    cpu_time: int
    memory_peak: int


@dataclass(slots=True)
class _Fetch:
    id: bytes
    begun_at: float
    repeat_at: float
    processors: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Put:
    id: bytes
    result: StoredResult
    patience: float
    give_up_at: float
    repeat_at: float


@dataclass(slots=True, frozen=True)
class StoreEnded:
    """An upload has ended: `result` may be told, or failed with `status` and `text`."""

    result: StoredResult
    id: bytes
    status: int = m.Status.SUCCESS
    text: str = ""


class ObjectTransfers:
    """The host's object cache and its requests. `cache_bytes_max` bounds what is kept for reuse."""

    def __init__(self, cache_bytes_max: int) -> None:
        self.available = False
        """Whether there is an object storage server to ask."""
        self._cache_bytes_max = cache_bytes_max
        self._cached: OrderedDict[bytes, int] = OrderedDict()
        self._cached_bytes = 0
        self._fetches: dict[int, _Fetch] = {}
        self._request_of: dict[bytes, int] = {}
        self._puts: dict[int, _Put] = {}
        self._next_request = 1

    # --- fetching

    def prefetch(self, ids: Iterable[bytes], now: float, effects: list[Effect]) -> None:
        """Begin to fetch what a batch names, as far as bounds allow; the rest is fetched when a task asks."""
        if not self.available:
            return
        for object_id in ids:
            if object_id in self._cached:
                self._cached.move_to_end(object_id)
            elif object_id not in self._request_of and len(self._fetches) < PREFETCHES_MAX:
                self._begin_fetch(object_id, now, effects)

    def want(self, processor: int, object_id: bytes, now: float, effects: list[Effect]) -> None:
        """A processor waits for an object: `AnswerObject` follows, now or later."""
        if object_id in self._cached:
            self._cached.move_to_end(object_id)
            effects.append(AnswerObject(processor, object_id))
            return
        request = self._request_of.get(object_id)
        if request is None:
            if not self.available:
                text = f"object {object_id.hex()} cannot be fetched: there is no object storage server"
                effects.append(AnswerObject(processor, object_id, m.Status.STORAGE_FAILED, text))
                return
            request = self._begin_fetch(object_id, now, effects)
        self._fetches[request].processors.append(processor)

    def on_fetched(self, event: ObjectFetched, now: float, effects: list[Effect]) -> None:
        fetch = self._fetches.get(event.request)
        if fetch is None:
            # Answered twice, because it was asked twice; the file is the same.
            return
        if event.missing and now < fetch.begun_at + MISSING_AFTER_SECONDS:
            fetch.repeat_at = min(fetch.repeat_at, now + MISSING_REPEAT_SECONDS)
            return
        if event.missing:
            text = f"object {fetch.id.hex()} does not exist in object storage (any more)"
            self._end_fetch(event.request, m.Status.MISSING_OBJECT, text, effects)
        elif event.error:
            self._end_fetch(event.request, m.Status.STORAGE_FAILED, event.error, effects)
        else:
            self._keep(fetch.id, event.size_bytes, effects)
            self._end_fetch(event.request, m.Status.SUCCESS, "", effects)

    # --- storing

    def store(
        self, object_id: bytes, size_bytes: int, result: StoredResult, now: float, effects: list[Effect]
    ) -> StoreEnded | None:
        """Upload an object a processor has put into the cache. Returns at once only when that cannot be."""
        self._keep(object_id, size_bytes, effects)
        if not self.available:
            text = f"a result of {size_bytes} bytes cannot be stored: there is no object storage server"
            return StoreEnded(result, object_id, m.Status.STORAGE_FAILED, text)
        request = self._new_request()
        patience = size_bytes / BYTES_PER_SECOND_MIN
        self._puts[request] = _Put(
            object_id, result, patience, now + GIVE_UP_SECONDS + patience, now + FETCH_REPEAT_SECONDS + patience
        )
        effects.append(PutObject(request, object_id, result.client))
        return None

    def on_stored(self, event: ObjectStored) -> StoreEnded | None:
        put = self._puts.pop(event.request, None)
        if put is None:
            return None
        if event.status == m.ObjectStatus.DONE:
            return StoreEnded(put.result, put.id)
        text = event.text or f"status {event.status}"
        return StoreEnded(put.result, put.id, m.Status.STORAGE_FAILED, f"the result could not be stored: {text}")

    def drop_results(self, client: bytes, wanted: dict[int, int] | None) -> list[StoredResult]:
        """Forget uploads whose tasks nobody wants any longer: those of `wanted` numbers, or all for None."""
        dropped = []
        for request, put in list(self._puts.items()):
            if put.result.client == client and (wanted is None or put.result.number in wanted):
                dropped.append(self._puts.pop(request).result)
        return dropped

    def storing(self) -> list[StoredResult]:
        """Return the successes that wait for their object to be stored."""
        return [put.result for put in self._puts.values()]

    # --- time and ends

    def tick(self, now: float, effects: list[Effect]) -> list[StoreEnded]:
        ended = []
        for request, fetch in list(self._fetches.items()):
            if now >= fetch.begun_at + GIVE_UP_SECONDS:
                text = f"object {fetch.id.hex()}: the object storage server has not answered for {GIVE_UP_SECONDS:g} s"
                self._end_fetch(request, m.Status.STORAGE_FAILED, text, effects)
            elif now >= fetch.repeat_at:
                self._ask(request, fetch, now, effects)
        for request, put in list(self._puts.items()):
            if now >= put.give_up_at:
                del self._puts[request]
                text = "the result could not be stored: the object storage server does not answer"
                ended.append(StoreEnded(put.result, put.id, m.Status.STORAGE_FAILED, text))
            elif now >= put.repeat_at:
                put.repeat_at = now + FETCH_REPEAT_SECONDS + put.patience
                effects.append(PutObject(request, put.id, put.result.client))
        return ended

    def next_deadline(self) -> float:
        deadlines = [min(fetch.repeat_at, fetch.begun_at + GIVE_UP_SECONDS) for fetch in self._fetches.values()]
        deadlines += [min(put.repeat_at, put.give_up_at) for put in self._puts.values()]
        return min(deadlines, default=float("inf"))

    def forget_processor(self, processor: int) -> None:
        for fetch in self._fetches.values():
            fetch.processors = [waiting for waiting in fetch.processors if waiting != processor]

    # --- inside

    def _new_request(self) -> int:
        request = self._next_request
        self._next_request += 1
        return request

    def _begin_fetch(self, object_id: bytes, now: float, effects: list[Effect]) -> int:
        request = self._new_request()
        fetch = self._fetches[request] = _Fetch(object_id, now, now)
        self._request_of[object_id] = request
        self._ask(request, fetch, now, effects)
        return request

    def _ask(self, request: int, fetch: _Fetch, now: float, effects: list[Effect]) -> None:
        fetch.repeat_at = now + FETCH_REPEAT_SECONDS
        effects.append(FetchObject(request, fetch.id, FETCH_WAIT_SECONDS))

    def _end_fetch(self, request: int, status: int, text: str, effects: list[Effect]) -> None:
        fetch = self._fetches.pop(request)
        del self._request_of[fetch.id]
        effects.extend(AnswerObject(processor, fetch.id, status, text) for processor in fetch.processors)

    def _keep(self, object_id: bytes, size_bytes: int, effects: list[Effect]) -> None:
        if object_id not in self._cached:
            self._cached[object_id] = size_bytes
            self._cached_bytes += size_bytes
        self._cached.move_to_end(object_id)
        uploading = {put.id for put in self._puts.values()}
        for old in list(self._cached):
            if self._cached_bytes <= self._cache_bytes_max:
                break
            # The newest one is about to be mapped or uploaded; those under upload are still read.
            if old != object_id and old not in uploading:
                self._cached_bytes -= self._cached.pop(old)
                effects.append(DropObject(old))
