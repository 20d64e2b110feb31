"""The ready queues of a scheduler whose clients are in groups: groups share, and within each its clients take turns.

A group's *virtual time* is what it was charged for each unit of its weight. Of the groups that wait in a queue, the one is next
whose virtual time is least, with what its tasks are expected to take. Each queue has a virtual time of its own. A group that
comes back to it begins at most `Groups.credit` behind those that have waited there, and at most as much ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scaler_scheduler.core.groups import Group, Groups
from scaler_scheduler.core.ready import ClientTurns, Line, ReadyQueues, SignatureQueue, Turns
from scaler_scheduler.core.records import AgentRecord, LineKey, Task
from scaler_scheduler.core.shares import TURN_SECONDS, ClientShares
from scaler_scheduler.core.storage_pressure import StoragePressure


class _Place:
    """Where a group stands in one queue."""

    __slots__ = ("held", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        """Its virtual time here, less what it was charged in all for each unit of its weight."""
        self.held = False
        """Whether its limit has held it back since it was last served."""


class GroupTurns:
    """Tasks of one signature and depth: the turns of clients for each group, and whose turn it is among the groups."""

    def __init__(self, depth: int, groups: Groups, shares: ClientShares) -> None:
        self._depth = depth
        self._groups = groups
        self._shares = shares
        self._waiting: dict[Group, ClientTurns] = {}
        self._places: dict[Group, _Place] = {}
        """Also those of groups that wait no more."""
        self._now = 0.0
        """Virtual time: that of the group which was served last, or would be next; it is never beyond all that wait.

        What a group was charged becomes less when tasks end that seemed to run and did not.
        """

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def lines(self) -> dict[bytes, Line]:
        """The tasks of each client."""
        return {client_id: line for turns in self._waiting.values() for client_id, line in turns.lines.items()}

    @property
    def is_held(self) -> bool:
        """Whether none of these tasks may run now."""
        return all(group.room(self._depth) == 0 for group in self._waiting)

    @property
    def open_count(self) -> int:
        """How many of these tasks may run now, those included that are ready no more."""
        count = 0
        for group, turns in self._waiting.items():
            entries, room = sum(len(line.tasks) for line in turns.lines.values()), group.room(self._depth)
            count += entries if room is None else min(entries, room)
        return count

    def held_groups(self) -> Iterator[Group]:
        """Iterate over the groups whose tasks in here may not run now."""
        return (group for group in self._waiting if group.room(self._depth) == 0)

    def add(self, client_id: bytes, tasks: Sequence[Task]) -> None:
        """Queue tasks among their client's others."""
        self._turns_of(client_id).add(client_id, tasks)

    def add_first(self, client_id: bytes, task: Task) -> None:
        """Queue a task before its client's others."""
        self._turns_of(client_id).add_first(client_id, task)

    def take(self, limit: int, taken: list[Task], *, freeing_first: bool, agent: AgentRecord | None) -> None:
        """Move up to `limit` ready tasks into `taken`; fewer as in `ClientTurns.take`, or where groups may run no more."""
        while limit > 0 and (group := self._choose()) is not None:
            wanted, room = limit, group.room(self._depth)
            if room is not None:
                wanted = min(wanted, room)
            if len(self._waiting) > 1:
                # One by one as long as nobody knows how long they take: a turn of hours has begun soon.
                wanted = min(wanted, max(1, int(TURN_SECONDS / group.task_seconds)) if group.has_ended_tasks else 1)
            turns, before = self._waiting[group], len(taken)
            turns.take(wanted, taken, freeing_first=freeing_first, agent=agent)
            moved = len(taken) - before
            limit -= moved
            self._note_taken(group, taken[before:])
            if not turns:
                del self._waiting[group]
            elif moved < wanted:
                return

    def take_newcomer(self) -> Task | None:
        """Remove and return the next task, if its client has no other one, or it is urgent; else None."""
        group = self._choose()
        if group is None:
            return None
        turns = self._waiting[group]
        task = turns.take_newcomer()
        if task is not None:
            self._note_taken(group, (task,))
        if not turns:
            del self._waiting[group]
        return task

    def newcomer(self) -> tuple[bytes, Line] | None:
        """Return the line of the next task, if its client has no other one, or it is urgent; else None."""
        group = self._choose()
        if group is None:
            return None
        found = self._waiting[group].newcomer()
        if not self._waiting[group]:
            del self._waiting[group]
        return found

    def has_prioritized(self) -> bool:
        """Whether tasks of some client have priorities."""
        return any(turns.has_prioritized() for turns in self._waiting.values())

    def drop_client(self, client_id: bytes) -> int:
        """Remove all tasks of a client; return how many were still ready."""
        dropped = 0
        for group, turns in list(self._waiting.items()):
            dropped += turns.drop_client(client_id)
            if not turns:
                del self._waiting[group]
        return dropped

    # --- whose turn it is

    def _turns_of(self, client_id: bytes) -> ClientTurns:
        groups, waiting = self._groups, self._waiting
        if groups.has_moved:
            # What waited while its client was counted to another group stays there.
            for turns in waiting.values():
                if client_id in turns.lines:
                    return turns
        group = groups.of[client_id]
        found = waiting.get(group)
        if found is None:
            # Those that wait may have been charged much since one of them was served.
            self._choose()
            place = self._places.get(group)
            if place is None:
                self._places[group] = _Place(self._now - self._charged(group))
            else:
                self._bound(group, place)
            found = waiting[group] = ClientTurns(self._shares)
        return found

    def _note_taken(self, group: Group, tasks: Sequence[Task]) -> None:
        if self._groups.has_moved:
            for task in tasks:
                self._groups.of[task.options.client.id].take(self._depth, 1)
        else:
            group.take(self._depth, len(tasks))

    def _choose(self) -> Group | None:
        """Return the group that is next; None: all are held back."""
        chosen, least, now, latest = None, 0.0, 0.0, 0.0
        for group in self._waiting:
            place = self._places[group]
            if group.room(self._depth) == 0:
                place.held = True
                continue
            if place.held:
                place.held = False
                self._bound(group, place)
            begins = place.start + self._charged(group)
            ends = begins + group.expected_seconds / group.weight
            latest = begins if chosen is None else max(latest, begins)
            if chosen is None or ends < least:
                chosen, least, now = group, ends, begins
        if chosen is not None:
            self._now = min(max(self._now, now), latest)
        return chosen

    def _bound(self, group: Group, place: _Place) -> None:
        """A group waits here again: what it is owed, and what it owes, is bounded."""
        charged, credit = self._charged(group), self._groups.credit
        place.start = min(max(place.start + charged, self._now - credit), self._now + credit) - charged

    def _charged(self, group: Group) -> float:
        return group.charged_seconds(self._groups.now) / group.weight


