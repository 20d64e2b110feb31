"""Objects of this host: which ones are in its cache, which are being fetched or stored. Pure bookkeeping.

A host fetches an object once, however many tasks name it. Requests are repeated and given up by
`scaler_protocol.objects.storage`, which the shell owns: each effect made here is answered by exactly one event.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from scaler_protocol.runtime.core import Outbox
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Reported
from scaler_worker.core import effects, events

PREFETCHES_MAX = 64
"""Objects fetched at once before any task asks for them."""

AHEAD_MAX = 16_384
"""Objects that are to be fetched when others have come."""

MISSING_MAX = 4096
"""Objects that are known to be missing. What is forgotten is waited for once more."""

AHEAD_PART = 4
"""What is fetched before tasks ask for more takes at most this part (a quarter) of the cache."""


@dataclass(slots=True, frozen=True)
class StoredResult:
    """The result of a task, which is reported once the object that holds it is stored."""

    client: bytes
    number: int
    attempt: int
    payload: bytes
    reported: Reported
    """Of this one row."""
    slot: int


@dataclass(slots=True)
class _Fetch:
    id: bytes
    processors: list[int] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class _Put:
    id: bytes
    result: StoredResult


@dataclass(slots=True, frozen=True)
class StoreEnded:
    """An upload has ended: `result` may be reported, or it failed with `status` and `text`."""

    result: StoredResult
    id: bytes
    status: int = m.Status.SUCCESS
    text: str = ""


class ObjectTransfers:
    """The host's object cache and its requests. `cache_bytes_max` bounds what is kept for reuse."""

    def __init__(self, cache_bytes_max: int, outbox: Outbox[effects.Effect]) -> None:
        self._outbox = outbox
        self.available = False
        """Whether there is an object storage server to ask."""
        self._cache_bytes_max = cache_bytes_max
        self._cached: OrderedDict[bytes, int] = OrderedDict()
        self._cached_bytes = 0
        self._ahead: OrderedDict[bytes, None] = OrderedDict()
        """Objects that tasks here will need, in the order in which they are to be fetched."""
        self._missing: OrderedDict[bytes, None] = OrderedDict()
        """Objects that were waited for ahead of their tasks, and have not come."""
        self._ahead_bytes = 0
        """Of those that have come since a processor had to wait for one: what it had until then, it has read."""
        self._fetches: dict[int, _Fetch] = {}
        self._request_of: dict[bytes, int] = {}
        self._puts: dict[int, _Put] = {}
        self._next_request = 1

    # --- fetching

    def prefetch(self, ids: Iterable[bytes]) -> None:
        """Fetch what a batch names, some at a time and as far as bounds allow; the rest is fetched when a task asks."""
        if not self.available:
            return
        for object_id in ids:
            if object_id in self._cached:
                self._cached.move_to_end(object_id)
            elif object_id not in self._request_of and object_id not in self._missing and len(self._ahead) < AHEAD_MAX:
                self._ahead[object_id] = None
        self._fetch_ahead()

    def want(self, processor: int, object_id: bytes, place_gone: bool) -> None:
        """A processor waits for an object: `AnswerObject` follows, now or later.

        With `place_gone`, the entry in the cache is of no use: the object is not where the entry says.
        """
        if place_gone and object_id in self._cached:
            self._cached_bytes -= self._cached.pop(object_id)
            self._outbox.add(effects.DropObject(object_id))
        if object_id in self._cached:
            self._cached.move_to_end(object_id)
            self._outbox.add(effects.AnswerObject(processor, object_id))
            return
        request = self._request_of.get(object_id)
        if request is None:
            if not self.available:
                text = f"object {object_id.hex()} cannot be fetched: there is no object storage server"
                self._outbox.add(effects.AnswerObject(processor, object_id, m.Status.STORAGE_FAILED, text))
                return
            request = self._begin_fetch(object_id, whole=place_gone)
        self._fetches[request].processors.append(processor)
        self._ahead_bytes = 0
        self._fetch_ahead()

    def on_fetched(self, event: events.ObjectFetched) -> None:
        """An object has arrived, or cannot: answer the processors that wait for it."""
        fetch = self._fetches.pop(event.request, None)
        if fetch is None:
            return
        del self._request_of[fetch.id]
        status, text = m.Status.SUCCESS, ""
        if event.missing:
            status, text = m.Status.MISSING_OBJECT, f"object {fetch.id.hex()} is not in object storage (any more)"
            if event.error:
                text = event.error
        elif event.error:
            status, text = m.Status.STORAGE_FAILED, f"object {fetch.id.hex()} cannot be fetched: {event.error}"
        else:
            self._keep(fetch.id, event.size_bytes)
            self._ahead_bytes += event.size_bytes
        if status != m.Status.SUCCESS and not fetch.processors:
            # The tasks that needed it may have been cancelled, and those that need the others.
            self._ahead.clear()
            if event.missing:
                self._missing[fetch.id] = None
                if len(self._missing) > MISSING_MAX:
                    self._missing.popitem(last=False)
        for processor in fetch.processors:
            self._outbox.add(effects.AnswerObject(processor, fetch.id, status, text))
        self._fetch_ahead()

    # --- storing

    def store(self, object_id: bytes, size_bytes: int, result: StoredResult) -> StoreEnded | None:
        """Upload an object a processor has put into the cache. Returns at once only when that cannot be."""
        self._keep(object_id, size_bytes)
        if not self.available:
            text = f"a result of {size_bytes} bytes cannot be stored: there is no object storage server"
            return StoreEnded(result, object_id, m.Status.STORAGE_FAILED, text)
        request = self._new_request()
        self._puts[request] = _Put(object_id, result)
        self._outbox.add(effects.PutObject(request, object_id, result.client))
        return None

    def on_stored(self, event: events.ObjectStored) -> StoreEnded | None:
        """Return how the storing of a result has ended; None if nobody waits for it."""
        put = self._puts.pop(event.request, None)
        if put is None:
            return None
        if not event.error:
            return StoreEnded(put.result, put.id)
        text = f"the result could not be stored: {event.error}"
        # What a processor takes with it is like what it was still running: it may be run again.
        status = m.Status.PROCESSOR_DIED if event.lost else m.Status.STORAGE_FAILED
        return StoreEnded(put.result, put.id, status, text)

    def drop_results(self, client: bytes, wanted: dict[int, int] | None) -> list[StoredResult]:
        """Forget uploads whose tasks nobody wants any longer: `wanted` attempts by number (0: any), or all for None."""
        dropped = []
        for request, put in list(self._puts.items()):
            result = put.result
            if result.client == client and (wanted is None or wanted.get(result.number) in (0, result.attempt)):
                dropped.append(self._puts.pop(request).result)
        return dropped

    def storing(self) -> list[StoredResult]:
        """Return the successes that wait for their object to be stored."""
        return [put.result for put in self._puts.values()]

    def forget_processor(self, processor: int) -> None:
        """Answer this processor no more."""
        for fetch in self._fetches.values():
            fetch.processors = [waiting for waiting in fetch.processors if waiting != processor]

    # --- private

    def _new_request(self) -> int:
        request = self._next_request
        self._next_request += 1
        return request

    def _fetch_ahead(self) -> None:
        ahead = self._ahead
        room = self._cache_bytes_max // AHEAD_PART
        while ahead and len(self._fetches) < PREFETCHES_MAX and self._ahead_bytes < room:
            object_id, _ = ahead.popitem(last=False)
            if object_id not in self._cached:
                self._begin_fetch(object_id)

    def _begin_fetch(self, object_id: bytes, *, whole: bool = False) -> int:
        self._ahead.pop(object_id, None)
        waits = object_id not in self._missing
        self._missing.pop(object_id, None)
        request = self._new_request()
        self._fetches[request] = _Fetch(object_id)
        self._request_of[object_id] = request
        self._outbox.add(effects.FetchObject(request, object_id, whole, waits))
        return request

    def _keep(self, object_id: bytes, size_bytes: int) -> None:
        if object_id not in self._cached:
            self._cached[object_id] = size_bytes
            self._cached_bytes += size_bytes
        self._cached.move_to_end(object_id)
        if self._cached_bytes <= self._cache_bytes_max:
            return
        storing = {put.id for put in self._puts.values()}
        kept = 1
        while self._cached_bytes > self._cache_bytes_max and len(self._cached) > kept:
            # The newest one is about to be mapped or uploaded. Whoever reads another has it open already.
            oldest, size = self._cached.popitem(last=False)
            if oldest in storing:
                # The store that has it now may refuse it, and the next one is to have it from here.
                self._cached[oldest] = size
                kept += 1
                continue
            self._cached_bytes -= size
            self._outbox.add(effects.DropObject(oldest))
