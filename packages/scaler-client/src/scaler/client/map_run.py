"""One call of `map` or `starmap`: cuts items into chunks, keeps some of them under way, puts results in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from scaler.client.engine import Engine
from scaler.client.future import ScalerFuture
from scaler.client.linked_items import LinkedItem, LinkedItems
from scaler.client.object_uses import take_out_inner
from scaler.client.sleepers import Sleepers
from scaler.core.chunking import ChunkPlanner
from scaler.core.effects import Payload
from scaler.core.tasks import TaskGroup
from scaler.errors import ScalerError, SerializationError
from scaler.serialization.arguments import Packer
from scaler.serialization.pickled import Pickled
from scaler.serialization.results import load_error, load_failure, load_outcomes
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.payloads.framing import RAW_ITEMS
from scaler_protocol.payloads.unpickled import UnpickledBytes
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.messages import Status

NOTHING_COMPLETED_SECONDS = 0.05


class _Answer(NamedTuple):
    status: int
    payload: Payload
    duration: int


class _Chunk:
    """One task of the map; the engine tells it its answer."""

    __slots__ = ("answer", "error", "future", "inner", "items", "number", "position", "run", "sent_at")

    def __init__(self, run: MapRun, position: int, items: int, sent_at: float, inner: tuple[bytes, ...]) -> None:
        self.run = run
        self.position = position
        self.items = items
        self.sent_at = sent_at
        self.number = 0
        self.inner = inner
        """See `ScalerFuture.hold_until_restored`."""
        self.answer: _Answer | None = None
        self.error: ScalerError | None = None
        self.future: ScalerFuture | None = None
        """Of an item that has futures: its answer, in place of the other two."""

    def on_answer(self, status: int, payload: Payload, duration: int) -> None:
        self.answer = _Answer(status, payload, duration)
        self.run.on_ended(self)

    def on_abandoned(self, error: ScalerError) -> None:
        self.error = error
        self.run.on_ended(self)


class MapRun:
    """See the module. Used by one thread, once."""

    def __init__(
        self,
        engine: Engine,
        packer: Packer,
        group: TaskGroup,
        function: Any,
        *,
        star: bool,
        serializer: AnySerializer | None,
        carried: Carried,
        linked: LinkedItems,
        on_items_done: Callable[[int], None] | None = None,
    ) -> None:
        self._engine = engine
        self._packer = packer
        self._group = group
        self._function = function
        self._star = star
        self._serializer = serializer
        self._carried = carried
        """What each chunk carries."""
        self._linked = linked
        self._split: deque[list[Any] | LinkedItem] = deque()
        """Items that were taken for one chunk, and are sent apart because some have futures."""
        self._on_items_done = on_items_done
        self._changed = Sleepers()
        self._ended: deque[_Chunk] = deque()
        self._chunks: list[_Chunk | None] = []
        self._submitted = 0
        """Items in the chunks so far."""
        self._outcomes: dict[int, list[Any]] = {}
        self._failed: tuple[int, BaseException] | None = None
        """The first failure in the order of items, of those known: (position of its chunk, exception)."""

    def on_ended(self, chunk: _Chunk) -> None:
        """Called by the engine's thread."""
        self._ended.append(chunk)
        self._changed.wake()

    def run(self, items: Iterator[Any], total: int | None) -> list[Any]:
        """Return the results in the order of `items`; raise what the first failing item raised."""
        # Inside a task: one word that it blocks, not one per chunk.
        with self._engine.waiting.blocking():
            return self._run(items, total)

    def _run(self, items: Iterator[Any], total: int | None) -> list[Any]:
        planner = ChunkPlanner(total)
        began = time.monotonic()
        exhausted = False
        try:
            while True:
                while not exhausted and self._failed is None and planner.may_send() and self._may_submit(planner):
                    if self._split:
                        taken = self._split.popleft()
                    else:
                        taken = list(islice(items, planner.next_size(time.monotonic() - began)))
                        if not taken:
                            exhausted = True
                            break
                    if isinstance(taken, LinkedItem):
                        self._submit_linked(taken.item, planner)
                    else:
                        self._submit(taken, planner)
                if self._finished(exhausted):
                    break
                self._engine.waiting.wait(self._changed, lambda: bool(self._ended), NOTHING_COMPLETED_SECONDS)
                if not self._ended and not exhausted:
                    planner.on_nothing_completed()
                while self._ended:
                    self._take(self._ended.popleft(), planner)
        except BaseException:
            self._cancel_rest()
            raise
        if self._failed is not None:
            self._cancel_rest()
            error = self._failed[1]
            self._failed = None
            try:
                if issubclass(type(error), StopIteration):
                    # Whoever iterates over something around this call would take it for its end.
                    raise RuntimeError("a call of the mapped function raised StopIteration") from error
                raise error
            finally:
                # The traceback refers to this frame, and would to the exception.
                del error
        results: list[Any] = []
        for position in range(len(self._chunks)):
            results += self._outcomes.pop(position)
        return results

    def _may_submit(self, planner: ChunkPlanner) -> bool:
        """Whether to submit now. Where the scheduler holds us back, our own chunks coming back make room."""
        return planner.in_flight == 0 or self._engine.tasks.may_submit_now()

    def _finished(self, exhausted: bool) -> bool:
        if self._failed is None:
            return exhausted and len(self._outcomes) == len(self._chunks)
        # The error is that of the first failing item: all before it must be known.
        return all(chunk is None for chunk in self._chunks[: self._failed[0]])

    def _submit(self, items: list[Any], planner: ChunkPlanner) -> None:
        try:
            packed = self._packer.chunk(self._function, self._star, items, self._submitted)
        except SerializationError:
            self._split.extend(self._linked.split(items))
            if not self._split:
                raise
            return
        try:
            function: Pickled = self._packer.function(self._function)
        except BaseException:
            self._engine.objects.release(packed.objects)
            raise
        if not self._chunks:
            self._check_first(items[0], function, packed.objects)
        objects, inner = take_out_inner((*packed.objects, *function.objects))
        chunk = _Chunk(self, len(self._chunks), len(items), time.monotonic(), inner)
        self._chunks.append(chunk)
        self._submitted += len(items)
        planner.on_sent(
            len(items),
            max(len(packed.payload), packed.stored_bytes),
            placed=type(packed.payload) is UnpickledBytes and self._engine.places_payloads,
        )
        self._engine.tasks.submit(
            self._group,
            function,
            packed.payload,
            objects,
            chunk,
            self._carried,
        )

    def _submit_linked(self, item: Any, planner: ChunkPlanner) -> None:
        future = self._linked.submit(self._function, item, self._submitted)
        chunk = _Chunk(self, len(self._chunks), 1, time.monotonic(), ())
        chunk.future = future
        self._chunks.append(chunk)
        self._submitted += 1
        planner.on_sent_apart()
        future.add_done_callback(lambda _: self.on_ended(chunk))

    def _check_first(self, item: Any, function: Pickled, objects: tuple[bytes, ...]) -> None:
        """Raise TypeError where the function does not take the first item. What later ones raise comes in their turn."""
        if function.check is None:
            return
        try:
            function.check(*item) if self._star else function.check(item)
        except TypeError:
            self._engine.objects.release((*objects, *function.objects))
            raise

    def _take(self, chunk: _Chunk, planner: ChunkPlanner) -> None:
        position = chunk.position
        self._chunks[position] = None
        if chunk.future is not None:
            self._take_linked(chunk, chunk.future, planner)
            return
        answer = chunk.answer
        if answer is None:
            assert chunk.error is not None
            raise chunk.error
        if self._on_items_done is not None:
            self._on_items_done(chunk.items)
        payload = answer.payload
        size = len(payload) if isinstance(payload, bytes) else sum(map(len, payload))
        placed = not isinstance(payload, bytes) and payload[0] == RAW_ITEMS
        planner.on_completed(chunk.items, answer.duration / 1e6, time.monotonic() - chunk.sent_at, size, placed=placed)
        if answer.status != Status.SUCCESS:
            self._fail(position, load_error(answer.status, answer.payload, chunk.number))
            return
        values, failures = load_outcomes(answer.payload, self._serializer)
        if failures:
            self._fail(position, load_failure(failures[min(failures)], chunk.number))
        self._outcomes[position] = values

    def _take_linked(self, chunk: _Chunk, future: ScalerFuture, planner: ChunkPlanner) -> None:
        chunk.future = None
        if self._on_items_done is not None:
            self._on_items_done(1)
        planner.on_completed_apart()
        try:
            self._outcomes[chunk.position] = [future.result()]
        except BaseException as error:
            if not future.done() or not (future.cancelled() or future.failed):
                # An interrupt of this thread, not the item's.
                raise
            self._fail(chunk.position, error)

    def _fail(self, position: int, error: BaseException) -> None:
        if self._failed is None or position < self._failed[0]:
            self._failed = (position, error)

    def _cancel_rest(self) -> None:
        numbers = [chunk.number for chunk in self._chunks if chunk is not None and chunk.number]
        if numbers:
            self._engine.tasks.cancel(numbers)
        futures = [chunk.future for chunk in self._chunks if chunk is not None and chunk.future is not None]
        if futures:
            self._engine.futures.cancel(futures, None)