class GroupSignatureQueue(SignatureQueue):
    """All ready tasks that need the same capabilities, of all groups."""

    __slots__ = ("_groups",)

    def __init__(self, line: LineKey, shares: ClientShares, groups: Groups) -> None:
        super().__init__(line, shares)
        self._groups = groups

    def _make_turns(self, depth: int) -> Turns:
        return GroupTurns(depth, self._groups, self._shares)

    @property
    def is_held(self) -> bool:
        """See `SignatureQueue`."""
        return self.count > 0 and self._next_turns() is None

    @property
    def open_count(self) -> int:
        """See `SignatureQueue`."""
        found = sum(turns.open_count for turns in self._turns.values() if isinstance(turns, GroupTurns))
        return min(self.count, found)

    def held_groups(self) -> set[Group]:
        """Return the groups with tasks in here that may not run now."""
        return {
            group for turns in self._turns.values() if isinstance(turns, GroupTurns) for group in turns.held_groups()
        }

    def take(self, limit: int, *, freeing_first: bool = False, agent: AgentRecord | None = None) -> list[Task]:
        """Remove and return up to `limit` tasks, deepest first; none also where the groups of all others are held back."""
        taken: list[Task] = []
        for depth in reversed(self._depths[:]):
            turns = self._turns[depth]
            turns.take(limit - len(taken), taken, freeing_first=freeing_first, agent=agent)
            if not turns:
                del self._turns[depth]
                self._depths.remove(depth)
            elif not _is_held(turns):
                break
        self.count -= len(taken)
        return taken

    def has_newcomer(self) -> bool:
        """See `SignatureQueue`."""
        turns = self._next_turns()
        return turns is not None and turns.newcomer() is not None

    def take_newcomer(self) -> Task | None:
        """See `SignatureQueue`."""
        turns = self._next_turns()
        task = None if turns is None else turns.take_newcomer()
        if task is not None:
            self.count -= 1
        return task

    def _next_turns(self) -> Turns | None:
        """Return the tasks of the greatest depth at which some may run."""
        return next((turns for depth in reversed(self._depths) if not _is_held(turns := self._turns[depth])), None)


class GroupReadyQueues(ReadyQueues):
    """Every ready task of a scheduler whose clients are in groups."""

    def __init__(self, pressure: StoragePressure, groups: Groups) -> None:
        super().__init__(pressure)
        self._groups = groups

    def add_all(self, tasks: list[Task]) -> None:
        """See `ReadyQueues`. A lone task is queued too, as its group may be held back."""
        if len(tasks) == 1:
            self.add(tasks[0])
        else:
            super().add_all(tasks)

    def held_groups(self) -> dict[Group, set[bytes]]:
        """Return the groups with tasks that may not run now, and the clients that have these, or others beside them."""
        held: dict[Group, set[bytes]] = {}
        for queue in self.non_empty():
            if isinstance(queue, GroupSignatureQueue):
                clients = queue.client_ids()
                for group in queue.held_groups():
                    held.setdefault(group, set()).update(one.id for one in group.clients if one.id in clients)
        return held

    def _make_queue(self, line: LineKey) -> SignatureQueue:
        return GroupSignatureQueue(line, self.shares, self._groups)


def _is_held(turns: Turns) -> bool:
    return isinstance(turns, GroupTurns) and turns.is_held
