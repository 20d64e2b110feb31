"""Graphs after a restart of the scheduler: what agents have of them goes on, and what nobody needs does not run again."""

from __future__ import annotations

from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, identity
from test_core_graphs import submit_graph
from test_core_links import graphs, link, numbers
from test_core_options import asking

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import SchedulerConfig, SchedulerCore
from scaler_scheduler.core.graph_rows import NOT_RUN_AGAIN

GRACE = 6.0
OBJECT = b"o" * 16


class Restart:
    """A graph of an earlier scheduler, and this one, which begins to know of it."""

    def __init__(self, dependencies: list[list[int]], wanted: list[int]) -> None:
        self.harness = harness = Harness()
        self.client, self.agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
        self.client.define()
        self.dependencies = dependencies
        self.first = submit_graph(self.client, dependencies, wanted)
        self.tasks = self.agent.tasks()

    def restart(self, **settings: Any) -> None:
        """The agent is back."""
        config = SchedulerConfig(incarnation=identity("second"), recovery_grace_seconds=GRACE, **settings)
        self.harness.core = SchedulerCore(config, self.harness.now)
        self.harness.advance(3)

    def claim(self, *rows: int, attempt: int = 1) -> None:
        """The agent says that it has these."""
        count = len(rows)
        named = [self.first + row for row in rows]
        self.agent.send(m.Inventory(self.client.id, named, [attempt] * count, [1] * count))

    def announce(self, wanted: list[int], options: bytes = b"") -> None:
        """The client sends its graph again, as far as it is unanswered."""
        self.client.define()
        self.client.next_number = self.first
        submit_graph(self.client, self.dependencies, wanted, flags=m.TaskFlag.REANNOUNCED, options=options)

    def answer(
        self, row: int, status: m.Status = m.Status.SUCCESS, payload: bytes = b"Presult", attempt: int = 1
    ) -> None:
        """The agent answers a task that it has."""
        self.agent.answer([(self.client.id, self.first + row, attempt)], status, payload)

    def rows_run(self) -> list[int]:
        """Run what the agent gets, and return it."""
        return [number - self.first for number in self.agent.run_all()]

    def rows_answered(self) -> list[int]:
        """Return what the client has been told."""
        return [number - self.first for number in self.client.results()]

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.harness.seen(self.client)["graphs"] == [] and self.harness.count("ready") == 0

    def wait(self) -> None:
        """All agents are back."""
        self.harness.advance(GRACE)


CHAIN = [[], [0], [1], [2]]


@pytest.mark.parametrize("client_is_first", [True, False])
def test_a_row_that_runs_goes_on_and_nothing_runs_again_for_it(client_is_first: bool) -> None:
    graph = Restart(CHAIN, [3])
    graph.answer(0)
    graph.answer(1)
    graph.restart()
    if client_is_first:
        graph.announce([3])
    graph.claim(2)
    if not client_is_first:
        graph.announce([3])
    assert graph.rows_run() == []
    graph.wait()
    assert graph.agent.take(m.TaskCancel) == []
    assert graph.rows_run() == []
    graph.answer(2)
    assert graph.rows_run() == [3]
    assert graph.rows_answered() == [3]
    assert graph.is_over()


@pytest.mark.parametrize("how", ["returned", "died", "lost agent", "missing object"])
def test_should_it_come_back_what_it_needs_runs_before(how: str) -> None:
    graph = Restart([[], [0], [1], [2], [1]], [3, 4])
    graph.restart()
    graph.claim(2)
    graph.announce([3])
    graph.wait()
    assert graph.rows_run() == []
    if how == "returned":
        graph.agent.send(m.TaskReturn(graph.client.id, [graph.first + 2], [1]))
    elif how == "died":
        graph.answer(2, m.Status.PROCESSOR_DIED, b"dead")
    elif how == "missing object":
        graph.answer(2, m.Status.MISSING_OBJECT, b"object gone")
    else:
        graph.harness.vanish(graph.agent)
        graph.agent = Agent(graph.harness, "other", capacity=10)
        graph.harness.advance(90)
    assert graph.rows_run() == [0, 1, 2, 3]
    assert graph.rows_answered() == [3]
    assert graph.is_over()


