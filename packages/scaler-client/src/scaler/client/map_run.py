"""One call of `map`, `starmap` or `imap`: cuts items into chunks, keeps some of them under way, puts results in order.

`MapRun` never waits by itself. `advance` does all that can be done now. Whoever drives it waits in its own way until it is told
of something new: `run` and `iterate` as a thread does, `scaler.client.async_maps` as a coroutine does.
"""

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
from scaler.client.placed_payloads import PlacedBuffers
from scaler.client.sleepers import Sleepers
from scaler.core.chunking import ITEMS_MAX, ChunkPlanner
from scaler.core.effects import Payload
from scaler.core.tasks import TaskGroup
from scaler.errors import ScalerError, SerializationError
from scaler.serialization.arguments import Packer
from scaler.serialization.pickled import Pickled
from scaler.serialization.results import load_error, load_failure, load_outcomes
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.payloads.unpickled import BufferedPickle, UnpickledBytes
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.messages import Status

NOTHING_COMPLETED_SECONDS = 0.05

LAZY_CHUNKS_MAX = 1024
"""Of an iteration without `buffersize`: so many chunks at most are under way, or have results that nobody has taken."""

LAZY_BYTES_MAX = 256 << 20
"""Of such an iteration: so many bytes of items and results at most."""

BUFFER_CHUNKS = 32
"""Into how many chunks at least what `buffersize` allows is cut."""


class _Answer(NamedTuple):
    status: int
    payload: Payload
    duration: int


class _Chunk:
    """One task of the map; the engine tells it its answer."""

    __slots__ = ("answer", "error", "future", "inner", "items", "number", "position", "run", "sent_at", "size")

    def __init__(
        self, run: MapRun, position: int, items: int, size: int, sent_at: float, inner: tuple[bytes, ...]
    ) -> None:
        self.run = run
        self.position = position
        self.items = items
        self.size = size
        """Bytes of its items."""
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


