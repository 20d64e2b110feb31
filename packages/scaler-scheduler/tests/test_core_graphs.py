# mypy: allow-untyped-defs, allow-incomplete-defs, allow-any-generics, allow-untyped-calls
# mypy: disable-error-code="union-attr,arg-type,attr-defined"
"""Graphs: rows wait for rows, inputs travel with tasks, results live as long as somebody reads them."""

from __future__ import annotations

import random

from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol import messages as m
from scaler_protocol.columns import Packed


def submit_graph(client: Client, dependencies: list[list[int]], wanted: list[int]) -> int:
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
    assert harness.core.clients[client.id].graphs == []


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
    assert harness.core.clients[client.id].graphs == []


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


def test_a_wanted_object_goes_to_the_client_only_when_nobody_else_reads_it() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [0]], [0, 1])
    big = b"b" * 16
    agent.answer(agent.tasks(), payload=b"O" + big, object_positions=[0], objects=(big,))
    assert client.results() == {}
    agent.answer(agent.tasks())
    assert sorted(client.results()) == [first, first + 1]
    # It is the client's to delete now.
    assert harness.to_store() == []


def test_cancelling_rows_ends_what_depends_on_them() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    first = submit_graph(client, [[], [0], [1]], [2])
    client.send(m.TaskCancel(client.id, [first + 1, first + 2]))
    assert client.results() == {first + 2: (m.Status.CANCELED, b"")}
    agent.run_all()
    assert harness.core.clients[client.id].graphs == []


def test_random_graphs_run_every_row_once_after_its_dependencies() -> None:
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
        assert len(done) == rows
        assert sorted(client.results()) == [first + row for row in wanted], f"seed {seed}"
        assert harness.core.clients[client.id].graphs == []


def test_a_graph_announced_again_stops_what_agents_hold_of_it_and_never_reuses_their_attempts() -> None:
    from test_core_tasks import TestRestart

    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    first = submit_graph(client, [[], [0]], [1])
    agent.answer(agent.tasks())
    ((_, held, attempt),) = agent.tasks()
    assert held == first + 1
    TestRestart().restarted(harness)
    harness.advance(3)
    agent.send(m.Inventory(client.id, [held], [attempt], [1]))
    client.define()
    client.send(
        m.GraphSubmit(
            client.id, first, (FUNCTION,), Packed.of([b"P", b"P"]), [0, 1], [0], [1], flags=m.TaskFlag.REANNOUNCED
        )
    )
    (cancel,) = agent.take(m.TaskCancel)
    assert list(cancel.numbers) == [held]
    agent.answer([(client.id, held, attempt)], m.Status.CANCELED, b"")
    assert client.results() == {}
    assert agent.tasks() == [(client.id, first, attempt + 1)]
    agent.answer([(client.id, first, attempt + 1)])
    assert agent.tasks() == [(client.id, held, attempt + 1)]
    agent.answer([(client.id, held, attempt + 1)])
    assert list(client.results()) == [held]


def test_many_hellos_that_waited_in_the_network_start_one_session() -> None:
    harness = Harness()
    client = Client(harness, "client")
    record = harness.core.clients[client.id]
    for _ in range(5):
        client.connection.welcome = None
        client.connection._say_hello(harness.now)
        harness.settle()
    assert harness.core.clients[client.id] is record
    assert harness.to_store() == []
    client.define()
    client.submit()
    assert harness.core.ready.count == 1
