"""Tasks of one client that have each other's results as arguments: a graph that grows and shrinks.

A row is a task's number. Where a submitted graph knows all its rows from the start and keeps them in arrays, here rows come
when they are submitted, or when another row needs them, and are forgotten when they are over and nobody reads them any more.

A row of a submitted graph that is needed here has a stand-in: RELEASED, though its task is none of these, until it ends with the
row. The result's objects stay the graph's.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graphs import FailedRows, Graph, Holder, LostRows, ReleasedRow, RowResult, RowState
from scaler_scheduler.core.meeting_places import MeetingPlaces

LINK_BYTES = 24
"""Memory of a dependency, about."""
LINKED_BYTES = 800
"""Memory of a row, about, its payload apart."""
LOOK_AT_MIN = 64
"""So many rows that need another one are worth a look for those that are forgotten."""

Shared = TypeVar("Shared", bound=Hashable)
"""What tasks share. Rows are only sorted by it."""

_WAITING, _RELEASED, _DONE, _FAILED = map(int, (RowState.WAITING, RowState.RELEASED, RowState.DONE, RowState.FAILED))


class _Table(dict[int, int]):
    """Numbers by row; rows that are not in it have the same one."""

    __slots__ = ("_other",)

    def __init__(self, other: int) -> None:
        self._other = other

    def __missing__(self, row: int) -> int:
        return self._other


class LinkedTasks(Graph[Holder], Generic[Holder, Shared]):
    """See the module. `join` takes in a task that others need, `add` one that needs others."""

    states: Any
    wanted: Any
    _missing: Any
    _readers: Any
    _looked_for_roots = 0

    def __init__(self) -> None:
        # Not as a submitted graph: its columns are of fixed length.
        self.first_number = 0
        self.row_count = 0
        self.size_bytes = 0
        self.is_reannounced = False
        self.attempts_before = 0
        self.unfinished = 0
        self.waiting = 0
        self.results = {}
        self.holders = {}
        self.makers = set()
        self.meeting_places = MeetingPlaces()
        self.failing = 0
        self.returned = {}
        self.states = _Table(_FAILED)
        self.wanted = _Table(0)
        self.losses = {}
        self.followed = set()
        self.given = set()
        self.with_inputs = set()
        self._taken_over = set()
        self.stopped = set()
        self._once: set[int] = set()
        """Rows that may not run a second time, whatever becomes of their results."""
        self._attempts = {}
        self._mean_microseconds = None
        self._missing = _Table(0)
        self._readers = _Table(0)
        self._needs: dict[int, tuple[int, ...]] = {}
        self._needed_by: dict[int, list[int]] = {}
        self._looked_through_at: dict[int, int] = {}
        """How long a list of `_needed_by` is when it is looked through for rows that are forgotten, where not `LOOK_AT_MIN`."""
        self._contents: dict[int, ReleasedRow] = {}
        self._shared: dict[int, Shared] = {}
        self._outside: dict[int, Graph[Holder] | GraphArrival] = {}
        """The graphs of stand-ins that are not done, or whose results have objects."""
        self._adopted: dict[int, tuple[int, ...]] = {}
        """Rows that agents have had since before this scheduler: what they need, which may not be known here."""
        self._came_back: list[int] = []
        """Those of them that no agent has any more: see `take_returned`."""
        self._unread: list[int] = []
        """Those of them that nobody here needs any more: see `take_unread`."""

    # --- growing

    def knows(self, number: int) -> bool:
        """Whether a row may name this one: it is not over, or its result is still here."""
        state = self.states[number]
        return state in (_WAITING, _RELEASED) or (state == _DONE and number in self.results)

    def join(self, number: int, shared: Shared, content: ReleasedRow) -> None:
        """A task of the client, which exists, is a row from now on. The client wants its result."""
        self._take_in(number, shared, content, ())
        self.states[number] = _RELEASED
        self.wanted[number] = self._readers[number] = 1

    def revive(self, number: int, result: RowResult, shared: Shared, holders: Sequence[Holder] = ()) -> None:
        """A task that is over is a row again, until those that need it are done. The caller adds one, or forgets it.

        Where the result has objects, it is a stand-in, and `holders` are the row's.
        """
        if number not in self.states:
            self._take_in(number, shared, ReleasedRow(b"", b"", (), (), 0, 0), ())
        self.states[number] = _DONE
        self.unfinished -= 1
        self.results[number] = result
        if holders:
            self.holders[number] = list(holders)

    def stand_in(self, number: int, graph: Graph[Holder] | GraphArrival, shared: Shared) -> None:
        """A task that is a row of this graph has a stand-in from now on. The caller adds a row that needs it, or forgets it."""
        self._take_in(number, shared, ReleasedRow(b"", b"", (), (), 0, 0), ())
        self.states[number] = _RELEASED
        self._outside[number] = graph

    def begin_graph(self, graph: Graph[Holder]) -> None:
        """A graph that was arriving has begun."""
        for row in graph.followed:
            self._outside[graph.first_number + row] = graph

    def add(self, number: int, shared: Shared, content: ReleasedRow, needs: tuple[int, ...], *, wanted: bool) -> bool:
        """A row that needs others, each of which is known. Return whether they are done, so that it is released at once."""
        self._take_in(number, shared, content, needs)
        if wanted:
            self.wanted[number] = self._readers[number] = 1
        if content.attempt or content.failures:
            self.returned[number] = (content.attempt, content.failures)
        missing = 0
        for needed in needs:
            self._readers[needed] += 1
            if self.states[needed] != _DONE:
                missing += 1
                self._note_need(number, needed)
            elif needed in self.results and self.results[needed].objects:
                # If these are lost before the row has begun, it waits for them.
                self._note_need(number, needed)
        self._missing[number] = missing
        if missing:
            self.states[number] = _WAITING
            self.waiting += 1
            return False
        self.states[number] = _RELEASED
        return True

    def adopt(self, number: int, shared: Shared, content: ReleasedRow, needs: tuple[int, ...]) -> None:
        """A row that an agent has with all its inputs. It is RELEASED; should it come back, `take_returned` has it."""
        self._take_in(number, shared, content, ())
        self.states[number] = _RELEASED
        self.wanted[number] = self._readers[number] = 1
        self._adopted[number] = needs

    def _note_need(self, number: int, needed: int) -> None:
        needed_by = self._needed_by.setdefault(needed, [])
        if len(needed_by) >= self._looked_through_at.get(needed, LOOK_AT_MIN):
            # Else it would grow with each that is cancelled, as long as the needed one runs.
            needed_by = self._needed_by[needed] = [row for row in needed_by if row in self.states]
            self._looked_through_at[needed] = 2 * len(needed_by) + LOOK_AT_MIN
        needed_by.append(number)

    def _take_in(self, number: int, shared: Shared, content: ReleasedRow, needs: tuple[int, ...]) -> None:
        self.unfinished += 1
        self._needs[number] = needs
        self._contents[number] = content
        self._shared[number] = shared
        self.size_bytes += self._size_of(number)

    def forget(self, rows: Iterable[int]) -> None:
        """Forget those of these rows that are over and that nobody reads any more."""
        for row in rows:
            if row not in self.states or self._readers[row]:
                continue
            if row in self._outside:
                self._unread.append(row)
                continue
            if self.states[row] in (_WAITING, _RELEASED):
                continue
            self.results.pop(row, None)
            self.holders.pop(row, None)
            self._once.discard(row)
            self.size_bytes -= self._size_of(row)
            for table in (
                self.states,
                self.wanted,
                self.returned,
                self._attempts,
                self._missing,
                self._readers,
                self._needs,
                self._needed_by,
                self._looked_through_at,
                self._contents,
                self._shared,
                self.losses,
                self._adopted,
            ):
                table.pop(row, None)

    def _size_of(self, row: int) -> int:
        return LINKED_BYTES + LINK_BYTES * len(self._needs[row]) + len(self._contents[row].payload)

    # --- looking

    def dependencies_of(self, row: int) -> Any:
        """Return the rows whose results this row needs."""
        return self._needs.get(row, ())

    def dependents_of(self, row: int) -> Any:
        """Return the rows that have waited for this row's result, or wait for it, or would if it were lost."""
        return self._needed_by.get(row, ())

    def first_reader(self, row: int) -> int | None:
        """Return the first of them, if there is any."""
        readers = self._needed_by.get(row)
        return readers[0] if readers else None

    def rows_in(self, state: RowState) -> Iterable[int]:
        """Iterate over the rows in a state."""
        return (row for row, value in self.states.items() if value == state)

    def objects_needed(self) -> Iterable[bytes]:
        """Iterate over the objects that unfinished rows name, or will read, once for each of these rows."""
        for row, content in self._contents.items():
            if self.states[row] < _DONE:
                yield from set(content.objects)
        for row, result in self.results.items():
            for object_id in result.objects:
                yield from [object_id] * self._readers[row]

    def stands_in(self, row: int) -> bool:
        """Whether a row is a stand-in that is not done, or whose result is the graph's to delete."""
        return row in self._outside

    def is_unneeded(self, row: int) -> bool:
        """See `Graph.is_unneeded`. What stands for a row of a graph is that one's; what is not known any more has ended."""
        return row in self.states and row not in self._outside and super().is_unneeded(row)

    def may_run_once_only(self, row: int) -> bool:
        """See `Graph.may_run_once_only`."""
        return row in self._once

    def note_once(self, rows: Iterable[int]) -> None:
        """These rows may not run a second time."""
        self._once.update(rows)

    def is_unreleased_root(self, row: int) -> bool:
        """Whether a row that needs no other one has not been released: none here waits for that."""
        return False

    def by_shared(self, rows: Sequence[int]) -> dict[Shared, list[int]]:
        """Sort rows by what their tasks share."""
        sorted_rows: dict[Shared, list[int]] = {}
        for row in rows:
            sorted_rows.setdefault(self._shared[row], []).append(row)
        return sorted_rows

    def _keeps_objects_of(self, row: int) -> bool:
        """See `Graph`. Nothing tells the client when all of these have been read that it has named meanwhile."""
        return True

    # --- moving

    def function_of(self, row: int) -> bytes:
        """Return the function of a row that waits."""
        return self._contents[row].function

    def content(self, row: int) -> ReleasedRow:
        """Return what a task for the released row consists of."""
        content = self._contents[row]
        attempt, failures = self.returned.pop(row, (0, 0))
        return content._replace(attempt=attempt, failures=failures)

    def _end_done(self, row: int, result: RowResult, holders: list[Holder]) -> tuple[list[int], list[bytes]]:
        self._forget_needs_of(row)
        return super()._end_done(row, result, holders)

    def end_unneeded(self, row: int, attempt: int) -> tuple[list[bytes], list[int]]:
        """See `Graph.end_unneeded`."""
        self._forget_needs_of(row)
        return super().end_unneeded(row, attempt)

    def _forget_needs_of(self, row: int) -> None:
        """Those that needed a row and have failed meanwhile may be forgotten."""
        needed_by = self._needed_by.get(row)
        if needed_by is not None:
            self._needed_by[row] = [dependent for dependent in needed_by if dependent in self.states]

    def complete_stand_in(self, number: int, result: RowResult, holders: Sequence[Holder]) -> list[int]:
        """A row that has a stand-in here is done. Return the rows that this releases."""
        if not result.objects:
            del self._outside[number]
        return self._end_done(number, result, list(holders))[0]

    def fail_stand_in(self, number: int) -> FailedRows:
        """A row that has a stand-in here failed: see `Graph.fail`."""
        del self._outside[number]
        return self.fail(number)

    def take_back(self, row: int, attempt: int, failures: int) -> bool:
        """See `Graph.take_back`."""
        if row not in self._adopted:
            return super().take_back(row, attempt, failures)
        self.states[row] = _WAITING
        self.waiting += 1
        self._came_back.append(row)
        return True

    @property
    def has_adopted(self) -> bool:
        """Whether agents have rows without inputs here."""
        return bool(self._adopted)

    def take_returned(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return adopted rows that came back and wait now, with what they need. The caller ends them."""
        came_back, self._came_back = self._came_back, []
        return [(row, self._adopted.pop(row)) for row in came_back if self.states[row] == _WAITING]

    def lose_stand_in(self, number: int) -> None:
        """The result of a row that has a stand-in here is lost, and the row runs again. What has begun may have the result."""
        del self.results[number]
        self.holders.pop(number, None)
        self.states[number] = _RELEASED
        self.unfinished += 1
        self.losses[number] = 0
        for dependent in self.dependents_of(number):
            self._missing[dependent] += 1

    def lose(self, lost: Sequence[int], attempts_max: int) -> LostRows:
        """See `Graph.lose`. Rows whose inputs are not here any more are among the hopeless ones: see `needs_of`."""
        found = super().lose(lost, attempts_max)
        hopeless = dict.fromkeys([*found.hopeless, *(row for row in found.rows if row in self._adopted)])
        for row in found.rows:
            for needed in self._needs[row]:
                if needed not in self.states:
                    self._readers.pop(needed, None)
        return found._replace(hopeless=list(hopeless))

    def needs_of(self, row: int) -> tuple[int, ...]:
        """Return the tasks whose results a row needs, as its client has named them."""
        return self._adopted.get(row, self._needs[row])

    def take_unread(self) -> list[tuple[int, Graph[Holder] | GraphArrival]]:
        """Return stand-ins that nobody here needs any more, with their graphs. The caller has them forgotten."""
        taken = []
        unread, self._unread = self._unread, []
        for number in unread:
            graph = self._outside.pop(number, None)
            if graph is None:
                continue
            if self.states[number] == _RELEASED:
                self.states[number] = _DONE
                self.unfinished -= 1
            taken.append((number, graph))
        return taken

    def _drop_result(self, row: int) -> Sequence[bytes]:
        objects = super()._drop_result(row)
        if row not in self._outside:
            return objects
        self._unread.append(row)
        return ()

    def release_behind(self, row: int) -> list[int]:
        """Release the rows that may go to an agent together with the released `row`: those that share all with it."""
        chain = super().release_behind(row)
        shared = self._shared[row]
        for position, following in enumerate(chain):
            if self._shared[following] != shared:
                for back in chain[position:]:
                    self.states[back] = _WAITING
                    self.waiting += 1
                return chain[:position]
        return chain

    def _payload_bytes(self, row: int) -> int:
        return len(self._contents[row].payload)
