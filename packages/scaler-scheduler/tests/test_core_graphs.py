"""Graphs: rows wait for rows, inputs travel with tasks, results live as long as somebody reads them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from harness import BODY, FUNCTION, Agent, Client, Harness, definition

from scaler_protocol.ids import content_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.graph_arrival import STEP_ROWS
from scaler_scheduler.core.graph_rows import FAILING_PER_TURN


def submit_graph(
    client: Client, dependencies: list[list[int]], wanted: list[int], flags: int = 0, options: bytes = b""
) -> int:
    first = client.next_number
    client.next_number += len(dependencies)
    client.send(
        m.GraphSubmit(
            client.id,
            first,
            (FUNCTION,),
            Packed.of([b"P%d" % row for row in range(len(dependencies))]),
            [len(d) for d in dependencies],
            [dependency for d in dependencies for dependency in d],
            wanted,
            flags=flags,
            options=options,
        )
    )
    return first


def test_inputs_travel_with_the_task_in_the_order_of_its_dependencies() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [], [1, 0]], [2])
    (roots,) = agent.take(m.TaskBatch)
    assert list(roots.numbers) == [first, first + 1]
    agent.answer([(client.id, first, 1)], payload=b"Pzero")
    assert agent.take(m.TaskBatch) == []
    agent.answer([(client.id, first + 1, 1)], payload=b"Pone")
    (last,) = agent.take(m.TaskBatch)
    assert list(last.numbers) == [first + 2]
    assert list(last.input_positions) == [0, 0]
    assert last.inputs.split() == [b"Pone", b"Pzero"]
    agent.answer([(client.id, first + 2, 1)], payload=b"Ptwo")
    assert client.results() == {first + 2: (m.Status.SUCCESS, b"Ptwo")}
    assert harness.seen(client)["graphs"] == []


def test_a_failed_row_fails_all_that_need_it_and_only_those() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [0], [1], []], [1, 2, 3])
    tasks = agent.tasks()
    agent.answer([task for task in tasks if task[1] == first], m.Status.FAILED, b"Pboom")
    agent.answer([task for task in tasks if task[1] == first + 3])
    failed = (m.Status.FAILED, b"Pboom")
    assert client.results() == {first + 1: failed, first + 2: failed, first + 3: (m.Status.SUCCESS, b"Presult")}
    assert harness.seen(client)["graphs"] == []


def test_objects_of_intermediate_results_are_freed_when_the_last_reader_is_done() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [0], [0]], [1, 2])
    big = b"b" * 16
    agent.answer(agent.tasks(), payload=b"O" + big, object_positions=[0], objects=(big,))
    (batch,) = agent.take(m.TaskBatch)
    assert list(batch.object_positions) == [0, 1]
    assert batch.objects == (big, big)
    agent.answer([(client.id, first + 1, 1)])
    assert harness.to_store() == []
    agent.answer([(client.id, first + 2, 1)])
    assert harness.to_store() == [m.ObjectDelete(0, client.id, (big,))]


def test_a_wanted_object_goes_to_the_client_at_once_and_others_read_it_still() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10, takes_chains=False)
    client.define()
    first = submit_graph(client, [[], [0], [0, 1]], [0, 2])
    big = b"b" * 16
    agent.answer(agent.tasks(), payload=b"O" + big, object_positions=[0], objects=(big,))
    assert client.results() == {first: (0, b"O" + big)}
    for _ in range(2):
        (batch,) = agent.take(m.TaskBatch)
        assert b"O" + big in batch.inputs.split()
        agent.answer([(client.id, batch.numbers[0], batch.attempts[0])])
    assert list(client.results()) == [first + 2]
    assert harness.seen(client)["graphs"] == []
    # It is the client's to delete.
    assert harness.to_store() == []


def test_a_large_failure_goes_to_every_wanted_row_and_is_the_client_s_to_delete() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [0], [0], [1]], [0, 2, 3])
    big = b"b" * 16
    failed = [task for task in agent.tasks() if task[1] == first]
    agent.answer(failed, m.Status.FAILED, b"O" + big, object_positions=[0], objects=(big,))
    (batch,) = client.take(m.ResultBatch)
    assert sorted(batch.numbers) == [first, first + 2, first + 3]
    assert list(batch.statuses) == [m.Status.FAILED] * 3
    assert batch.payloads.split() == [b"O" + big] * 3
    assert (list(batch.object_positions), batch.objects) == ([0, 1, 2], (big,) * 3)
    assert harness.to_store() == []
    assert harness.seen(client)["graphs"] == []


def test_results_that_come_together_leave_together() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10, takes_chains=False)
    client.define()
    first = submit_graph(client, [[], [], [], [], [2]], [0, 1, 3, 4])
    tasks = agent.tasks()
    agent.answer(tasks, durations=[5, 6, 7, 8], object_positions=[1, 1], objects=(b"a" * 16, b"b" * 16))
    (batch,) = client.take(m.ResultBatch)
    assert list(batch.numbers) == [first, first + 1, first + 3]
    assert list(batch.durations) == [5, 6, 8]
    assert (list(batch.object_positions), batch.objects) == ([1, 1], (b"a" * 16, b"b" * 16))
    assert agent.run_all() == [first + 4]
    assert list(client.results()) == [first + 4]
    assert harness.seen(client)["graphs"] == []


def test_large_results_that_come_together_leave_in_several_messages() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [], [], []], [0, 1, 2, 3])
    agent.answer(agent.tasks(), payload=b"P" * 700_000)
    assert [list(batch.numbers) for batch in client.take(m.ResultBatch)] == [[first, first + 1], [first + 2, first + 3]]


class TestFailuresThatEndManyRows:
    """They end over several turns, and others are served in between."""

    ROWS = 3 * FAILING_PER_TURN

    def failed(self, harness: Harness, needs: list[list[int]], wanted: list[int], **columns: Any) -> tuple[Client, int]:
        client, agent = Client(harness, "client"), Agent(harness, "agent", takes_chains=False)
        client.define()
        first = submit_graph(client, needs, wanted)
        (task,) = agent.tasks()
        batch = m.ResultBatch(client.id, [task[1]], [1], Packed.of([b"Pwrong"]), [m.Status.FAILED], **columns)
        envelope, message = agent.connection.session.sequence(batch)
        harness.core.handle(events.Incoming(agent.peer, envelope, message), harness.now)
        return client, first

    @pytest.mark.parametrize("shape", ["chain", "fan", "tree"])
    def test_all_end_a_few_in_each_turn(self, shape: str) -> None:
        harness = Harness()
        needs = [
            [{"chain": row - 1, "fan": 0, "tree": (row - 1) // 2}[shape]] if row else [] for row in range(self.ROWS)
        ]
        client, _ = self.failed(harness, needs, list(range(self.ROWS)))
        counts = []
        while harness.core.has_more:
            answers = [effect.message for effect in harness.core.take_effects() if isinstance(effect, effects.Send)]
            counts.append(sum(len(one.numbers) for one in answers if isinstance(one, m.ResultBatch)))
            harness.core.check_invariants()
        assert sum(counts) == self.ROWS
        assert max(counts) <= 2 * FAILING_PER_TURN
        assert len(counts) >= 3
        assert harness.seen(client)["graphs"] == []

    def test_everybody_is_told_what_a_row_failed_of(self) -> None:
        harness = Harness()
        wanted = list(range(0, self.ROWS, 7))
        client, first = self.failed(harness, [[row - 1] if row else [] for row in range(self.ROWS)], wanted)
        # One is cancelled before its turn comes.
        last = wanted[-1]
        client.send(m.TaskCancel(client.id, [first + last]))
        harness.settle()
        results = client.results()
        assert sorted(results) == [first + row for row in wanted]
        assert results.pop(first + last) == (m.Status.CANCELED, b"")
        assert set(results.values()) == {(m.Status.FAILED, b"Pwrong")}

    def test_a_large_failure_is_named_once_and_last(self) -> None:
        harness = Harness()
        needs = [[row - 1] if row else [] for row in range(self.ROWS)]
        big = b"b" * 16
        client, _ = self.failed(harness, needs, list(range(self.ROWS)), object_positions=[0], objects=(big,))
        harness.settle()
        (batch,) = client.take(m.ResultBatch)
        assert batch.objects == (big,) * self.ROWS
        assert harness.to_store() == []

    def test_a_large_failure_that_nobody_wants_any_more_is_deleted_once(self) -> None:
        harness = Harness()
        needs = [[row - 1] if row else [] for row in range(self.ROWS)]
        big = b"b" * 16
        client, first = self.failed(harness, needs, [self.ROWS - 1], object_positions=[0], objects=(big,))
        client.send(m.TaskCancel(client.id, [first + self.ROWS - 1]))
        harness.settle()
        assert client.results() == {first + self.ROWS - 1: (m.Status.CANCELED, b"")}
        assert harness.to_store() == [m.ObjectDelete(0, client.id, (big,))]

    def test_a_client_that_leaves_in_between_leaves_nothing_behind(self) -> None:
        harness = Harness()
        client, _ = self.failed(harness, [[row - 1] if row else [] for row in range(self.ROWS)], [self.ROWS - 1])
        client.connection.close("bye")
        harness.settle()
        assert not harness.core.has_more
        assert harness.seen(client) == {}


def test_a_large_failure_that_nobody_wants_is_deleted() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [], [0, 1], []], [2, 3])
    big = b"b" * 16
    tasks = agent.tasks()
    client.send(m.TaskCancel(client.id, [first + 2]))
    assert client.results() == {first + 2: (m.Status.CANCELED, b"")}
    failed = [task for task in tasks if task[1] == first]
    agent.answer(failed, m.Status.FAILED, b"O" + big, object_positions=[0], objects=(big,))
    assert client.results() == {}
    assert harness.to_store() == [m.ObjectDelete(0, client.id, (big,))]


def test_large_failures_of_single_tasks_are_passed_on_with_their_objects_unless_cancelled() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    one, other = client.submit(2)
    tasks = agent.tasks()
    client.send(m.TaskCancel(client.id, [other]))
    big, unwanted = b"b" * 16, b"u" * 16
    agent.answer(tasks, m.Status.FAILED, b"O" + big, object_positions=[0, 1], objects=(big, unwanted))
    passed, ended = client.take(m.ResultBatch)
    if list(passed.numbers) != [one]:
        passed, ended = ended, passed
    assert (list(passed.numbers), list(passed.statuses)) == ([one], [m.Status.FAILED])
    assert (list(passed.object_positions), passed.objects) == ([0], (big,))
    assert (list(ended.numbers), list(ended.statuses)) == ([other], [m.Status.CANCELED])
    assert harness.to_store() == [m.ObjectDelete(0, client.id, (unwanted,))]


def test_cancelling_rows_ends_what_depends_on_them() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    first = submit_graph(client, [[], [], [0, 1], [2]], [3])
    client.send(m.TaskCancel(client.id, [first + 2, first + 3]))
    assert client.results() == {first + 3: (m.Status.CANCELED, b"")}
    agent.run_all()
    assert harness.seen(client)["graphs"] == []


class TestRowsNobodyNeeds:
    """What only ended rows needed is not begun."""

    def test_cancelling_a_target_ends_what_only_it_needs(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=1, takes_chains=False)
        client.define()
        # 0 and 1 lead to 2, which only 3 needs; 1 leads to 5, too.
        first = submit_graph(client, [[], [], [0, 1], [2], [], [1, 4]], [3, 5])
        running = agent.tasks()
        assert running == [(client.id, first, 1)]
        client.send(m.TaskCancel(client.id, [first + 3]))
        assert client.results() == {first + 3: (m.Status.CANCELED, b"")}
        # The running one is told to stop.
        (cancel,) = agent.take(m.TaskCancel)
        assert list(cancel.numbers) == [first]
        agent.answer(running, m.Status.CANCELED, b"")
        assert agent.run_all() == [first + 1, first + 4, first + 5]
        assert client.results() == {first + 5: (m.Status.SUCCESS, b"Presult")}
        assert harness.seen(client)["graphs"] == []

    def test_cancelling_all_targets_ends_all(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=2)
        client.define()
        rows = 3 * FAILING_PER_TURN
        first = submit_graph(client, [*([[]] * rows), list(range(rows)), [rows]], [rows + 1])
        running = agent.tasks()
        client.send(m.TaskCancel(client.id, [first + rows + 1]))
        assert client.results() == {first + rows + 1: (m.Status.CANCELED, b"")}
        agent.answer(running, m.Status.CANCELED, b"")
        assert agent.tasks() == []
        assert harness.seen(client)["graphs"] == []
        assert harness.count("ready") == 0

    def test_after_a_failure_what_runs_runs_on(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=2, takes_chains=False)
        client.define()
        first = submit_graph(client, [[], [], [], [0, 1, 2]], [3])
        one, other = agent.tasks()
        agent.answer([one], m.Status.FAILED, b"Pboom")
        assert client.results() == {first + 3: (m.Status.FAILED, b"Pboom")}
        assert agent.take(m.TaskCancel) == []
        agent.answer([other])
        assert agent.tasks() == []
        assert harness.seen(client)["graphs"] == []

    def test_a_row_that_a_linked_task_came_to_need_stays(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=1, takes_chains=False)
        client.define()
        first = submit_graph(client, [[], [], [1]], [0, 1, 2])
        client.send(m.TaskCancel(client.id, [first + 2]))
        assert agent.run_all() == [first, first + 1]
        assert len(client.results()) == 3

    @pytest.mark.parametrize("seed", range(25))
    def test_whatever_is_cancelled_or_fails(self, seed: int) -> None:
        choose = random.Random(seed)
        rows = choose.randrange(2, 40)
        dependencies = [sorted(choose.sample(range(row), choose.randrange(0, min(row, 3) + 1))) for row in range(rows)]
        read = {needed for needs in dependencies for needed in needs}
        wanted = [row for row in range(rows) if row not in read or choose.random() < 0.1]
        harness = Harness()
        client = Client(harness, "client")
        agent = Agent(harness, "agent", capacity=choose.randrange(1, 5), takes_chains=choose.random() < 0.5)
        client.define()
        first = submit_graph(client, dependencies, wanted)
        answers: dict[int, tuple[int, bytes]] = {}
        held: list[tuple[bytes, int, int]] = []
        for _ in range(20 * rows):
            held += agent.tasks()
            if choose.random() < 0.15:
                client.send(m.TaskCancel(client.id, [first + choose.choice(wanted)]))
            if held:
                task = held.pop(0)
                status = m.Status.FAILED if choose.random() < 0.05 else m.Status.SUCCESS
                stopped = {number for message in agent.take(m.TaskCancel) for number in message.numbers}
                agent.answer([task], m.Status.CANCELED if task[1] in stopped else status)
            answers.update(client.results())
        assert sorted(answers) == [first + row for row in wanted]
        assert harness.seen(client)["graphs"] == []
        assert harness.count("ready") == 0


def test_random_graphs_run_every_needed_row_once_after_its_dependencies() -> None:
    for seed in range(30):
        choose = random.Random(seed)
        rows = choose.randrange(1, 60)
        dependencies = [sorted(choose.sample(range(row), choose.randrange(0, min(row, 4) + 1))) for row in range(rows)]
        wanted = sorted(choose.sample(range(rows), choose.randrange(1, rows + 1)))
        harness = Harness()
        client = Client(harness, "client")
        agents = [Agent(harness, f"agent-{index}", capacity=3) for index in range(2)]
        client.define()
        first = submit_graph(client, dependencies, wanted)
        done: set[int] = set()
        while True:
            ran = False
            for agent in agents:
                for client_id, number, attempt in agent.tasks():
                    row = number - first
                    assert row not in done, f"seed {seed}: row {row} ran twice"
                    assert done.issuperset(dependencies[row]), f"seed {seed}: row {row} ran too early"
                    agent.answer([(client_id, number, attempt)])
                    done.add(row)
                    ran = True
            if not ran:
                break
        needed = set(wanted)
        for row in reversed(range(rows)):
            needed.update(dependencies[row] if row in needed else ())
        assert done == needed
        assert sorted(client.results()) == [first + row for row in wanted], f"seed {seed}"
        assert harness.seen(client)["graphs"] == []


def test_a_graph_that_nobody_needs_any_more_is_over_at_once() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    rows = 3 * STEP_ROWS
    submit_graph(client, [[], *([row] for row in range(rows - 1))], [])
    while harness.core.has_more:
        harness.settle()
    assert agent.tasks() == []
    assert harness.seen(client)["graphs"] == []


CHAIN = [[], [0], [1], [2]]


class TestOrder:
    """Rows run depth first, as they are numbered, so that few results wait for readers."""

    def most_results(self, dependencies: list[list[int]], workers: int) -> int:
        """Run a graph, one task after another, and return how many results there were at once."""
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=workers, takes_chains=False)
        client.define()
        submit_graph(client, dependencies, [len(dependencies) - 1])
        waiting = agent.tasks()
        most = 0
        while waiting:
            agent.answer([waiting.pop(0)])
            waiting += agent.tasks()
            most = max(most, sum(graph["held_results"] for graph in harness.seen(client)["graphs"]))
        assert len(client.results()) == 1
        return most

    @staticmethod
    def tree(levels: int) -> list[list[int]]:
        """Return a binary tree, each row behind those it needs."""
        rows: list[list[int]] = []

        def add(level: int) -> int:
            needs = [add(level - 1), add(level - 1)] if level else []
            rows.append(needs)
            return len(rows) - 1

        add(levels)
        return rows

    @pytest.mark.parametrize("workers", [1, 2, 8])
    def test_a_tree_has_as_many_results_as_levels_and_workers(self, workers: int) -> None:
        assert self.most_results(self.tree(7), workers) <= 7 + 2 * workers

    def test_readers_of_one_row_take_turns_with_what_else_they_lead_to(self) -> None:
        # One row with 50 readers; each of them meets a row of its own, and all meet at the end.
        rows: list[list[int]] = [[]]
        for _ in range(50):
            rows += [[0], []]
            rows.append([len(rows) - 2, len(rows) - 1, *([len(rows) - 3] if len(rows) > 3 else [])])
        assert self.most_results(rows, 1) <= 5

    def test_an_earlier_graph_goes_first(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=1, takes_chains=False)
        client.define()
        first = submit_graph(client, [[], [0], [], [2]], [1, 3])
        submit_graph(client, [[], []], [0, 1])
        assert agent.run_all() == list(range(first, first + 6))


class TestChains:
    """Rows that could run only one after another anyway go to an agent in one trip."""

    def held(self, agent: Agent) -> int:
        return int(agent.harness.seen(agent)["assigned"])

    def test_one_trip_carries_a_chain_and_says_whose_result_each_link_takes(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [3])
        (batch,) = agent.take(m.TaskBatch)
        assert list(batch.numbers) == [first, first + 1, first + 2, first + 3]
        assert list(batch.chain_ends) == [4]
        assert list(batch.input_positions) == [1, 2, 3]
        assert list(batch.input_sources) == [1, 1, 1]
        assert batch.inputs.split() == [b"", b"", b""]
        agent.answer([(client.id, number, 1) for number in batch.numbers])
        assert client.results() == {first + 3: (m.Status.SUCCESS, b"Presult")}
        assert harness.seen(client)["graphs"] == []

    def test_an_agent_that_takes_no_chains_gets_link_after_link(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", takes_chains=False)
        client.define()
        first = submit_graph(client, CHAIN, [3])
        for row in range(4):
            assert agent.tasks() == [(client.id, first + row, 1)]
            agent.answer([(client.id, first + row, 1)])
        assert list(client.results()) == [first + 3]

    def test_a_link_may_have_other_inputs_that_are_done(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2)
        client.define()
        first = submit_graph(client, [[], [], [0, 1], [2, 0]], [3])
        agent.answer([task for task in agent.tasks() if task[1] == first], payload=b"Pzero")
        # Row 1 is away already; what it sets free follows it when it is done.
        assert agent.tasks() == []
        agent.answer([(client.id, first + 1, 1)], payload=b"Pone")
        (batch,) = agent.take(m.TaskBatch)
        assert list(batch.numbers) == [first + 2, first + 3]
        assert list(batch.input_positions) == [0, 0, 1, 1]
        assert list(batch.input_sources) == [0, 0, 1, 0]
        assert batch.inputs.split() == [b"Pzero", b"Pone", b"", b"Pzero"]

    def test_rows_that_could_run_side_by_side_are_not_chained(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=100)
        client.define()
        first = submit_graph(client, [[], [0], [0], [1], [2], [3, 4]], [5])
        assert [number - first for _, number, _ in agent.tasks()] == [0]
        agent.answer([(client.id, first, 1)])
        (batch,) = agent.take(m.TaskBatch)
        # Each of the two ways is a chain of its own.
        assert [number - first for number in batch.numbers] == [1, 3, 2, 4]
        assert list(batch.chain_ends) == [2, 4]

    def test_a_tree_spreads_over_all_agents(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        agents = [Agent(harness, f"agent-{index}", capacity=8) for index in range(4)]
        client.define()
        # Sixteen leaves, added in pairs.
        dependencies: list[list[int]] = [[] for _ in range(16)]
        level = list(range(16))
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [len(dependencies) + position for position, _ in enumerate(level[::2])]
            dependencies += [list(pair) for pair in pairs]
        submit_graph(client, dependencies, [len(dependencies) - 1])
        assert [self.held(agent) for agent in agents] == [4, 4, 4, 4]

    def test_a_chain_keeps_one_worker_busy_and_leaves_the_others_to_others(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2)
        client.define()
        submit_graph(client, [[], *([row] for row in range(20))], [20])
        assert len(agent.tasks()) == 21
        alone = client.submit()
        assert [number for _, number, _ in agent.tasks()] == alone
        # Now there is something for both.
        client.submit()
        assert agent.tasks() == []

    def test_chains_are_as_long_as_the_work_in_them_is_short(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, [[], *([row] for row in range(299))], [299])
        tasks = agent.tasks()
        assert len(tasks) == 128
        agent.answer(tasks[:1], durations=[5_000])
        agent.send(m.TaskReturn(client.id, [number for _, number, _ in tasks[1:]], [1] * 127))
        # Five milliseconds each: four of them.
        assert agent.tasks() == [(client.id, first + row, 2 if row < 128 else 1) for row in range(1, 5)]

    def test_links_that_are_given_back_leave_room_for_what_is_ready(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=2)
        client.define()
        first = submit_graph(client, CHAIN, [3])
        chain = agent.tasks()
        numbers = client.submit(2)
        assert agent.tasks() == []
        agent.send(m.TaskReturn(client.id, [number for _, number, _ in chain[1:]], [1] * (len(chain) - 1)))
        # The links wait for the first one.
        assert chain[0] == (client.id, first, 1)
        assert [number for _, number, _ in agent.tasks()] == numbers[:1]

    def test_a_link_that_fails_ends_all_behind_it_with_the_same_error(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [0, 2, 3])
        tasks = agent.tasks()
        agent.answer(tasks[:1])
        agent.answer(tasks[1:2], m.Status.FAILED, b"Pboom")
        failed = (m.Status.FAILED, b"Pboom")
        assert client.results() == {first: (m.Status.SUCCESS, b"Presult"), first + 2: failed, first + 3: failed}
        assert self.held(agent) == 0
        agent.answer(tasks[2:], m.Status.SKIPPED, b"")
        assert client.results() == {}
        assert harness.count("stale_results") == 0

    def test_a_row_that_ran_too_long_names_its_function_to_all_that_needed_it(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [3])
        agent.answer(agent.tasks()[:1], m.Status.TIMED_OUT, b"too long")
        assert client.results() == {first + 3: (m.Status.TIMED_OUT, b"task %d (module.f): too long" % first)}

    def test_a_processor_that_dies_costs_the_running_link_an_attempt_and_no_other(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [3])
        for attempt in (1, 2):
            tasks = agent.tasks()
            assert tasks == [(client.id, first + row, attempt) for row in range(4)]
            agent.send(m.TaskReturn(client.id, [first + 1, first + 2, first + 3], [attempt] * 3))
            agent.answer(tasks[:1], m.Status.PROCESSOR_DIED, b"killed")
        tasks = agent.tasks()
        agent.answer(tasks[:1])
        agent.send(m.TaskReturn(client.id, [first + 2, first + 3], [3, 3]))
        agent.answer(tasks[1:2], m.Status.PROCESSOR_DIED, b"killed")
        # Row 1 died once, row 0 twice: neither is at its end.
        assert agent.tasks() == [(client.id, first + row, 4) for row in (1, 2, 3)]
        agent.answer([(client.id, first + row, 4) for row in (1, 2, 3)])
        assert list(client.results().values()) == [(m.Status.SUCCESS, b"Presult")]

    def test_a_chain_whose_agent_is_lost_goes_elsewhere_and_only_its_first_link_is_suspected(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2)
        client.define()
        first = submit_graph(client, CHAIN, [3])
        agent.answer(agent.tasks()[:1])
        harness.vanish(agent)
        other = Agent(harness, "other")
        harness.advance(61)
        assert other.tasks() == [(client.id, first + row, 2) for row in (1, 2, 3)]
        failures = [task["died_attempts"] for task in harness.seen(client)["tasks"]]
        assert sorted(failures) == [0, 0, 1]

    def test_a_chain_is_recalled_whole_and_runs_elsewhere(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=8)
        client.define()
        submit_graph(client, CHAIN, [3])
        first = submit_graph(client, CHAIN, [3])
        assert len(agent.tasks()) == 8
        other = Agent(harness, "other")
        harness.advance(3)
        (recall,) = agent.take(m.TaskRecall)
        assert recall.count == 1
        agent.send(m.TaskReturn(client.id, [first + row for row in range(4)], [1] * 4))
        assert other.tasks() == [(client.id, first + row, 2) for row in range(4)]

    def test_a_link_that_comes_back_before_its_predecessor_is_done_waits_again(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [3])
        tasks = agent.tasks()
        agent.send(m.TaskReturn(client.id, [first + 1, first + 2, first + 3], [1] * 3))
        assert [graph["waiting_again"] for graph in harness.seen(client)["graphs"]] == [3]
        assert agent.tasks() == []
        agent.answer(tasks[:1])
        assert [graph["waiting_again"] for graph in harness.seen(client)["graphs"]] == [0]
        assert agent.tasks() == [(client.id, first + row, 2) for row in (1, 2, 3)]

    def test_cancelling_a_link_ends_it_and_what_is_behind_it(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [1, 3])
        tasks = agent.tasks()
        client.send(m.TaskCancel(client.id, [first + 2]))
        (cancel,) = agent.take(m.TaskCancel)
        assert list(cancel.numbers) == [first + 2]
        agent.send(m.TaskReturn(client.id, [first + 3], [1]))
        agent.answer(tasks[2:3], m.Status.CANCELED, b"")
        assert client.results() == {first + 3: (m.Status.CANCELED, b"")}
        agent.answer(tasks[:2])
        assert list(client.results()) == [first + 1]
        assert harness.seen(client)["graphs"] == []

    def test_what_comes_back_before_the_word_that_a_link_behind_it_was_cancelled(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, [[], [0], [1], [2], [3, 1]], [4])
        tasks = agent.tasks()
        assert len(tasks) == 5
        client.send(m.TaskCancel(client.id, [first + 2]))
        # An agent returns tasks before it sends the results that it has collected.
        agent.send(m.TaskReturn(client.id, [first + 1], [1]))
        agent.answer(tasks[2:3], m.Status.CANCELED, b"")
        agent.send(m.TaskReturn(client.id, [first + 3, first + 4], [1, 1]))
        assert client.results() == {first + 4: (m.Status.CANCELED, b"")}
        agent.answer(tasks[:1])
        agent.answer(agent.tasks())
        assert harness.seen(client)["graphs"] == []

    def test_a_whole_chain_that_comes_back_cancelled_is_answered_once(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, CHAIN, [0, 3])
        tasks = agent.tasks()
        client.send(m.TaskCancel(client.id, [first]))
        agent.send(m.TaskReturn(client.id, [number for _, number, _ in tasks], [1] * 4))
        canceled = (m.Status.CANCELED, b"")
        assert client.results() == {first: canceled, first + 3: canceled}
        assert harness.seen(client)["graphs"] == []

    def test_a_client_that_is_gone_leaves_no_count_behind(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        submit_graph(client, CHAIN, [3])
        assert harness.seen(agent)["assigned_behind_others"] == 3
        client.send(m.Goodbye("done"))
        assert harness.seen(agent)["assigned_behind_others"] == 0
        assert agent.take(m.ClientGone) == [m.ClientGone(client.id)]

    def test_a_link_may_be_done_before_its_predecessor_is_stored(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        first = submit_graph(client, [[], [0]], [1])
        head, link = agent.tasks()
        agent.answer([link])
        assert list(client.results()) == [first + 1]
        big = b"b" * 16
        agent.answer([head], payload=b"O" + big, object_positions=[0], objects=(big,))
        # Its one reader is done: nobody needs it any more.
        assert harness.to_store() == [m.ObjectDelete(0, client.id, (big,))]
        assert harness.seen(client)["graphs"] == []

    def test_monitors_see_every_link_submitted_assigned_and_done(self) -> None:
        harness = Harness()
        harness.core.handle(events.Tick(monitors=1, events=True), harness.now)
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        submit_graph(client, CHAIN, [3])
        agent.answer(agent.tasks(), durations=[10, 20, 30, 40], slots=[0] * 4)
        harness.core.handle(events.Tick(monitors=1, events=True), harness.now)
        harness.settle()
        published = [effect.message for effect in harness.other_effects if isinstance(effect, effects.Publish)]
        (told,) = [message for message in published if isinstance(message, m.MonitorEvents)]
        counts = Counter(m.TaskEvent(kind) for kind in told.states)
        assert counts == {m.TaskEvent.SUBMITTED: 4, m.TaskEvent.ASSIGNED: 4, m.TaskEvent.SUCCESS: 4}
        assert [duration for duration in told.durations if duration] == [10, 20, 30, 40]


class TestFullStorage:
    """While objects run over the limit of storage, rows that free more of them than they make go first."""

    def run(self, used_bytes: int) -> list[int]:
        """Return the order of rows: 0 to 5 make objects, 6 reads two of them and 7 one, and they make none."""
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=1, takes_chains=False)
        client.send(definition(client.id, BODY, b"Pother"))
        first = client.next_number
        client.send(
            m.GraphSubmit(
                client.id,
                first,
                (content_id(BODY), content_id(b"Pother")),
                Packed.of([b"P"] * 8),
                [0, 0, 0, 0, 0, 0, 2, 1],
                [1, 2, 0],
                [3, 4, 5, 6, 7],
                function_indexes=[0] * 6 + [1] * 2,
            )
        )
        harness.core.handle(events.StoreReported(m.StoreStatus(1, 3, used_bytes, 100)), harness.now)
        order = []
        while tasks := agent.tasks():
            ((_, number, _),) = tasks
            order.append(number - first)
            if order[-1] < 6:
                name = b"%d" % number * 16
                agent.answer(tasks, payload=b"O" + name[:16], object_positions=[0], objects=(name[:16],))
            else:
                agent.answer(tasks)
        return order

    def test_rows_run_in_order_while_there_is_room(self) -> None:
        assert self.run(50) == [0, 1, 2, 3, 4, 5, 6, 7]

    def test_rows_that_free_objects_go_first_when_there_is_none(self) -> None:
        assert self.run(90) == [0, 7, 1, 2, 6, 3, 4, 5]

    def test_storage_is_asked_only_while_it_matters(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=1)
        client.define()
        submit_graph(client, [[], [0]], [1])
        harness.advance(2)
        assert effects.AskStore() not in harness.other_effects
        agent.answer(agent.tasks()[:1], payload=b"O" + b"o" * 16, object_positions=[0], objects=(b"o" * 16,))
        harness.advance(2)
        assert harness.other_effects.count(effects.AskStore()) == 1
        harness.core.handle(events.StoreReported(m.StoreStatus(1, 1, 95, 100)), harness.now)
        harness.advance(2)
        assert harness.other_effects.count(effects.AskStore()) > 2


class TestData:
    """Rows run where their large inputs are."""

    BIG = b"b" * 16

    def large(self, agent: Agent, task: tuple[bytes, int, int], name: bytes = BIG) -> None:
        agent.answer([task], payload=b"O" + name, object_positions=[0], objects=(name,))

    @pytest.mark.parametrize("large", [0, 1])
    @pytest.mark.parametrize("last", [0, 1])
    def test_a_row_follows_its_large_input(self, large: int, last: int) -> None:
        harness = Harness()
        client = Client(harness, "client")
        agents = [Agent(harness, f"agent-{index}") for index in range(2)]
        client.define()
        first = submit_graph(client, [[], [], [0, 1]], [2])
        roots = [agent.tasks()[0] for agent in agents]
        for index in (1 - last, last):
            if index == large:
                self.large(agents[index], roots[index])
            else:
                agents[index].answer([roots[index]])
        assert agents[large].tasks() == [(client.id, first + 2, 1)]

    def test_a_row_does_not_wait_for_a_busy_worker_because_of_its_inputs(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        maker = Agent(harness, "maker", capacity=4)
        client.define()
        submit_graph(client, [[], [0], [0]], [1, 2])
        (root,) = maker.tasks()
        other = Agent(harness, "other", capacity=4)
        self.large(maker, root)
        # One reader stays, the other would have to wait.
        assert (len(maker.tasks()), len(other.tasks())) == (1, 1)

    def test_a_host_that_has_read_an_object_has_it(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        maker = Agent(harness, "maker", capacity=1)
        client.define()
        submit_graph(client, [[], [0], [0]], [1, 2])
        (root,) = maker.tasks()
        other = Agent(harness, "other", capacity=1)
        self.large(maker, root)
        (graph,) = harness.seen(client)["graphs"]
        assert graph["results_held_by"] == {"maker": 1, "other": 1}
        maker.answer(maker.tasks())
        other.answer(other.tasks())
        assert harness.to_store() == [m.ObjectDelete(0, client.id, (self.BIG,))]

    def test_an_agent_that_is_gone_draws_nothing(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        maker = Agent(harness, "maker", capacity=1, takes_chains=False)
        client.define()
        submit_graph(client, [[], [0]], [1])
        self.large(maker, maker.tasks()[0])
        ((_, reader, _),) = maker.tasks()
        harness.vanish(maker)
        other = Agent(harness, "other", capacity=4)
        harness.advance(61)
        assert other.tasks() == [(client.id, reader, 2)]


def test_many_hellos_that_waited_in_the_network_start_one_session() -> None:
    harness = Harness()
    client = Client(harness, "client")
    harness.advance(1)
    for _ in range(5):
        client.connection.welcome = None
        client.connection.start(harness.now)
        harness.settle()
    # It was not given up in between: that would have ended what it owns.
    assert harness.to_store() == []
    client.define()
    client.submit()
    assert harness.count("ready") == 1
