"""The ready tasks of one client and depth, in the order of their numbers.

Clients number tasks in the order of `submit`, and the rows of a graph depth first. So a row that has got its inputs goes before
rows that would only make more of them, and before what was submitted later.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice

from scaler_scheduler.core.meeting_places import BEST, NOWHERE, WORST
from scaler_scheduler.core.records import AgentRecord, Task, TaskState

_READY = TaskState.READY

FREEING_LOOKED = 32
"""Of the tasks that are next, so many are looked at for one that frees more than others."""

NEAR_LOOKED = 64
"""Of the rows that are next, so many are looked at for one that is read together with others of an agent."""

NEAR_TAKEN_MAX = 16
"""So many of these are taken in one step: to choose one takes 0.1 ms."""

FEW_FIRST = 16
"""What the first rows of a graph make is not known. Where so few are taken at a time, they count as making objects."""

SORT_PART = 16
"""More than such a part of what is there already is not entered one by one, but sorted with it."""


class WaitingTasks:
    """Most tasks come in the order of their numbers, and wait in a queue. Those that come late stand in a list beside it.

    Entries of tasks that are not ready any more stay until their turn, and are skipped then.
    """

    __slots__ = ("_late", "_queue")

    def __init__(self) -> None:
        self._queue: deque[Task] = deque()
        self._late: list[Task] = []
        """The next one last: of these, tasks leave one by one."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._late)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all entries, those that came late first."""
        return chain(reversed(self._late), self._queue)

    def add(self, tasks: Sequence[Task]) -> None:
        """Add tasks in the order of their numbers."""
        queue = self._queue
        if not queue or tasks[0].number > queue[-1].number:
            queue.extend(tasks)
            return
        late = self._late
        if len(tasks) * SORT_PART > len(late):
            late.extend(tasks)
            late.sort(key=_last_first)
        else:
            for task in tasks:
                insort(late, task, key=_last_first)

    def add_first(self, task: Task) -> None:
        """Add a task that goes before all that are queued."""
        self._queue.appendleft(task)

    def take(
        self, limit: int, taken: list[Task], *, freeing_first: bool = False, agent: AgentRecord | None = None
    ) -> int:
        """Move up to `limit` ready tasks into `taken`. Returns how many: fewer, but some, where each has to be chosen.

        `freeing_first`: of those that are next, one that frees most objects, less what it will probably make.
        `agent`: who gets them. Of rows that make objects and are next, it gets those whose results are read with its others.
        """
        queue, late, before = self._queue, self._late, len(taken)
        left = limit
        # Nearly all tasks are no rows of graphs, and come in order.
        if agent is not None and not freeing_first and (late or (queue and queue[0].graph is not None)):
            near = self._take_near(min(left, NEAR_TAKEN_MAX), taken, agent, limit)
            if near == NEAR_TAKEN_MAX:
                return near
            left -= near
        while freeing_first and left > 0 and (queue or late):
            task = self._pop_freeing()
            if task.state is _READY:
                taken.append(task)
                left -= 1
        while left > 0 and late:
            task = queue.popleft() if queue and queue[0].number < late[-1].number else late.pop()
            if task.state is _READY:
                taken.append(task)
                left -= 1
        while left > 0 and queue:
            task = queue.popleft()
            if task.state is _READY:
                taken.append(task)
                left -= 1
        return len(taken) - before

    def _take_near(self, limit: int, taken: list[Task], agent: AgentRecord, wanted: int) -> int:
        """Move up to `limit` ready rows into `taken`, as long as the next one may make objects. Returns how many.

        `wanted`: how many tasks the agent gets at a time.
        """
        before = len(taken)
        while len(taken) - before < limit and (self._queue or self._late) and _may_make_objects(self.first(), wanted):
            task = self._pop_near(agent)
            if task.state is _READY:
                taken.append(task)
        return len(taken) - before

    def _pop_near(self, agent: AgentRecord) -> Task:
        """Remove the entry of the row that this agent should get first, see `MeetingPlaces.rank`; the first one of equals."""
        places = self._next_places(NEAR_LOOKED)
        best, best_rank = places[0], WORST + 1
        for entries, place in places:
            task = entries[place]
            graph = task.graph
            rank = NOWHERE if graph is None else graph.place_rank(task.number - graph.first_number, agent)
            if rank < best_rank:
                best, best_rank = (entries, place), rank
                if rank == BEST:
                    break
        entries, place = best
        task = entries[place]
        del entries[place]
        if (graph := task.graph) is not None:
            graph.note_place(task.number - graph.first_number, agent)
        return task

    def _next_places(self, looked: int) -> list[tuple[list[Task] | deque[Task], int]]:
        """Return where entries are that are next, up to so many of those that came late and of the others."""
        late, queue = self._late, self._queue
        places: list[tuple[list[Task] | deque[Task], int]]
        places = [(late, len(late) - 1 - place) for place in range(min(looked, len(late)))]
        places += [(queue, place) for place in range(min(looked, len(queue)))]
        return places

    def _pop_freeing(self) -> Task:
        """Remove the entry of the task that frees most, the first one of equals."""
        places = self._next_places(FREEING_LOOKED)
        best, best_key = places[0], (-float("inf"), 0)
        for entries, place in places:
            task = entries[place]
            key = (_freed_by(task), -task.number)
            if key > best_key:
                best, best_key = (entries, place), key
        entries, place = best
        task = entries[place]
        del entries[place]
        return task

    def first(self) -> Task:
        """Return the entry that is next; there is one."""
        queue, late = self._queue, self._late
        return late[-1] if late and (not queue or late[-1].number < queue[0].number) else queue[0]

    def some(self, limit: int) -> Iterator[Task]:
        """Iterate over up to `limit` of the ready tasks that are among the next ones."""
        return (task for task in islice(self, limit) if task.state is _READY)

    def clear(self) -> None:
        """Forget all."""
        self._queue.clear()
        self._late.clear()