def test_what_it_needs_runs_once_where_others_need_it_too() -> None:
    graph = Restart([[], [0], [0], [1, 2], [3]], [4])
    graph.restart()
    graph.claim(3)
    graph.announce([4])
    graph.wait()
    # Nobody needs 0, 1 and 2 but that one.
    assert graph.rows_run() == []
    graph.agent.send(m.TaskReturn(graph.client.id, [graph.first + 3], [1]))
    assert sorted(graph.rows_run()) == [0, 1, 2, 3, 4]
    assert graph.is_over()


def test_one_comes_back_while_a_row_that_it_needs_runs() -> None:
    graph = Restart([[], [], [0, 1], [1]], [2, 3])
    graph.restart()
    graph.claim(2)
    graph.announce([2, 3])
    graph.wait()
    (one, *rest) = graph.agent.tasks()
    assert numbers([one]) == [graph.first + 1]
    # Both in one message: 1 is done, and 0 has not run, which 2 needs.
    answer = m.ResultBatch(
        graph.client.id,
        [graph.first + 2, graph.first + 1],
        [1, one[2]],
        Packed.of([b"dead", b"Pone"]),
        [m.Status.PROCESSOR_DIED, m.Status.SUCCESS],
    )
    graph.agent.send(answer)
    graph.agent.answer(rest)
    assert sorted([*graph.rows_run(), *(number - graph.first for number in numbers(rest))]) == [0, 2, 3]
    assert sorted(graph.rows_answered()) == [2, 3]
    assert graph.is_over()


def test_a_chain_that_an_agent_has_goes_on() -> None:
    graph = Restart(CHAIN, [1, 3])
    graph.restart()
    graph.claim(0, 1, 2, 3)
    graph.announce([1, 3])
    graph.wait()
    for row in range(4):
        graph.answer(row)
    assert graph.rows_run() == []
    assert graph.rows_answered() == [1, 3]
    assert graph.is_over()


def test_a_link_of_a_chain_fails_and_those_behind_it_do() -> None:
    graph = Restart(CHAIN, [3])
    graph.restart()
    graph.claim(0, 1, 2, 3)
    graph.announce([3])
    graph.wait()
    graph.answer(0)
    graph.answer(1, m.Status.FAILED, b"Perror")
    for row in (2, 3):
        graph.answer(row, m.Status.SKIPPED, b"")
    assert graph.rows_run() == []
    assert graph.client.results() == {graph.first + 3: (m.Status.FAILED, b"Perror")}
    assert graph.is_over()


def test_a_chain_whose_processor_died_is_given_back_and_runs() -> None:
    graph = Restart(CHAIN, [3])
    graph.restart()
    graph.claim(1, 2, 3)
    graph.announce([3])
    graph.wait()
    graph.agent.send(m.TaskReturn(graph.client.id, [graph.first + 2, graph.first + 3], [1, 1]))
    graph.answer(1, m.Status.PROCESSOR_DIED, b"dead")
    assert graph.rows_run() == [0, 1, 2, 3]
    assert graph.rows_answered() == [3]
    assert graph.is_over()


