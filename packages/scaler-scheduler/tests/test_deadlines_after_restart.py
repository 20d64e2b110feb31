"""Deadlines of what is announced to another scheduler: they end it when they are over, whatever it waits for there."""

from __future__ import annotations

from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, identity
from test_core_links import link
from test_task_history import again, asking

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.task_history import History
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, events
from scaler_scheduler.core.graph_arrival import STEP_ROWS
from scaler_scheduler.core.graph_rows import NOT_RUN_AGAIN
from scaler_scheduler.core.linked_recovery import HELD_PER_TURN
from scaler_scheduler.core.timers import PORTION

GRACE = 6.0
"""So long agents may still come back when all peers of a test have."""

COMING_BACK_SECONDS = 3.0

SECONDS = 10.0
TIMED_OUT = m.Status.TIMED_OUT
AGAIN = m.TaskFlag.REANNOUNCED
WAITED_FOR_AGENTS = (
    b"it waited for the workers to be back after a restart of the scheduler; one of them may have begun it"
)

SHAPES: dict[str, list[list[int]]] = {
    "one row": [[]],
    "a chain": [[], [0], [1]],
    "several": [[], [], [0, 1], [], [3], [2, 4]],
}


class Cluster:
    """A scheduler that knows nothing yet of what its client submitted to an earlier one."""

    def __init__(self, **config: Any) -> None:
        self.harness = Harness()
        self.harness.ticks_while_due = True
        self.agent = Agent(self.harness, "agent", workers=4, capacity=0)
        self.client = Client(self.harness, "client")
        settings = SchedulerConfig(
            incarnation=identity("second"), recovery_grace_seconds=GRACE + COMING_BACK_SECONDS, **config
        )
        self.harness.core = SchedulerCore(settings, self.harness.now)
        self.harness.advance(COMING_BACK_SECONDS)
        self.begun_at = self.harness.now
        self.client.define()
        self.answers: dict[int, tuple[float, int, bytes]] = {}
        """By number: when it came, and what it is."""

    @property
    def seconds(self) -> float:
        return round(self.harness.now - self.begun_at, 3)

    def agents_want_tasks(self) -> None:
        self.agent.capacity = 100

    def announce_graph(self, dependencies: list[list[int]], waited: float, **options: Any) -> list[int]:
        """Say again what was submitted so many seconds ago; the client wants all rows."""
        first = self.client.next_number
        rows = len(dependencies)
        self.client.next_number += rows
        self.client.send(graph_of(self.client, first, dependencies, waited, **options))
        return list(range(first, first + rows))

    def announce_linked(self, waited: float, *earlier: int, **options: Any) -> int:
        asks = asking(History((waited,)), deadline_seconds=SECONDS, **options)
        return link(self.client, *(earlier or (5000,)), flags=AGAIN, options=asks)

    def claim(self, *numbers: int, agent: Agent | None = None, attempt: int = 1) -> None:
        count = len(numbers)
        (agent or self.agent).send(m.Inventory(self.client.id, list(numbers), [attempt] * count, [1] * count))

    def run(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass; note when each answer comes."""
        end = self.harness.now + seconds
        self.listen()
        while self.harness.now < end - 1e-9:
            self.harness.advance(min(step, end - self.harness.now), step=step)
            self.listen()

    def listen(self) -> None:
        for number, (status, payload) in self.client.results().items():
            assert number not in self.answers
            self.answers[number] = (self.seconds, status, payload)

    def stopped(self, agent: Agent | None = None) -> list[int]:
        return sorted(number for one in (agent or self.agent).take(m.TaskCancel) for number in one.numbers)

    def answer_with_object(self, number: int) -> bytes:
        """The agent has a task's result in object storage. Return its id."""
        made = b"o" * 16
        task = self.client.id, number, 1
        self.agent.answer([task], payload=b"O" + made, object_positions=[0], objects=(made,))
        return made

    def deleted(self) -> list[bytes]:
        """Return the objects that have been deleted since the last call."""
        return [one for each in self.harness.to_store() if isinstance(each, m.ObjectDelete) for one in each.ids]

    def is_over(self) -> bool:
        """Whether nothing is left of the client's tasks."""
        seen = self.harness.seen(self.client)
        counts = [seen[name] for name in ("unfinished", "assigned", "graphs", "graphs_arriving")]
        rows = self.harness.core._rows
        tables = [rows.held, rows.taking_up, rows.adopting, self.harness.core._linked_recovery.held]
        return not any([*counts, *tables])


def graph_of(
    client: Client, first: int, dependencies: list[list[int]], waited: float, flags: int = AGAIN, **options: Any
) -> m.GraphSubmit:
    rows = len(dependencies)
    return m.GraphSubmit(
        client.id,
        first,
        (FUNCTION,),
        Packed.of([b"P%d" % row for row in range(rows)]),
        [len(one) for one in dependencies],
        [needed for one in dependencies for needed in one],
        list(range(rows)),
        flags=flags,
        options=asking(History((waited,)), **{"deadline_seconds": SECONDS, **options}),
    )


@pytest.mark.parametrize("agents_want", [True, False])
@pytest.mark.parametrize("waited", [2.0, 7.5, 10.0, 30.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_graph_ends_at_its_deadline(shape: str, waited: float, agents_want: bool) -> None:
    cluster = Cluster()
    if agents_want:
        cluster.agents_want_tasks()
    numbers = cluster.announce_graph(SHAPES[shape], waited)
    due = max(0.0, SECONDS - waited)
    cluster.run(due - 0.15)
    early = due > GRACE
    # What is over on arrival ends at once.
    assert due == 0 or cluster.answers == {}
    # By then all agents are back, and what none has is handed out.
    handed_out = cluster.agent.tasks()
    assert bool(handed_out) == (early and agents_want)
    cluster.run(0.3)
    if not handed_out:
        assert sorted(cluster.answers) == numbers
        text = b"it waited for " if early else WAITED_FOR_AGENTS
        for at, status, payload in cluster.answers.values():
            assert (status, at <= due + 0.101, at >= due) == (TIMED_OUT, True, True)
            assert text in payload
    else:
        assert cluster.stopped() == [number for _, number, _ in handed_out]
        cluster.agent.answer(handed_out, m.Status.CANCELED, b"")
        cluster.run(0.1)
        assert {status for _, status, _ in cluster.answers.values()} == {TIMED_OUT}
    cluster.agents_want_tasks()
    cluster.run(2 * GRACE)
    assert sorted(cluster.answers) == numbers
    assert cluster.agent.tasks() == []
    assert cluster.is_over()


def test_a_graph_whose_deadline_was_over_when_all_agents_were_back_is_not_handed_out() -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    cluster.run(2 * GRACE)
    numbers = cluster.announce_graph(SHAPES["several"], waited=11.0)
    assert cluster.agent.tasks() == []
    cluster.run(0.1)
    assert sorted(cluster.answers) == numbers
    texts = [payload for _, _, payload in cluster.answers.values()]
    assert b"it waited for a worker" in texts[0]
    assert not any(b"restart" in text for text in texts)
    assert cluster.is_over()


def test_results_that_came_before_the_deadline_count_and_what_agents_have_is_stopped() -> None:
    cluster = Cluster()
    first, second, third, fourth = cluster.announce_graph([[], [0], [1], []], waited=7.0)
    cluster.agent.answer([(cluster.client.id, first, 1)], payload=b"Pone")
    cluster.claim(second)
    cluster.run(2.9)
    assert cluster.answers == {}
    cluster.run(0.2)
    assert cluster.answers[first][1:] == (0, b"Pone")
    assert cluster.answers[fourth][1] == TIMED_OUT
    assert cluster.stopped() == [second]
    assert second not in cluster.answers
    cluster.agent.answer([(cluster.client.id, second, 1)], m.Status.CANCELED, b"", durations=[3])
    cluster.run(0.1)
    assert cluster.answers[second][1] == TIMED_OUT
    assert b"it was running" in cluster.answers[second][2]
    assert cluster.answers[third][1] == TIMED_OUT
    assert cluster.is_over()


def test_what_is_done_just_as_it_is_stopped_leaves_no_object() -> None:
    cluster = Cluster()
    (number,) = cluster.announce_graph([[]], waited=7.0)
    cluster.claim(number)
    cluster.run(3.1)
    assert cluster.stopped() == [number]
    made = cluster.answer_with_object(number)
    cluster.run(0.1)
    assert cluster.answers[number][1] == TIMED_OUT
    assert cluster.deleted() == [made]
    assert cluster.is_over()


@pytest.mark.parametrize("kind", ["graph", "linked"])
def test_a_cancelled_task_that_is_done_just_as_it_is_stopped_leaves_no_object(kind: str) -> None:
    cluster = Cluster()
    if kind == "graph":
        number, _ = cluster.announce_graph([[], []], waited=0.0)
    else:
        # It waits behind one that nobody has claimed.
        cluster.announce_linked(0.0)
        number = cluster.announce_linked(0.0)
    cluster.claim(number)
    cluster.client.send(m.TaskCancel(cluster.client.id, [number]))
    cluster.run(GRACE + 0.2 if kind == "graph" else 0.1)
    assert cluster.stopped() == [number]
    made = cluster.answer_with_object(number)
    assert cluster.deleted() == [made]


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("rows", [2, 3000])
@pytest.mark.parametrize("status", [m.Status.SUCCESS, m.Status.SKIPPED, m.Status.PROCESSOR_DIED])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_what_is_told_of_a_row_in_the_moment_of_the_deadline_releases_no_other(
    turns: int, status: m.Status, rows: int, idempotent: bool
) -> None:
    cluster = Cluster()
    cluster.harness.checks_each_step = rows < 100
    numbers = cluster.announce_graph([[]] + [[0]] * (rows - 1), 7.0, idempotent=idempotent)
    cluster.claim(numbers[0])
    cluster.run(2.9)
    cluster.agents_want_tasks()
    cluster.harness.now += 0.1
    cluster.harness.core.handle(events.Tick(), cluster.harness.now)
    for _ in range(turns):
        cluster.harness.turn()
    cluster.agent.answer([(cluster.client.id, numbers[0], 1)], status)
    cluster.run(0.2)
    assert cluster.agent.tasks() == []
    assert sorted(cluster.answers) == numbers
    assert {cluster.answers[number][1] for number in numbers[1:]} == {TIMED_OUT}
    # A result counts that comes before the graph has begun.
    if status is not m.Status.SUCCESS or (turns == 2 and rows == 2):
        assert cluster.answers[numbers[0]][1] == TIMED_OUT
    assert cluster.is_over()


@pytest.mark.parametrize("status", [m.Status.CANCELED, m.Status.PROCESSOR_DIED, m.Status.SKIPPED])
@pytest.mark.parametrize("kind", ["single", "graph", "linked"])
def test_what_comes_back_before_time_has_passed_is_not_handed_out(kind: str, status: m.Status) -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    cluster.claim(1)
    if kind == "single":
        cluster.client.submit(1, **again(11.0, deadline_seconds=SECONDS))
    elif kind == "graph":
        cluster.announce_graph([[]], 11.0)
    else:
        cluster.announce_linked(11.0)
    cluster.agent.answer([(cluster.client.id, 1, 1)], status)
    cluster.listen()
    assert cluster.agent.tasks() == []
    assert cluster.answers[1][1] == TIMED_OUT
    assert cluster.is_over()


def test_no_row_is_released_before_all_that_agents_have_is_known() -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    cluster.harness.checks_each_step = False
    rows = 3 * STEP_ROWS
    numbers = cluster.announce_graph([[] for _ in range(rows - 1)] + [[0]], 0.0, deadline_seconds=3600)
    first, last = numbers[0], numbers[-1]
    cluster.claim(first, last)
    harness, graph_rows = cluster.harness, cluster.harness.core._rows
    harness.advance(GRACE - 0.1, step=0.1)
    harness.now += 0.1
    harness.core.handle(events.Tick(), harness.now)
    while not graph_rows.taking_up:
        assert harness.turn()
    harness.turn()
    cluster.agent.connection.send(m.ResultBatch(cluster.client.id, [first], [1], Packed.of([b"Pone"])))
    while graph_rows.taking_up:
        assert harness.turn()
    harness.settle()
    given = [number for _, number, _ in cluster.agent.tasks()]
    assert given
    assert last not in given
    assert cluster.stopped() == []
    assert list(cluster.client.results()) == [first]


def test_a_graph_that_does_not_come_as_a_whole_keeps_nobody_waiting() -> None:
    cluster = Cluster()
    cluster.harness.checks_each_step = False
    whole = graph_of(cluster.client, 100, [[] for _ in range(2000)], waited=11.0)
    whole.row_count = 4000
    cluster.client.send(whole)
    cluster.agents_want_tasks()
    (number,) = cluster.client.submit(1, flags=AGAIN)
    cluster.run(GRACE + 0.1)
    assert cluster.agent.tasks() == [(cluster.client.id, number, 1)]
    # Nothing looks for its rows again and again.
    assert cluster.harness.core._state.timers.next_overdue() == float("inf")


def test_an_agent_that_comes_back_after_the_deadline_stops_what_it_has() -> None:
    cluster = Cluster()
    numbers = cluster.announce_graph([[], [], [0]], waited=9.0)
    cluster.run(1.5)
    assert sorted(cluster.answers) == numbers
    late = Agent(cluster.harness, "late", capacity=0)
    cluster.claim(numbers[1], agent=late)
    cluster.run(2 * GRACE)
    assert cluster.stopped(late) == [numbers[1]]
    assert cluster.is_over()


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("kind", ["graph", "linked", "single"])
def test_one_that_may_not_run_twice_may_have_begun(kind: str, claimed: bool) -> None:
    cluster = Cluster()
    if kind == "graph":
        (number,) = cluster.announce_graph([[]], 7.0, idempotent=False)
    elif kind == "linked":
        number = cluster.announce_linked(7.0, idempotent=False)
    else:
        (number,) = cluster.client.submit(1, **again(7.0, deadline_seconds=SECONDS, idempotent=False))
    if claimed:
        cluster.claim(number)
    cluster.run(2.9)
    assert cluster.answers == {}
    cluster.run(0.2)
    if claimed:
        assert cluster.stopped() == [number]
        cluster.agent.answer([(cluster.client.id, number, 1)], m.Status.CANCELED, b"")
        cluster.run(0.1)
    at, status, text = cluster.answers[number]
    assert (status, at >= 3.0) == (TIMED_OUT, True)
    assert text.startswith(b"task %d" % number)
    assert (WAITED_FOR_AGENTS in text) != claimed
    assert cluster.is_over()


@pytest.mark.parametrize("kind", ["graph", "linked"])
def test_once_all_agents_are_back_one_that_may_not_run_twice_is_lost(kind: str) -> None:
    cluster = Cluster()
    cluster.run(2 * GRACE)
    if kind == "graph":
        numbers = cluster.announce_graph([[], [0], [], []], 30.0, idempotent=False)
    else:
        numbers = [cluster.announce_linked(30.0, idempotent=False)]
    cluster.run(0.2)
    assert {number: one[1:] for number, one in cluster.answers.items()} == dict.fromkeys(
        numbers, (m.Status.WORKER_DIED, NOT_RUN_AGAIN)
    )
    assert cluster.is_over()


@pytest.mark.parametrize("is_late", [True, False])
def test_a_graph_in_portions_has_one_deadline(is_late: bool) -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    whole = graph_of(cluster.client, 1, [[], [], [], []], waited=7.0)
    cluster.client.next_number = 5
    for start in (0, 2):
        waited = 7.0 if is_late or not start else 9.0
        cluster.client.send(
            m.GraphSubmit(
                cluster.client.id,
                1,
                (FUNCTION,),
                Packed.of([b"P", b"P"]),
                [0, 0],
                [],
                [0, 1],
                flags=AGAIN,
                options=asking(History((waited,)), deadline_seconds=SECONDS),
                first_row=start,
                row_count=len(whole.payloads),
            )
        )
        cluster.run(3.5 if is_late and not start else 1.0)
        assert cluster.answers == {} or (is_late and start)
    cluster.run(1.9 if not is_late else 0.1)
    assert sorted(cluster.answers) == [1, 2, 3, 4]
    assert {status for _, status, _ in cluster.answers.values()} == {TIMED_OUT}
    assert cluster.agent.tasks() == []
    assert cluster.is_over()


def test_very_many_rows_end_in_few_messages() -> None:
    cluster = Cluster()
    rows = 4000
    numbers = cluster.announce_graph([[] for _ in range(rows)], waited=11.0)
    cluster.harness.checks_each_step = False
    cluster.harness.advance(0.1, step=0.1)
    batches = cluster.client.take(m.ResultBatch)
    assert sorted(number for batch in batches for number in batch.numbers) == numbers
    assert len(batches) <= rows / PORTION + 1
    assert cluster.is_over()


@pytest.mark.parametrize("while_it", ["waits", "is begun", "is taken up", "ends"])
def test_a_client_that_goes_meanwhile_leaves_nothing(while_it: str) -> None:
    cluster = Cluster()
    cluster.harness.checks_each_step = False
    harness, rows = cluster.harness, cluster.harness.core._rows
    numbers = cluster.announce_graph([[] for _ in range(4 * STEP_ROWS)], waited=7.0)
    cluster.claim(numbers[0], numbers[-1])
    harness.advance(2.9)
    if while_it != "waits":
        harness.now += 0.1
        harness.core.handle(events.Tick(), harness.now)
        while not (rows._beginning if while_it == "is begun" else rows.taking_up):
            assert harness.turn()
    if while_it == "ends":
        while not cluster.client.received:
            assert harness.turn()
    assert bool(rows.held) == (while_it == "waits")
    assert bool(rows.taking_up) == (while_it in ("is taken up", "ends"))
    cluster.client.connection.close("done")
    harness.turn()
    assert (rows.held, rows.taking_up, rows.adopting, rows.is_busy) == ({}, {}, {}, False)
    harness.settle()
    harness.advance(20)
    harness.core.check_invariants()
    assert harness.snapshot()["clients"] == []


@pytest.mark.parametrize("idempotent", [True, False])
def test_known_results_count_however_long_it_takes_to_look_for_them(idempotent: bool) -> None:
    cluster = Cluster()
    cluster.harness.checks_each_step = False
    harness, count = cluster.harness, 3 * STEP_ROWS
    numbers = cluster.announce_graph([[] for _ in range(count)], waited=7.0, idempotent=idempotent)
    done = numbers[5::10]
    tasks = [(cluster.client.id, number, 1) for number in done]
    for start in range(0, len(tasks), 500):
        cluster.agent.answer(tasks[start : start + 500])
    harness.advance(2.9)
    harness.now += 0.1
    while len(cluster.answers) < count:
        # Time passes between all turns.
        harness.core.handle(events.Tick(), harness.now)
        assert harness.turn() or len(cluster.answers) + 256 > count
        cluster.listen()
    ends = {number: status for number, (_, status, _) in cluster.answers.items()}
    assert ends == {**dict.fromkeys(numbers, TIMED_OUT), **dict.fromkeys(done, m.Status.SUCCESS)}
    harness.settle()
    assert cluster.is_over()


# --- tasks with earlier ones as arguments


def test_linked_tasks_end_at_their_deadline_and_others_wait_on() -> None:
    cluster = Cluster()
    before = link(cluster.client, 5000, flags=AGAIN, options=asking(label="before"))
    number = cluster.announce_linked(7.0)
    behind = cluster.announce_linked(7.0, number)
    after = link(cluster.client, number, flags=AGAIN, options=asking(label="after"))
    cluster.run(2.9)
    assert cluster.answers == {}
    cluster.run(0.2)
    assert list(cluster.answers) == [number, behind]
    for at, status, text in cluster.answers.values():
        assert (status, at >= 3.0) == (TIMED_OUT, True)
        assert WAITED_FOR_AGENTS in text
    cluster.run(GRACE)
    # What they need is not known: their client has the values, or the error.
    assert {number: cluster.answers[number][1] for number in (before, after)} == dict.fromkeys(
        (before, after), m.Status.SKIPPED
    )
    assert cluster.is_over()


def test_a_linked_task_ends_before_a_row_that_it_needs_is_passed_on() -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    cluster.harness.checks_each_step = False
    rows = 3 * PORTION
    numbers = cluster.announce_graph([[] for _ in range(rows)], waited=7.0)
    cluster.agent.answer([(cluster.client.id, numbers[0], 1)], payload=b"Pone")
    number = link(cluster.client, numbers[0], options=asking(History((7.0,)), deadline_seconds=SECONDS))
    cluster.run(3.1)
    assert cluster.agent.tasks() == []
    assert cluster.answers[numbers[0]][1] == m.Status.SUCCESS
    assert cluster.answers[number][1] == TIMED_OUT
    assert len(cluster.answers) == rows + 1
    assert cluster.is_over()


@pytest.mark.parametrize("ends", ["late", "in time"])
def test_a_linked_task_that_an_agent_has_is_stopped_there(ends: str) -> None:
    cluster = Cluster()
    blocks = link(cluster.client, 5000, flags=AGAIN, options=asking(label="before"))
    number = cluster.announce_linked(7.0)
    if ends == "late":
        cluster.claim(number)
    else:
        cluster.agent.answer([(cluster.client.id, number, 1)])
    cluster.run(3.1)
    if ends == "late":
        assert cluster.stopped() == [number]
        cluster.agent.answer([(cluster.client.id, number, 1)], m.Status.CANCELED, b"", durations=[1])
        cluster.run(0.1)
        assert cluster.answers[number][1] == TIMED_OUT
        assert b"it was running" in cluster.answers[number][2]
    else:
        assert cluster.answers[number][1] == m.Status.SUCCESS
    cluster.run(GRACE)
    assert sorted(cluster.answers) == [blocks, number]
    assert cluster.is_over()


def test_a_linked_task_that_comes_back_with_its_deadline_over_is_not_handed_out() -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    cluster.run(2 * GRACE)
    (needed,) = cluster.client.submit(1)
    number = cluster.announce_linked(10.0, needed)
    assert [one for _, one, _ in cluster.agent.tasks()] == [needed]
    cluster.run(0.1)
    assert cluster.answers[number][1] == TIMED_OUT
    assert b"it waited for other tasks" in cluster.answers[number][2]
    cluster.agent.answer([(cluster.client.id, needed, 1)])
    assert cluster.agent.tasks() == []
    cluster.run(0.1)
    assert cluster.is_over()


@pytest.mark.parametrize("count", [HELD_PER_TURN, 3 * HELD_PER_TURN, 3 * HELD_PER_TURN + 1])
@pytest.mark.parametrize("overdue", [True, False])
def test_very_many_linked_tasks_end_in_turns(count: int, overdue: bool) -> None:
    cluster = Cluster()
    cluster.harness.checks_each_step = False
    numbers = [cluster.announce_linked(7.0 if overdue else 0.0) for _ in range(count)]
    linked = cluster.harness.core._linked_recovery
    begun: list[int] = []
    begin = linked._begin

    def note_begin(rows: Any, now: float) -> None:
        begun[-1] += 1
        begin(rows, now)

    go_on = linked.go_on

    def note_turn(now: float) -> None:
        begun.append(0)
        go_on(now)

    linked._begin, linked.go_on = note_begin, note_turn  # type: ignore[method-assign]
    cluster.run(GRACE + 0.2)
    assert max(begun) == (PORTION if overdue else HELD_PER_TURN)
    assert sum(begun) == count
    assert sorted(cluster.answers) == numbers
    # It would have the core asked for more without end.
    assert not linked.is_busy
    assert cluster.is_over()


def test_a_message_with_many_rows_is_read_once() -> None:
    cluster = Cluster()
    rows = 4000
    client = cluster.client
    client.next_number = 1 + rows
    client.send(
        m.GraphSubmit(
            client.id,
            1,
            (FUNCTION,),
            Packed.of([b"P"] * rows),
            [1] * rows,
            [rows] * rows,
            list(range(rows)),
            earlier=[9000],
            flags=AGAIN,
            options=asking(History((9.0,)), deadline_seconds=SECONDS),
        )
    )
    cluster.claim(3)
    cluster.harness.checks_each_step = False
    cluster.run(1.2)
    assert len(cluster.answers) == rows
    assert {status for _, status, _ in cluster.answers.values()} == {TIMED_OUT}
    # It would have run with the others anew.
    assert cluster.stopped() == [3]
    assert cluster.is_over()


@pytest.mark.parametrize("second", [0.0, 30.0])
def test_of_a_number_that_is_used_twice_the_first_use_stands(second: float) -> None:
    cluster = Cluster()
    number = cluster.announce_linked(7.0)
    cluster.client.next_number = number
    cluster.announce_linked(second)
    held = cluster.harness.core._linked_recovery.held
    assert [len(one) for one in held.values()] == [1]
    cluster.run(2.9)
    assert cluster.answers == {}
    cluster.run(0.2)
    assert cluster.answers[number][1] == TIMED_OUT
    assert cluster.is_over()


@pytest.mark.parametrize("wide", [True, False])
def test_linked_tasks_are_cancelled_while_they_wait(wide: bool) -> None:
    cluster = Cluster()
    client = cluster.client
    if wide:
        client.next_number = 4
        graph = graph_of(client, 1, [[], [], []], 7.0)
        graph.earlier, graph.dependency_counts, graph.dependencies = [9000], [1, 1, 1], [3, 3, 3]
        client.send(graph)
    else:
        for _ in range(3):
            cluster.announce_linked(7.0)
    (held,) = cluster.harness.core._linked_recovery.held.values()
    size = held.size_bytes
    client.send(m.TaskCancel(client.id, [2, 77]))
    cluster.listen()
    assert {number: status for number, (_, status, _) in cluster.answers.items()} == {2: m.Status.CANCELED}
    assert held.size_bytes == (size if wide else size * 2 // 3)
    cluster.run(3.1)
    assert {number: status for number, (_, status, _) in cluster.answers.items()} == {
        1: TIMED_OUT,
        2: m.Status.CANCELED,
        3: TIMED_OUT,
    }
    assert held.size_bytes == 0
    assert cluster.is_over()


def test_a_result_that_gives_way_once_its_client_is_back_leaves_no_object() -> None:
    cluster = Cluster()
    other = Agent(cluster.harness, "other", capacity=0)
    first, second = b"1" * 16, b"2" * 16
    for agent, attempt, made in ((cluster.agent, 1, first), (other, 2, second)):
        task = cluster.client.id, 1, attempt
        agent.answer([task], m.Status.RETRY, b"O" + made, object_positions=[0], objects=(made,))
    assert cluster.deleted() == [first]


def test_a_result_of_a_linked_task_that_is_cancelled_while_it_waits_leaves_no_object() -> None:
    cluster = Cluster()
    # It waits behind one that nobody has claimed.
    cluster.announce_linked(0.0)
    number = cluster.announce_linked(0.0)
    made = cluster.answer_with_object(number)
    cluster.client.send(m.TaskCancel(cluster.client.id, [number]))
    assert cluster.deleted() == [made]


def test_a_result_that_comes_back_with_its_lost_agent_and_client_counts() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit(1)
    tasks = agent.tasks()
    agent.reachable = False
    harness.advance(200, step=1.0)
    client.reachable = False
    harness.advance(400, step=1.0)
    client.reachable = agent.reachable = True
    harness.advance(3)
    assert harness.seen(client)["unfinished"] == 0
    agent.answer(tasks)
    client.define()
    client.next_number = number
    client.submit(1, flags=AGAIN)
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}


# --- single tasks


@pytest.mark.parametrize("agents_are_back", [True, False])
def test_single_tasks_that_come_back_with_their_deadline_over_are_not_handed_out(agents_are_back: bool) -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    cluster.run(2 * GRACE if agents_are_back else 0.2)
    (number,) = cluster.client.submit(1, **again(10.0, deadline_seconds=SECONDS))
    assert cluster.agent.tasks() == []
    cluster.run(0.1)
    _, status, text = cluster.answers[number]
    assert status == TIMED_OUT
    assert (WAITED_FOR_AGENTS in text) != agents_are_back
    assert cluster.is_over()


def test_no_task_begins_that_is_to_end_when_all_agents_are_back() -> None:
    cluster = Cluster()
    cluster.agents_want_tasks()
    count = 3 * PORTION
    waited = History((SECONDS - GRACE,) * count)
    cluster.client.submit(count, flags=AGAIN, options=asking(waited, deadline_seconds=SECONDS))
    cluster.harness.checks_each_step = False
    cluster.run(GRACE + 0.1)
    assert cluster.agent.tasks() == []
    assert len(cluster.answers) == count
    assert cluster.is_over()


def test_tasks_with_deadlines_of_their_own_end_together() -> None:
    cluster = Cluster()
    count = PORTION
    for _ in range(count):
        cluster.client.submit(1, **again(SECONDS - 1.0, deadline_seconds=SECONDS))
    cluster.harness.ticks_while_due = False
    cluster.run(1.1)
    assert len(cluster.answers) == count
    assert {at for at, _, _ in cluster.answers.values()} == {1.0}


@pytest.mark.parametrize("kind", ["single", "linked"])
def test_others_may_submit_what_tasks_whose_deadline_was_over_do_not_keep_waiting(kind: str) -> None:
    cluster = Cluster(max_number_of_tasks_waiting=5)
    cluster.run(2 * GRACE)
    client, other = cluster.client, Client(cluster.harness, "other")
    client.send(m.CreditRequest(5))
    other.send(m.CreditRequest(4))
    assert other.take(m.CreditGrant) == []
    if kind == "single":
        waited = History((11.0,) * 5)
        client.submit(5, flags=AGAIN, options=asking(waited, deadline_seconds=SECONDS))
    else:
        for _ in range(5):
            cluster.announce_linked(11.0)
    assert sum(grant.count for grant in other.take(m.CreditGrant)) == 4


def test_objects_of_a_result_that_gives_way_are_deleted() -> None:
    harness = Harness()
    client_id = identity("client")
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    first, second = b"1" * 16, b"2" * 16
    for agent, attempt, made in ((one, 1, first), (other, 2, second), (one, 1, b"3" * 16)):
        agent.answer([(client_id, 1, attempt)], m.Status.RETRY, b"O" + made, object_positions=[0], objects=(made,))
    assert [one.ids for one in harness.to_store() if isinstance(one, m.ObjectDelete)] == [(first,)]