class PrioritizedTasks:
    """The same for tasks of several priorities: those of a higher one go first."""

    __slots__ = ("_by_priority", "_entries", "_priorities")

    def __init__(self, usual: WaitingTasks) -> None:
        """`usual`: those of priority 0."""
        self._by_priority: dict[int, WaitingTasks] = {}
        """Only those with entries."""
        self._priorities: list[int] = []
        """Ascending."""
        self._entries = len(usual)
        if usual:
            self._by_priority[0] = usual
            self._priorities.append(0)

    def __len__(self) -> int:
        return self._entries

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all entries, those of the highest priority first."""
        return chain.from_iterable(self._by_priority[priority] for priority in reversed(self._priorities))

    @property
    def has_urgent(self) -> bool:
        """Whether the next task has a priority above the usual one, and others have a lower one."""
        return len(self._priorities) > 1 and self._priorities[-1] > 0

    def add(self, tasks: Sequence[Task]) -> None:
        """Add tasks in the order of their numbers."""
        for priority, some in groupby(tasks, _priority_of):
            self._of(priority).add(list(some))
        self._entries += len(tasks)

    def add_first(self, task: Task) -> None:
        """Add a task that goes before all others of its priority."""
        self._of(task.options.priority).add_first(task)
        self._entries += 1

    def take(
        self, limit: int, taken: list[Task], *, freeing_first: bool = False, agent: AgentRecord | None = None
    ) -> int:
        """As `WaitingTasks.take`."""
        before = len(taken)
        while self._entries and (left := limit - (len(taken) - before)) > 0:
            tasks = self._by_priority[self._priorities[-1]]
            entries = len(tasks)
            tasks.take(left, taken, freeing_first=freeing_first, agent=agent)
            self._entries -= entries - len(tasks)
            if tasks:
                break
            del self._by_priority[self._priorities.pop()]
        return len(taken) - before

    def first(self) -> Task:
        """Return the entry that is next; there is one."""
        return self._by_priority[self._priorities[-1]].first()

    def some(self, limit: int) -> Iterator[Task]:
        """Iterate over up to `limit` of the ready tasks that are among the next ones."""
        return (task for task in islice(self, limit) if task.state is _READY)

    def clear(self) -> None:
        """Forget all."""
        self._by_priority.clear()
        self._priorities.clear()
        self._entries = 0

    def _of(self, priority: int) -> WaitingTasks:
        tasks = self._by_priority.get(priority)
        if tasks is None:
            tasks = self._by_priority[priority] = WaitingTasks()
            insort(self._priorities, priority)
        return tasks


def _priority_of(task: Task) -> int:
    return task.options.priority


def _may_make_objects(task: Task, limit: int) -> bool:
    """Whether a row makes objects, as far as is known: the first rows of a graph may, if they are few."""
    graph = task.graph
    return graph is not None and (task.function in graph.makers or (limit <= FEW_FIRST and not graph.has_begun_to_end))


def _freed_by(task: Task) -> int:
    graph = task.graph
    return 0 if graph is None else graph.objects_freed_by(task.number - graph.first_number, task.function)


def _last_first(task: Task) -> int:
    return -task.number
