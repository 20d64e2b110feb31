"""Graphs: rows that wait for other rows, held as a few arrays instead of a million objects.

A row is WAITING until its last predecessor is done, then RELEASED (a `Task` exists for it), then DONE or FAILED. A result
stays until its last reader is done: readers are the dependent rows, and the client where it wants the row.

A row may be RELEASED before that, behind the predecessors it still lacks: when it is the one row that a predecessor sets
free, they go to an agent together as a chain. Should it come back without them, it is WAITING again.

A result may be lost with the host that had its objects. Then its row is RELEASED or WAITING once more, and so are rows before it
whose results are dropped already. What has been RELEASED behind it stays at its agent, which may have the result.

A graph deals in rows only. It knows neither tasks nor agents; who holds a result is a value that it compares and never
looks into.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import count, repeat
from typing import Generic, NamedTuple, TypeVar

from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire.batch_rows import Carried, Reported
from scaler_scheduler.core.graph_arrival import ATTEMPT_MAX, STEP_ROWS, GraphArrival, Portion
from scaler_scheduler.core.meeting_places import LEVELS, MeetingPlaces

CHAIN_ROWS_MAX = 128
"""Rows of a chain."""
CHAIN_BYTES_MAX = 1024 * 1024
"""Payload bytes of a chain."""

CHAIN_MICROSECONDS = 20_000.0
"""Work in a chain, as far as durations are known. A chain is never divided or overtaken, and a trip costs a twentieth."""

DURATION_WEIGHT_KEPT = 0.9
"""Weight of earlier rows in the mean duration, when a row ends."""

INPUTS_LOOKED = 256
"""Of how many inputs of a row it is reckoned whether they are freed with it."""

Holder = TypeVar("Holder", bound=Hashable)
"""Who may hold the objects of a result. The graph only compares holders."""


class RowState(IntEnum):
    """How far a row is."""

    WAITING = 0
    """For predecessors."""
    RELEASED = 1
    """A task stands for it."""
    DONE = 2
    FAILED = 3
    """Or cancelled, or a row that it needs has failed."""


# Plain numbers to compare with those in `Graph.states`. Looking up an enum's member costs more than the comparison.
_WAITING, _RELEASED, _DONE = int(RowState.WAITING), int(RowState.RELEASED), int(RowState.DONE)


class RowResult(NamedTuple):
    """A finished row's result: payload bytes, the objects they name, and what its processor reported."""

    payload: bytes
    objects: tuple[bytes, ...]
    reported: Reported
    """Columns of this one row; empty if the client does not want it."""
    attempt: int
    object_bytes: int = 0
    """Bytes of the objects; 0 where they are not known."""


class FailedRows:
    """What a failure has ended since `clear`, and where it goes on."""

    __slots__ = ("behind", "followed", "freed", "rows", "unneeded", "wanted")

    def __init__(self) -> None:
        self.rows: list[int] = []
        """Rows that have failed: the first one, then those that needed it."""
        self.wanted: list[int] = []
        """Those of the rows whose results the client wants."""
        self.followed: list[int] = []
        """Those of the rows that were followed."""
        self.freed: list[bytes] = []
        """Objects nobody reads any more."""
        self.unneeded: list[int] = []
        """Unfinished rows whose last reader has ended with them."""
        self.behind: deque[Iterator[int]] = deque()
        """For each of those, what needs it, as far as it has not been looked at."""

    @property
    def is_over(self) -> bool:
        """Whether all that needed them has failed too."""
        return not self.behind

    def clear(self) -> None:
        """Forget what has ended so far."""
        self.rows, self.wanted, self.followed, self.freed, self.unneeded = [], [], [], [], []


class LostRows(NamedTuple):
    """Rows whose results are needed again."""

    rows: list[int]
    """All of them wait now."""
    hopeless: list[int]
    """Those of them that cannot run again: they were lost too often, or need a row that has failed."""
    freed: list[bytes]
    """Objects nobody reads any more."""


class ReleasedRow(NamedTuple):
    """What the task of a released row consists of."""

    function: bytes
    payload: bytes
    objects: tuple[bytes, ...]
    carried: Carried
    attempt: int
    """The number of its last attempt, or of the last one that an earlier scheduler may have given it."""
    failures: int
    """Attempts of it that failed before the row had to wait again."""


