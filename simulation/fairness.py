"""Checks that clients which wait in the same queue of the scheduler get the same time there.

A client that waits in a queue the whole time must never fall further behind another one there than two turns and a task of each,
beside what it owes (see ARCHITECTURE.md, *Whose turn it is*). What it gets in other queues meanwhile counts as well. Time is
what the scheduler estimates at that moment, because the queues cannot know more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from scaler_scheduler.core.ready import ClientTurns, ReadyQueues, SignatureQueue
from scaler_scheduler.core.records import AgentRecord, LineKey, Task
from scaler_scheduler.core.shares import TURN_SECONDS
from simulation.ledger import SimulationError

Queue = tuple[LineKey, int]
"""What tasks need, and a depth: within these, clients take turns."""

ROUNDING_SECONDS = 1e-6


class _Waiting:
    """A client that waits in a queue, and what was given to whom since it does."""

    def __init__(self, tasks: int, owes: float) -> None:
        self.tasks = tasks
        self.owes = owes
        """Work that it had got before ahead of those who wait: they catch up first."""
        self.own_seconds = 0.0
        """What it has got, here and in other queues."""
        self.others_seconds: defaultdict[bytes, float] = defaultdict(float)
        """What others have got here."""
        self.others_longest: defaultdict[bytes, float] = defaultdict(float)
        """The longest of these tasks, by client."""
        self.own_longest = 0.0


class FairnessWatch:
    """Watches what goes into a scheduler's queues and what comes out. Raises SimulationError where somebody falls behind."""

    def __init__(self, ready: ReadyQueues) -> None:
        self._ready = ready
        self._waiting: dict[Queue, dict[bytes, _Waiting]] = defaultdict(dict)
        self.compared = 0
        """How often a client waited while another one's tasks were taken."""
        for name in (
            "add",
            "add_all",
            "add_first",
            "withdraw",
            "drop_client",
            "take",
            "take_newcomer",
            "take_lone",
            "_settle",
        ):
            setattr(ready, name, getattr(self, f"_on_{name}")(getattr(ready, name)))

    # --- what goes in

    def _on_add(self, add: Any) -> Any:
        def added(task: Task) -> None:
            add(task)
            self._note_added((task,))

        return added

    _on_add_first = _on_add

    def _on_add_all(self, add_all: Any) -> Any:
        def added(tasks: list[Task]) -> None:
            add_all(tasks)
            self._note_added(tasks)

        return added

    def _note_added(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            waiting = self._waiting[_queue_of(task)]
            client_id = task.options.client.id
            if client_id not in waiting:
                waiting[client_id] = _Waiting(0, self._owed_by(task))
            waiting[client_id].tasks += 1

    def _owed_by(self, task: Task) -> float:
        options = task.options
        queue = self._ready.queue_of(options.line)
        turns = None if queue is None else queue._turns.get(options.depth)
        line = None if turns is None else turns.lines.get(options.client.id)
        if not isinstance(turns, ClientTurns) or line is None:
            return 0.0
        not_counted_yet = line.share.given_seconds - line.given_seconds
        return max(0.0, line.begins - turns._now, line.served_until - turns._now) + not_counted_yet

    # --- what comes out

    def _on_withdraw(self, withdraw: Any) -> Any:
        def withdrawn(task: Task) -> None:
            withdraw(task)
            self._note_left((task,))

        return withdrawn

    def _on_drop_client(self, drop_client: Any) -> Any:
        def dropped(client_id: bytes) -> None:
            drop_client(client_id)
            for waiting in self._waiting.values():
                waiting.pop(client_id, None)
                for one in waiting.values():
                    # Should it come again, nobody remembers what it got.
                    one.others_seconds.pop(client_id, None)

        return dropped

    def _on_take(self, take: Any) -> Any:
        def taken(queue: SignatureQueue, limit: int, agent: AgentRecord | None = None) -> list[Task]:
            estimates = self._estimates()
            tasks: list[Task] = take(queue, limit, agent)
            self._note_taken(tasks, estimates)
            return tasks

        return taken

    def _on_take_newcomer(self, take_newcomer: Any) -> Any:
        def taken(queue: SignatureQueue) -> Task | None:
            estimates = self._estimates()
            task: Task | None = take_newcomer(queue)
            if task is not None:
                self._note_taken((task,), estimates)
            return task

        return taken

    def _on_take_lone(self, take_lone: Any) -> Any:
        def taken() -> Task | None:
            # Nobody else waits, and nothing is charged for it.
            task: Task | None = take_lone()
            if task is not None:
                self._note_left((task,))
            return task

        return taken

    def _on__settle(self, settle: Any) -> Any:
        def settled() -> None:
            lone = self._ready._lone
            settle()
            if lone is not None:
                # It was taken out, to be put into its queue.
                self._note_added((lone,))

        return settled

    def _estimates(self) -> dict[bytes, float]:
        shares = self._ready.shares
        return {client: shares.of(client).task_seconds for waiting in self._waiting.values() for client in waiting}

    def _note_left(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            queue, client_id = _queue_of(task), task.options.client.id
            waiting = self._waiting[queue]
            if client_id in waiting:
                waiting[client_id].tasks -= 1
                if not waiting[client_id].tasks:
                    del waiting[client_id]

    def _note_taken(self, tasks: Sequence[Task], estimates: dict[bytes, float]) -> None:
        self._note_left(tasks)
        for task in tasks:
            client_id, taken_from = task.options.client.id, _queue_of(task)
            seconds = estimates[client_id]
            for queue, waiting in self._waiting.items():
                if client_id in waiting:
                    waiting[client_id].own_seconds += seconds
                    waiting[client_id].own_longest = max(waiting[client_id].own_longest, seconds)
                if queue == taken_from:
                    self._note_passed_by(waiting, client_id, seconds, estimates)
        for queue in {_queue_of(task): None for task in tasks}:
            self._check(self._waiting[queue])

    def _note_passed_by(
        self, waiting: dict[bytes, _Waiting], client_id: bytes, seconds: float, estimates: dict[bytes, float]
    ) -> None:
        for waits_id, one in waiting.items():
            if waits_id != client_id:
                one.others_seconds[client_id] += seconds
                one.others_longest[client_id] = max(one.others_longest[client_id], seconds)
                one.own_longest = max(one.own_longest, estimates[waits_id])

    def _check(self, waiting: dict[bytes, _Waiting]) -> None:
        for client_id, one in waiting.items():
            for other_id, seconds in one.others_seconds.items():
                self.compared += 1
                behind = seconds - one.own_seconds
                bound = 2 * TURN_SECONDS + one.owes + one.own_longest + one.others_longest[other_id] + ROUNDING_SECONDS
                if behind > bound:
                    raise SimulationError(
                        f"client {client_id.hex()[:8]} waits, and is {behind:.4f} s of work behind client {other_id.hex()[:8]}; "
                        f"the queues promise {bound:.4f} s at most"
                    )


def _queue_of(task: Task) -> Queue:
    return task.options.line, task.options.depth