class Outcome(NamedTuple):
    """What a chunk has returned, up to the first item that failed."""

    values: list[Any]
    items: int
    size: int
    """Bytes of the results."""


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
        items: Iterator[Any],
        total: int | None,
        ordered: bool = True,
        on_items_done: Callable[[int], None] | None = None,
        is_per_item: bool = False,
    ) -> None:
        """`total`: how many items there are, None where nobody knows. `ordered`: whether results are in the items' order.

        `is_per_item`: whether each item is a chunk of its own.
        """
        self._engine = engine
        self._packer = packer
        self._group = group
        self._function = function
        self._star = star
        self._serializer = serializer
        self._carried = carried
        """What each chunk carries."""
        self._linked = linked
        self._items = items
        self._ordered = ordered
        self._split: deque[list[Any] | LinkedItem] = deque()
        """Items that were taken for one chunk, and are sent apart because some have futures."""
        self._on_items_done = on_items_done
        self._planner = ChunkPlanner(total, 1 if is_per_item else ITEMS_MAX)
        self._began = time.monotonic()
        self._exhausted = False
        self._changed = Sleepers()
        self.on_change: Callable[[], object] = self._changed.wake
        """Called by the engine's thread when a chunk has ended."""
        self._ended: deque[_Chunk] = deque()
        self._chunks: dict[int, _Chunk] = {}
        """Those under way, in order."""
        self._positions = 0
        """Chunks so far."""
        self._submitted = 0
        """Items in the chunks so far."""
        self._outcomes: dict[int, Outcome] = {}
        """Of chunks whose results were not taken yet."""
        self._taken = 0
        """Chunks whose results were taken, of an iteration in order."""
        self._failed: tuple[int, BaseException] | None = None
        """The first failure in the order of items, of those known: (position of its chunk, exception)."""
        self._is_lazy = False
        self._buffered_max: int | None = None
        self._may_go_on: Callable[[], bool] | None = None
        self._items_held = 0
        """Items that were submitted and whose results were not taken yet."""
        self._bytes_held = 0
        """Bytes of their results, and of the items of those that have none."""

    def on_ended(self, chunk: _Chunk) -> None:
        """Called by the engine's thread."""
        self._ended.append(chunk)
        self.on_change()

    # --- for threads

    def run(self, timeout: float | None = None) -> list[Any]:
        """Return all results; raise what the first failing item raised, or TimeoutError after so many seconds."""
        end = None if timeout is None else self._began + timeout
        # Inside a task: one word that it blocks, not one per chunk.
        with self._engine.waiting.blocking():
            try:
                while not self.advance():
                    if end is not None and time.monotonic() >= end:
                        raise TimeoutError(f"the map is not done after {timeout:g} s")
                    self._wait(end)
                return self.results()
            except BaseException:
                self.cancel_rest()
                raise

    def iterate(self, buffersize: int | None) -> Iterator[Any]:
        """Yield the results one by one, and submit as they are taken. Closed before its end, it cancels what is left."""
        self.be_lazy(buffersize)
        try:
            while True:
                finished = self.advance()
                self.was_awaited = False
                outcome = self.take_outcome()
                if outcome is not None:
                    # Taken out one by one, so that nothing here refers to what was yielded.
                    outcome.values.reverse()
                    while outcome.values:
                        yield outcome.values.pop()
                elif finished:
                    self.raise_failure()
                    return
                else:
                    self._wait(None)
                    self.was_awaited = True
        finally:
            self.cancel_rest()

    def _wait(self, end: float | None) -> None:
        seconds = NOTHING_COMPLETED_SECONDS if end is None else min(NOTHING_COMPLETED_SECONDS, end - time.monotonic())
        self._engine.waiting.wait(self._changed, lambda: bool(self._ended), max(0.0, seconds))
        if not self._ended:
            self.on_nothing_ended()

    # --- for any driver

    @property
    def has_news(self) -> bool:
        """Whether chunks have ended that `advance` has not taken in."""
        return bool(self._ended)

    def be_lazy(self, buffersize: int | None, may_go_on: Callable[[], bool] | None = None) -> None:
        """Keep within limits what is under way or not taken: so many items, or what this module says.

        `may_go_on`: where the items may end for now, whether more will come.
        """
        self._is_lazy = True
        self._buffered_max = buffersize
        self._may_go_on = may_go_on

    def wanted(self) -> int:
        """Return how many items the next chunk would have; 0 while none may be submitted."""
        return self._next_size() if self._wants_chunk() else 0

    def _wants_chunk(self) -> bool:
        return not self._exhausted and self._failed is None and self._planner.may_send() and self._may_submit()

    def advance(self, chunks_max: int | None = None) -> bool:
        """Take in what has ended, and submit what may be; return whether nothing more is to come.

        `chunks_max`: submit no more chunks than that; `wants_turn` then says whether there would be more.
        """
        while self._ended:
            self._take(self._ended.popleft())
        self.wants_turn = False
        count = 0
        while self._wants_chunk():
            if chunks_max is not None and count >= chunks_max:
                self.wants_turn = True
                return False
            count += 1
            if self._split:
                taken = self._split.popleft()
            else:
                taken = self._next_items()
                if not taken:
                    break
            if isinstance(taken, LinkedItem):
                self._submit_linked(taken.item)
            else:
                self._submit(taken)
        if self._failed is None:
            return self._exhausted and not self._chunks
        # The error is that of the first failing item: all before it must be known.
        return not self._ordered or next(iter(self._chunks), self._failed[0]) >= self._failed[0]

    wants_turn = False
    """Whether `advance` had more to submit than it was to."""
    was_awaited = True
    """Whether whoever takes results has waited for what ends. Set by drivers of iterations."""

    def on_nothing_ended(self) -> None:
        """For some time, no chunk has ended."""
        # An iteration may go on for long: a pause of the whole machine, now and then, is no reason for more.
        # Nor is one without chunks, which waits for items.
        if self._chunks and not self._exhausted and (self._planner.takes_long or not self._is_lazy):
            self._planner.on_nothing_completed()

    def take_outcome(self) -> Outcome | None:
        """Take out what the next chunk has returned; None while that is not known, and once a failure is next."""
        if self._ordered:
            if self._failed is not None and self._taken > self._failed[0]:
                return None
            outcome = self._outcomes.pop(self._taken, None)
        else:
            outcome = self._outcomes.pop(next(iter(self._outcomes), -1), None)
        if outcome is not None:
            self._taken += 1
            self._items_held -= outcome.items
            self._bytes_held -= outcome.size
        return outcome

    def results(self) -> list[Any]:
        """Return all results, once `advance` says that nothing more is to come. Raises what the first failing item raised."""
        self.raise_failure()
        results: list[Any] = []
        for position in range(self._positions) if self._ordered else tuple(self._outcomes):
            results += self._outcomes.pop(position).values
        return results

    def raise_failure(self) -> None:
        """Raise what the first failing item raised, if there is one."""
        if self._failed is None:
            return
        self.cancel_rest()
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

    # --- internal

    def _next_items(self) -> list[Any]:
        """Take the items of the next chunk; empty at the end, or where it raises, in an iteration."""
        taken: list[Any] = []
        try:
            # Keeps what came before an exception.
            taken.extend(islice(self._items, self._next_size()))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if not self._is_lazy or (self._may_go_on is None and not isinstance(error, Exception)):
                raise
            # In its turn: the results of the items before it come first.
            self._fail(self._positions + bool(taken), error)
        else:
            self._exhausted = not taken and (self._may_go_on is None or not self._may_go_on())
        return taken

    def _next_size(self) -> int:
        size = self._planner.next_size(time.monotonic() - self._began)
        most = self._buffered_max
        if most is not None:
            size = min(size, -(-most // BUFFER_CHUNKS), most - self._items_held)
        return size

    def _may_submit(self) -> bool:
        """Whether to submit now. Where the scheduler holds us back, our own chunks coming back make room."""
        if self._is_lazy and not self._may_hold():
            return False
        return self._planner.in_flight == 0 or self._engine.tasks.may_submit_now()

    def _may_hold(self) -> bool:
        """Whether one more chunk may be under way in an iteration, as long as so much is not taken."""
        if self._buffered_max is not None:
            return self._items_held < self._buffered_max
        held = self._planner.in_flight + len(self._outcomes)
        return held < min(self._planner.limit, LAZY_CHUNKS_MAX) and (held == 0 or self._bytes_held < LAZY_BYTES_MAX)

    def _submit(self, items: list[Any]) -> None:
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
        if not self._submitted:
            self._check_first(items[0], function, packed.objects)
        objects, inner = take_out_inner((*packed.objects, *function.objects))
        size = max(len(packed.payload), packed.stored_bytes)
        chunk = self._add(len(items), size, inner)
        self._planner.on_sent(
            len(items),
            size,
            placed=type(packed.payload) in (UnpickledBytes, BufferedPickle) and self._engine.places_payloads,
        )
        self._engine.tasks.submit(
            self._group,
            function,
            packed.payload,
            objects,
            chunk,
            self._carried,
        )

    def _add(self, items: int, size: int, inner: tuple[bytes, ...]) -> _Chunk:
        chunk = self._chunks[self._positions] = _Chunk(self, self._positions, items, size, time.monotonic(), inner)
        self._positions += 1
        self._submitted += items
        self._items_held += items
        self._bytes_held += size
        return chunk

    def _submit_linked(self, item: Any) -> None:
        future = self._linked.submit(self._function, item, self._submitted)
        chunk = self._add(1, 0, ())
        chunk.future = future
        self._planner.on_sent_apart()
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

    def _take(self, chunk: _Chunk) -> None:
        position = chunk.position
        del self._chunks[position]
        self._bytes_held -= chunk.size
        if chunk.future is not None:
            self._take_linked(chunk, chunk.future)
            return
        answer = chunk.answer
        if answer is None:
            assert chunk.error is not None
            raise chunk.error
        if self._on_items_done is not None:
            self._on_items_done(chunk.items)
        payload = answer.payload
        size = len(payload) if isinstance(payload, bytes) else sum(map(len, payload))
        placed = type(payload) is PlacedBuffers
        latency = time.monotonic() - chunk.sent_at
        self._planner.on_completed(
            chunk.items, answer.duration / 1e6, latency, size, placed=placed, was_awaited=self.was_awaited
        )
        if answer.status != Status.SUCCESS:
            self._fail(position, load_error(answer.status, answer.payload, chunk.number))
            return
        values, failures = load_outcomes(answer.payload, self._serializer)
        if failures:
            first = min(failures)
            self._fail(position, load_failure(failures[first], chunk.number))
            values = values[:first]
        self._keep(position, Outcome(values, chunk.items, size))

    def _take_linked(self, chunk: _Chunk, future: ScalerFuture) -> None:
        chunk.future = None
        if self._on_items_done is not None:
            self._on_items_done(1)
        self._planner.on_completed_apart(was_awaited=self.was_awaited)
        try:
            self._keep(chunk.position, Outcome([future.result()], 1, 0))
        except BaseException as error:
            if not future.done() or not (future.cancelled() or future.failed):
                # An interrupt of this thread, not the item's.
                raise
            self._fail(chunk.position, error)

    def _keep(self, position: int, outcome: Outcome) -> None:
        self._outcomes[position] = outcome
        self._bytes_held += outcome.size

    def _fail(self, position: int, error: BaseException) -> None:
        if self._failed is None or position < self._failed[0]:
            self._failed = (position, error)

    def cancel_rest(self) -> None:
        """Cancel the chunks that are under way."""
        left = tuple(self._chunks.values())
        numbers = [chunk.number for chunk in left if chunk.number]
        if numbers:
            self._engine.tasks.cancel(numbers)
        futures = [chunk.future for chunk in left if chunk.future is not None]
        if futures:
            self._engine.futures.cancel(futures, None)