class Graph(Generic[Holder]):
    """One graph."""

    def __init__(self, arrival: GraphArrival) -> None:
        """`arrival` is complete, and its lists are made."""
        rows = arrival.row_count
        self.first_number = arrival.first_number
        self.row_count = rows
        self.size_bytes = arrival.size_bytes
        """About how much memory it takes, results apart."""
        self.is_reannounced = arrival.is_reannounced
        """Whether an earlier scheduler knew it, so that agents may hold tasks of it."""
        self.attempts_before = 0
        """Highest attempt that an earlier scheduler gave to a row. The attempts of this scheduler follow it."""
        self.unfinished = rows
        self.waiting = rows
        """Of the unfinished rows, those that no task exists for yet."""
        self.results: dict[int, RowResult] = {}
        """Results that still have readers."""
        self.holders: dict[int, list[Holder]] = {}
        """Who made or read a row's result, if it names objects and has readers."""
        self.makers: set[bytes] = set()
        """Functions whose last result had objects."""
        self.meeting_places: MeetingPlaces[Holder] = MeetingPlaces()
        self.failing = 0
        """Failures of which not all that needs the row has ended yet."""
        self.returned: dict[int, tuple[int, int]] = {}
        """Last attempt and failed attempts of rows that wait again."""
        self.losses: dict[int, int] = {}
        """Rows that run again because results were lost, or were missing, and how often it was their own that was lost."""
        self.with_inputs: set[int] = set()
        """RELEASED rows that agents have had, with their inputs, since before this scheduler: they read nothing here."""
        self.stopped: set[int] = set()
        """RELEASED rows that agents were told to stop, as nobody needed their results."""
        self._taken_over: set[int] = set()
        """Rows that agents have had since before this scheduler, as long as these have them: others there may be behind them."""
        self.given: set[int] = set()
        """Rows whose results have readers, and whose objects are the client's by now."""
        self._needed_again: list[LostRows] = []
        """See `take_needed_again`."""
        self.runs_once = False
        """Whether no row may run a second time, whatever becomes of its result."""
        self._attempts: dict[int, int] = {}
        """Of finished rows that did not succeed at once, the number of the attempt that did."""
        self._mean_microseconds: float | None = None
        """Moving average over the durations of finished rows."""
        self._portions = arrival.portions
        self._portion_rows = [portion.first_row for portion in arrival.portions]
        self._payload_lengths = arrival.payload_lengths
        self._dependencies = arrival.dependencies
        self._dependency_ends = arrival.dependency_ends
        self._objects = arrival.objects
        self.wanted = arrival.wanted
        self.states = bytearray(rows)
        self._missing = arrival.dependency_counts
        self._dependent_starts, self._dependents = arrival.dependent_starts, arrival.dependents
        self._readers = arrival.readers
        self.followed = arrival.followed
        """Rows that linked tasks need. Such a row has a reader more."""
        for row in self.followed:
            self._readers[row] += 1
        self._looked_for_roots = 0
        """The rows before this one have been released, if they need no other row."""

    # --- looking

    def dependencies_of(self, row: int) -> array[int]:
        """Return the rows whose results this row needs."""
        start = self._dependency_ends[row - 1] if row else 0
        return self._dependencies[start : self._dependency_ends[row]]

    def structure(self, rows: int) -> tuple[array[int], array[int], Sequence[Portion]]:
        """Return of the first rows where the dependencies of each end, these dependencies, and all portions: to draw them."""
        ends = self._dependency_ends[:rows]
        return ends, self._dependencies[: ends[-1] if ends else 0], self._portions

    def dependents_of(self, row: int) -> array[int]:
        """Return the rows that need this row's result."""
        return self._dependents[self._dependent_starts[row] : self._dependent_starts[row + 1]]

    def first_reader(self, row: int) -> int | None:
        """Return the first of them, if there is any."""
        start = self._dependent_starts[row]
        return self._dependents[start] if start < self._dependent_starts[row + 1] else None

    def rows_in(self, state: RowState) -> Iterable[int]:
        """Iterate over the rows in a state."""
        return (row for row, value in enumerate(self.states) if value == state)

    def objects_needed(self) -> Iterable[bytes]:
        """Iterate over the objects that unfinished rows name, or will read, once for each of these rows."""
        for row, objects in self._objects.items():
            if self.states[row] < _DONE:
                yield from set(objects)
        for row, result in self.results.items():
            for object_id in result.objects:
                # Those of a followed row are named by whoever follows it.
                yield from repeat(object_id, self._readers[row] - (row in self.followed))

    def missing_count(self, row: int) -> int:
        """Return how many of the results that an unfinished row needs are not there. For checks."""
        return self._missing[row]

    def reader_count(self, row: int) -> int:
        """Return how many will read a row's result. For checks."""
        return self._readers[row]

    @property
    def finished(self) -> bool:
        """Whether every row has ended and no result is kept."""
        return self.unfinished == 0 and not self.results

    # --- moving

    def settle(self, row: int, result: RowResult) -> list[bytes]:
        """A row was run under an earlier scheduler, and here is its result, before any row is released.

        Return objects nobody reads any more.
        """
        self.waiting -= 1
        released, freed = self._end_done(row, result, [])
        self.release_later(released)
        return freed

    def release_later(self, rows: Sequence[int]) -> None:
        """Rows that have just been released, before `release_roots`, wait for that: no task stands for them yet."""
        for row in rows:
            self.states[row] = _WAITING
        self.waiting += len(rows)

    def take_over(self, row: int) -> None:
        """An agent has a row since before this scheduler, with all its inputs. It is RELEASED, whatever it needs."""
        self.states[row] = _RELEASED
        self.waiting -= 1
        self._taken_over.add(row)
        if self._missing[row]:
            # What it has of these is not deleted: its agent may have to fetch it.
            self._drop_inputs_of(row)
            self.with_inputs.add(row)

    def end_unread(self) -> Iterator[int]:
        """End the rows that nobody will read, before any is released. Yields after each step how many it looked at.

        Clients send those that are needed. Some were cancelled before they left; others an earlier scheduler has answered, or
        they were needed by such only. They count as done, with their results dropped: `need_again` has them run after all.
        """
        states, readers = self.states, self._readers
        for stop in range(self.row_count, 0, -STEP_ROWS):
            start = max(0, stop - STEP_ROWS)
            if 0 in readers[start:stop]:
                unread = [row for row in range(start, stop) if not readers[row]]
                for looked in count(1):
                    if not unread:
                        break
                    row = unread.pop()
                    if states[row] == _WAITING and not readers[row]:
                        states[row] = _DONE
                        self.waiting -= 1
                        self.unfinished -= 1
                        self._drop_inputs_of(row)
                        for dependent in self.dependents_of(row):
                            self._missing[dependent] -= 1
                        unread += self.dependencies_of(row)
                    if not looked % STEP_ROWS:
                        yield STEP_ROWS
            yield stop - start

    def release_roots(self, limit: int) -> list[int]:
        """Release rows without predecessors, of the next `limit` rows, and return them. See `has_unreleased_roots`."""
        states = self.states
        start = self._looked_for_roots
        self._looked_for_roots = end = min(start + limit, self.row_count)
        missing = self._missing
        # One that was cancelled is not waiting any more.
        roots = [row for row in range(start, end) if not missing[row] and states[row] == _WAITING]
        for row in roots:
            states[row] = _RELEASED
        self.waiting -= len(roots)
        return roots

    @property
    def has_unreleased_roots(self) -> bool:
        """Whether `release_roots` has not looked at all rows yet."""
        return self._looked_for_roots < self.row_count

    def is_unreleased_root(self, row: int) -> bool:
        """Whether `release_roots` has still to look at this row, which needs no other one."""
        return row >= self._looked_for_roots and not self._missing[row]

    def function_of(self, row: int) -> bytes:
        """Return the function of a row that waits."""
        portion, place = self._place_of(row)
        return portion.functions[portion.function_indexes[place] if len(portion.function_indexes) else 0]

    def content(self, row: int) -> ReleasedRow:
        """Return what a task for the released row consists of. Once for each release."""
        portion, place = self._place_of(row)
        start = portion.payload_ends[place - 1] if place else 0
        index = portion.function_indexes[place] if len(portion.function_indexes) else 0
        attempt, failures = self.attempts_before, 0
        if self.returned:
            attempt, failures = self.returned.pop(row, (attempt, failures))
        values = (
            portion.functions[index],
            portion.payloads[start : portion.payload_ends[place]],
            self._objects.get(row, ()),
            portion.carried[place] if portion.carried else (),
            attempt,
            failures,
        )
        return new_tuple(ReleasedRow, values)

    def complete(
        self, row: int, result: RowResult, holder: Holder, duration_microseconds: int
    ) -> tuple[list[int], list[bytes]]:
        """A released row is done. Return the rows that this releases, and objects nobody reads any more."""
        known, duration = self._mean_microseconds, float(duration_microseconds)
        self._mean_microseconds = (
            duration if known is None else known * DURATION_WEIGHT_KEPT + duration * (1.0 - DURATION_WEIGHT_KEPT)
        )
        return self._end_done(row, result, [holder])

    def _end_done(self, row: int, result: RowResult, holders: list[Holder]) -> tuple[list[int], list[bytes]]:
        self.states[row] = _DONE
        self.unfinished -= 1
        freed = self._drop_inputs_of(row)
        if result.attempt > self.attempts_before + 1:
            self._attempts[row] = result.attempt
        if self._readers[row]:
            self.results[row] = result
            if result.objects:
                self.holders[row] = holders
        else:
            # Everything that would have read it has failed.
            freed.extend(result.objects)
        released = []
        missing, states = self._missing, self.states
        for dependent in self.dependents_of(row):
            missing[dependent] -= 1
            if missing[dependent] == 0 and states[dependent] == _WAITING:
                states[dependent] = _RELEASED
                released.append(dependent)
        self.waiting -= len(released)
        return released, freed

    def lose(self, lost: Sequence[int], attempts_max: int) -> LostRows:
        """Results of these rows that are kept are lost: they are to run again, with all rows before them that this takes.

        What needs them and has begun stays RELEASED: call `take_back` for those that no agent has, then fail the hopeless
        rows, and then `release_again`.
        """
        for row in lost:
            self.losses[row] = self.losses.get(row, 0) + 1
        return self.need_again(lost, attempts_max)

    def need_again(self, lost: Sequence[int], attempts_max: int) -> LostRows:
        """As `lose`, where it is nobody's fault that the results are not here."""
        states, missing, readers, results = self.states, self._missing, self._readers, self.results
        rows, found = list(lost), set(lost)
        hopeless: list[int] = []
        freed: list[bytes] = []
        for row in rows:
            freed.extend(self._drop_result(row))
            states[row] = _WAITING
            self.unfinished += 1
            self.waiting += 1
            attempt = max(self._attempts.pop(row, 0), self.attempts_before + 1)
            losses = self.losses.setdefault(row, 0)
            self.returned[row] = (attempt if attempt < ATTEMPT_MAX else 0, losses)
            for dependent in self.dependents_of(row):
                missing[dependent] += 1
            is_hopeless = losses >= attempts_max or self.may_run_once_only(row)
            for dependency in self.dependencies_of(row):
                readers[dependency] += 1
                state = states[dependency]
                if state == RowState.FAILED:
                    is_hopeless = True
                elif state == _DONE and dependency not in results and dependency not in found:
                    found.add(dependency)
                    rows.append(dependency)
            if is_hopeless:
                hopeless.append(row)
        return LostRows(rows, hopeless, freed)

    def let_run_once(self) -> None:
        """No row may run a second time."""
        self.runs_once = True

    def may_run_once_only(self, row: int) -> bool:
        """Whether this row may not run a second time."""
        return self.runs_once

    def note_lack(self, row: int) -> None:
        """A released row has found an input missing and is tried again. What was handed over behind it comes back later."""
        self.losses.setdefault(row, 0)

    def release_again(self, rows: Iterable[int]) -> list[int]:
        """Release those of the rows that wait for no other one, and return them."""
        released = [row for row in rows if self.states[row] == _WAITING and not self._missing[row]]
        for row in released:
            self.states[row] = _RELEASED
        self.waiting -= len(released)
        return released

    def fail(self, row: int) -> FailedRows:
        """A row failed (or was cancelled): so do all that need it, with `fail_more`."""
        failed = FailedRows()
        self.failing += 1
        self._end(row, failed)
        return failed

    def fail_more(self, failed: FailedRows, work: int) -> int:
        """End rows that need those. Do at most about so much: rows looked at. Return how much is left of it.

        What needs them is waiting, was released behind them, or, having been that, is done already and stays so. Until its turn
        comes, what waits goes on waiting: for the one that has failed, and so it is never released. What was released behind
        it comes back from its agent, and waits, or is done. What an agent has with its inputs does not need one that has run
        here, unless it comes back.
        """
        states = self.states
        while work > 0 and not failed.is_over:
            for row in failed.behind[0]:
                work -= 1
                if states[row] < _DONE:
                    work -= len(self.dependencies_of(row))
                    self._end(row, failed)
                if work <= 0:
                    return work
            failed.behind.popleft()
        if failed.is_over:
            self.failing -= 1
        return work

    def note_stopped(self, row: int) -> None:
        """The agent that has a row is told to stop it, as nobody needs its result."""
        self.stopped.add(row)

    def take_stopped(self, row: int) -> bool:
        """Return whether that is so, once: the row is at its agent no more."""
        if row not in self.stopped:
            return False
        self.stopped.discard(row)
        return True

    def end_unneeded(self, row: int, attempt: int) -> tuple[list[bytes], list[int]]:
        """End a row that nobody needs, which was tried so often. Return objects nobody reads any more, and rows nobody needs now.

        It counts as done, with its result dropped: should the result of a row that has read it be lost, it runs after all.
        """
        if self.states[row] == _WAITING:
            self.waiting -= 1
            attempt, _ = self.returned.pop(row, (attempt, 0))
        self.states[row] = _DONE
        self.unfinished -= 1
        self.stopped.discard(row)
        if attempt > self.attempts_before + 1:
            self._attempts[row] = attempt
        for dependent in self.dependents_of(row):
            # None of them waits for it. Agents may have some with their inputs.
            self._missing[dependent] -= 1
        freed = self._drop_inputs_of(row)
        return freed, [one for one in self.dependencies_of(row) if self.is_unneeded(one)]

    def _end(self, row: int, failed: FailedRows) -> None:
        self.stopped.discard(row)
        if self.states[row] == _WAITING:
            self.waiting -= 1
            self.returned.pop(row, None)
        self.states[row] = RowState.FAILED
        self.unfinished -= 1
        if row in self.followed:
            self.followed.discard(row)
            failed.followed.append(row)
        self._readers[row] = 0
        failed.rows.append(row)
        failed.freed += self._drop_inputs_of(row)
        failed.unneeded += [one for one in self.dependencies_of(row) if self.is_unneeded(one)]
        if self.wanted[row]:
            self.wanted[row] = 0
            failed.wanted.append(row)
        dependents = self.dependents_of(row)
        if dependents and self.with_inputs and row not in self._taken_over:
            failed.behind.append(one for one in dependents if one not in self.with_inputs)
        elif dependents:
            failed.behind.append(iter(dependents))

    def read_by_client(self, row: int) -> RowResult | None:
        """Return a wanted row's result, once. None if it was returned before, or if `_keeps_objects_of` says so.

        An object that goes to the client is the client's to delete. It does that only when all rows of the graph are answered
        that it wants, so that no other row reads it any more.
        """
        if not self.wanted[row] or self.states[row] != RowState.DONE:
            return None
        result = self.results.get(row)
        if result is None or (result.objects and self._readers[row] > 1 and self._keeps_objects_of(row)):
            return None
        self.wanted[row] = 0
        self._readers[row] -= 1
        if self._readers[row] == 0:
            del self.results[row]
            self.holders.pop(row, None)
        elif result.objects:
            self.given.add(row)
        return result

    def _keeps_objects_of(self, row: int) -> bool:
        """Whether the client gets this row's objects only when nobody else reads them: linked tasks may outlive the graph."""
        return row in self.followed

    def follow(self, row: int) -> None:
        """Linked tasks need this unfinished row, or its result that is here, until `unfollow`, or until it fails."""
        self.followed.add(row)
        self._readers[row] += 1

    def unfollow(self, row: int) -> Sequence[bytes]:
        """Linked tasks need a row no more. Return objects nobody reads any more."""
        if row not in self.followed:
            return ()
        self.followed.discard(row)
        self._readers[row] -= 1
        return () if self._readers[row] else self._drop_result(row)

    def has_ended(self, row: int) -> bool:
        """Whether this is a row, and has ended."""
        return 0 <= row < self.row_count and self.states[row] >= _DONE

    def is_unneeded(self, row: int) -> bool:
        """Whether a row has not ended and nobody will read its result."""
        return self.states[row] < _DONE and not self._readers[row]

    def stands_in(self, row: int) -> bool:
        """Whether a row is one of another graph, which it ends with: see `LinkedTasks`."""
        return False

    def inputs_held(self, row: int) -> Counter[Holder]:
        """Return how many bytes of the row's large inputs each holder has that made or read any."""
        held: Counter[Holder] = Counter()
        for dependency in self.dependencies_of(row) if self.holders else ():
            holders = self.holders.get(dependency)
            if holders is not None:
                # One of unknown size is more than none.
                size = self.results[dependency].object_bytes or 1
                for holder in holders:
                    held[holder] += size
        return held

    def is_last_reader(self, row: int) -> bool:
        """Whether nobody else will read the large inputs of a row."""
        readers, holders = self._readers, self.holders
        return all(readers[one] == 1 for one in self.dependencies_of(row) if one in holders)

    def may_lack_objects(self, row: int) -> bool:
        """Whether a result that the row needs is an object, or was one that is lost."""
        results, losses = self.results, self.losses
        if row in self.with_inputs:
            return True
        return any(one in losses or (one in results and results[one].objects) for one in self.dependencies_of(row))

    def note_made(self, function: bytes, objects: Sequence[bytes]) -> None:
        """A row with this function made these objects, or none."""
        if objects:
            self.makers.add(function)
        elif self.makers:
            self.makers.discard(function)

    @property
    def has_begun_to_end(self) -> bool:
        """Whether a row has been run."""
        return self._mean_microseconds is not None

    def note_place(self, row: int, holder: Holder) -> None:
        """A row goes to an agent: what is read together with its result is to be made there too."""
        self.meeting_places.note(self._next_readers(row), holder)

    def place_rank(self, row: int, holder: Holder) -> int:
        """Return how much an agent should get a row, for what is read together with its result. See `MeetingPlaces.rank`."""
        return self.meeting_places.rank(self._next_readers(row), holder)

    def _next_readers(self, row: int) -> list[int]:
        """Return the first reader of a row's result, the first one of what that makes, and so on."""
        readers: list[int] = []
        reader = self.first_reader(row)
        while reader is not None and len(readers) < LEVELS:
            readers.append(reader)
            reader = self.first_reader(reader)
        return readers

    def objects_freed_by(self, row: int, function: bytes) -> int:
        """Return how many objects fewer there will be when a row with this function is done; negative: how many more."""
        results, readers = self.results, self._readers
        freed = -1 if function in self.makers else 0
        for dependency in self.dependencies_of(row)[:INPUTS_LOOKED] if self.holders else ():
            if readers[dependency] == 1 and dependency in results:
                freed += len(results[dependency].objects)
        return freed

    def note_reader(self, row: int, holder: Holder) -> None:
        """The row will run where this holder is, which will hold what the row reads."""
        for dependency in self.dependencies_of(row):
            holders = self.holders.get(dependency)
            if holders is not None and holder not in holders:
                holders.append(holder)

    def forget(self, rows: Iterable[int]) -> None:
        """These rows may be over and read. A graph keeps what it has of them until all are: see `LinkedTasks`."""

    def note_attempt(self, attempt: int) -> None:
        """An earlier scheduler gave this attempt to a row: the tasks made from now on are numbered after it."""
        if attempt < ATTEMPT_MAX:
            self.attempts_before = max(self.attempts_before, attempt)

    def release_behind(self, row: int) -> list[int]:
        """Release the rows that may go to an agent together with the released `row`; return them in the order to run.

        Each is the one row that those before it set free, so nothing could run beside it: only a trip is saved.
        """
        rows_max = CHAIN_ROWS_MAX
        if self._mean_microseconds is not None:
            rows_max = min(rows_max, int(CHAIN_MICROSECONDS / max(self._mean_microseconds, 1.0)))
        size_bytes = self._payload_bytes(row)
        states, missing = self.states, self._missing
        lacking: dict[int, int] = {}
        """How many results outside the chain a row still waits for."""
        chain: list[int] = []
        for _ in range(rows_max - 1):
            following = -1
            dependents = self.dependents_of(row)
            if len(dependents) > CHAIN_ROWS_MAX:
                # Too many to look at twice: they are looked at when this row is done.
                return chain
            for dependent in dependents:
                if states[dependent] != _WAITING:
                    continue
                lacks = lacking[dependent] = lacking.get(dependent, missing[dependent]) - 1
                if lacks == 0:
                    if following >= 0:
                        # Two may run side by side.
                        return chain
                    following = dependent
            if following < 0:
                return chain
            size_bytes += self._payload_bytes(following)
            if size_bytes > CHAIN_BYTES_MAX:
                return chain
            states[following] = _RELEASED
            self.waiting -= 1
            chain.append(following)
            row = following
        return chain

    def is_behind(self, row: int) -> bool:
        """Whether a predecessor is not done yet."""
        return self._missing[row] > 0

    def take_back(self, row: int, attempt: int, failures: int) -> bool:
        """A released row is no longer assigned. Return whether it waits again, because a predecessor is not done."""
        self._taken_over.discard(row)
        if row not in self.with_inputs:
            if not self._missing[row]:
                return False
        elif not self._take_back_inputs(row):
            return False
        self.states[row] = RowState.WAITING
        self.waiting += 1
        self.returned[row] = (attempt, failures)
        return True

    def _take_back_inputs(self, row: int) -> bool:
        """A row comes back that an agent has had with its inputs. Return whether some of these are not here."""
        self.with_inputs.discard(row)
        states, results = self.states, self.results
        needs = dict.fromkeys(self.dependencies_of(row))
        for dependency in self.dependencies_of(row):
            self._readers[dependency] += 1
        if needs.keys() <= results.keys():
            return False
        found = self.need_again([one for one in needs if states[one] == _DONE and one not in results], ATTEMPT_MAX)
        if any(states[one] == RowState.FAILED for one in needs):
            found.hopeless.append(row)
        self._needed_again.append(found)
        return True

    def take_needed_again(self) -> list[LostRows]:
        """Return what rows need that came back from agents which had them before. See `lose` for what the caller does."""
        needed = list(self._needed_again)
        self._needed_again.clear()
        return needed

    def _place_of(self, row: int) -> tuple[Portion, int]:
        """Return the portion of a row, and its place there."""
        portions = self._portions
        portion = portions[0] if len(portions) == 1 else portions[bisect_right(self._portion_rows, row) - 1]
        return portion, row - portion.first_row

    def _payload_bytes(self, row: int) -> int:
        return self._payload_lengths[row]

    def _drop_inputs_of(self, row: int) -> list[bytes]:
        freed: list[bytes] = []
        readers = self._readers
        if row in self.with_inputs:
            self.with_inputs.discard(row)
            return freed
        for dependency in self.dependencies_of(row):
            if readers[dependency]:
                readers[dependency] -= 1
                if readers[dependency] == 0:
                    freed.extend(self._drop_result(dependency))
        return freed

    def _drop_result(self, row: int) -> Sequence[bytes]:
        """Nobody reads a row's result any more. Return the objects that are to be deleted for that."""
        result = self.results.pop(row, None)
        if result is None:
            return ()
        self.holders.pop(row, None)
        if row in self.given:
            self.given.discard(row)
            return ()
        return result.objects