@pytest.mark.parametrize("client_is_back", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_results_that_come_before_the_graph_begins_count(client_is_back: bool, fails: bool) -> None:
    graph = Restart(CHAIN, [0, 2, 3])
    graph.restart()
    graph.claim(1)
    if client_is_back:
        graph.announce([2, 3])
    graph.answer(0, payload=b"Pzero")
    graph.answer(1, *(((m.Status.FAILED), b"Perror") if fails else (m.Status.SUCCESS, b"Pone")))
    if not client_is_back:
        graph.announce([2, 3])
    graph.wait()
    if fails:
        assert graph.client.results() == {graph.first + row: (m.Status.FAILED, b"Perror") for row in (2, 3)}
    else:
        (batch,) = graph.agent.take(m.TaskBatch)
        assert list(batch.inputs.split())[:1] == [b"Pone"]
        for number, attempt in zip(batch.numbers, batch.attempts, strict=True):
            graph.agent.answer([(graph.client.id, number, attempt)])
        assert graph.rows_answered() == [2, 3]
    assert graph.rows_run() == []
    assert graph.is_over()


def test_large_results_that_come_before_are_read_and_deleted() -> None:
    graph = Restart(CHAIN, [3])
    graph.restart()
    tasks = [(graph.client.id, graph.first + 1, 1)]
    graph.agent.answer(tasks, payload=b"O" + OBJECT, object_positions=[0], objects=(OBJECT,))
    graph.announce([3])
    graph.wait()
    assert graph.rows_run() == [2, 3]
    assert graph.harness.to_store() == [m.ObjectDelete(0, graph.client.id, (OBJECT,))]
    assert graph.is_over()


def test_what_was_cancelled_meanwhile_is_stopped() -> None:
    graph = Restart([[], [], [1]], [0, 2])
    graph.restart()
    graph.announce([0, 2])
    graph.claim(0)
    graph.claim(1)
    graph.client.send(m.TaskCancel(graph.client.id, [graph.first]))
    graph.wait()
    stopped = [number - graph.first for one in graph.agent.take(m.TaskCancel) for number in one.numbers]
    assert stopped == [0]
    graph.answer(0, m.Status.CANCELED, b"")
    graph.answer(1)
    assert graph.rows_run() == [2]
    assert graph.client.results() == {
        graph.first: (m.Status.CANCELED, b""),
        graph.first + 2: (m.Status.SUCCESS, b"Presult"),
    }
    assert graph.is_over()


@pytest.mark.parametrize("agent_is_back", ["before", "after", "never"])
def test_what_needs_a_row_that_was_cancelled_before_ends_with_it(agent_is_back: str) -> None:
    graph = Restart([[], [0]], [0, 1])
    graph.restart()
    if agent_is_back == "before":
        graph.claim(0)
    # Its client was told of the row's end, and says again that it is cancelled.
    graph.announce([1])
    graph.client.send(m.TaskCancel(graph.client.id, [graph.first]))
    if agent_is_back == "after":
        graph.claim(0)
    graph.wait()
    if agent_is_back != "never":
        stopped = [number - graph.first for one in graph.agent.take(m.TaskCancel) for number in one.numbers]
        assert stopped == [0]
        graph.answer(0, m.Status.CANCELED, b"")
    assert graph.rows_run() == []
    assert graph.client.results() == {graph.first + 1: (m.Status.CANCELED, b"")}
    assert graph.is_over()


def test_only_what_its_unanswered_rows_need_runs_again() -> None:
    # Rows 2 and 5 were answered before: nobody needs 1, 2, 4 and 5 any more, and 0 is needed by 3.
    graph = Restart([[], [0], [1], [0], [], [4], [3]], [2, 5, 6])
    graph.restart()
    graph.announce([6])
    assert graph.rows_run() == []
    graph.wait()
    assert graph.rows_run() == [0, 3, 6]
    assert graph.rows_answered() == [6]
    assert graph.is_over()


def test_attempts_are_numbered_on() -> None:
    graph = Restart([[], [0]], [1])
    graph.restart()
    graph.claim(0, attempt=7)
    graph.announce([1])
    graph.wait()
    graph.answer(0, m.Status.PROCESSOR_DIED, b"dead", attempt=7)
    assert [attempt for _, _, attempt in graph.agent.tasks()] == [8, 8]


def test_a_task_with_a_row_as_argument_gets_the_result_that_came_before() -> None:
    graph = Restart([[], [0]], [0, 1])
    graph.restart()
    graph.answer(0, payload=b"Pzero")
    graph.announce([0, 1])
    graph.client.next_number = graph.first + 2
    linked = link(graph.client, graph.first)
    graph.wait()
    assert sorted(graph.rows_run()) == [1, 2]
    assert set(graph.client.results()) == {graph.first, graph.first + 1, linked}
    assert graphs(graph.harness, graph.client) == []


def test_a_client_that_ends_while_its_graph_waits_leaves_nothing() -> None:
    graph = Restart(CHAIN, [3])
    graph.restart(client_timeout_seconds=1)
    graph.claim(0)
    graph.announce([3])
    graph.harness.vanish(graph.client)
    graph.wait()
    assert graph.rows_run() == []
    assert graph.harness.seen(graph.client) == {}


def test_an_agent_goes_on_with_a_row_that_is_ready_when_it_comes_back() -> None:
    """Otherwise the row would be given to it a second time, under the same attempt."""
    harness = Harness()
    harness.advance(GRACE)
    client = Client(harness, "client")
    client.define()
    again = m.GraphSubmit(client.id, 1, (FUNCTION,), Packed.of([b"P"]), [0], [], [0], flags=m.TaskFlag.REANNOUNCED)
    client.send(again)
    agent = Agent(harness, "agent", capacity=0)
    agent.send(m.Inventory(client.id, [1], [1], [1]))
    assert agent.take(m.TaskCancel) == []
    assert agent.tasks() == []
    agent.answer([(client.id, 1, 1)])
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_row_that_an_agent_has_with_its_inputs_goes_on_when_what_it_needed_fails_for_others(comes_back: bool) -> None:
    graph = Restart([[], [0], [0]], [1, 2])
    graph.restart()
    graph.claim(1)
    graph.announce([1, 2])
    graph.wait()
    tasks = {number - graph.first: (client, number, attempt) for client, number, attempt in graph.agent.tasks()}
    assert sorted(tasks) == [0, 2]
    graph.agent.answer([tasks[0]], m.Status.FAILED, b"failed")
    assert graph.client.results() == {graph.first + 2: (m.Status.FAILED, b"failed")}
    if comes_back:
        graph.agent.send(m.TaskReturn(graph.client.id, [graph.first + 1], [1]))
        status, text = graph.client.results()[graph.first + 1]
        assert (status, text.endswith(b"what it needs has failed")) == (m.Status.MISSING_OBJECT, True)
    else:
        graph.answer(1)
        assert graph.client.results() == {graph.first + 1: (m.Status.SUCCESS, b"Presult")}
    assert graph.is_over()


def test_a_row_that_may_not_run_twice_goes_on_at_its_agent_though_what_it_needed_does_not_run_again() -> None:
    graph = Restart([[], [0], [0]], [1, 2])
    graph.restart()
    graph.claim(1)
    graph.announce([1, 2], options=asking(idempotent=False))
    graph.wait()
    assert graph.client.results() == {graph.first + 2: (m.Status.WORKER_DIED, NOT_RUN_AGAIN)}
    graph.answer(1)
    assert graph.client.results() == {graph.first + 1: (m.Status.SUCCESS, b"Presult")}
    assert graph.agent.tasks() == []
    assert graph.is_over()


def test_a_row_that_an_agent_has_comes_back_when_what_it_needed_was_needed_by_nobody_else_any_more() -> None:
    graph = Restart([[], [0], [0]], [1, 2])
    graph.restart()
    graph.claim(1)
    graph.announce([1, 2])
    graph.agent.send(m.Drain())
    graph.wait()
    graph.client.send(m.TaskCancel(graph.client.id, [graph.first + 2]))
    assert graph.client.results() == {graph.first + 2: (m.Status.CANCELED, b"")}
    graph.agent.send(m.TaskReturn(graph.client.id, [graph.first + 1], [1]))
    graph.agent = Agent(graph.harness, "other", capacity=10)
    assert graph.rows_run() == [0, 1]
    assert graph.rows_answered() == [1]
    assert graph.is_over()


@pytest.mark.parametrize("rows", [2, 20_000])
def test_a_client_that_is_there_from_the_start_finds_what_agents_have(rows: int) -> None:
    harness = Harness(recovery_grace_seconds=GRACE)
    # What agents say counts for as long after their client has come as graphs wait after the start, and large ones begin later.
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    dependencies: list[list[int]] = [[] for _ in range(rows)]
    first = submit_graph(client, dependencies, list(range(rows)), flags=m.TaskFlag.REANNOUNCED)
    agent.send(m.Inventory(client.id, [first + rows - 1], [3], [1]))
    harness.checks_each_step = rows < 100
    harness.advance(GRACE + 2)
    assert agent.take(m.TaskCancel) == []
    agent.answer([(client.id, first + rows - 1, 3)])
    assert client.results() == {first + rows - 1: (m.Status.SUCCESS, b"Presult")}
