"""Tasks that have results of rows of submitted graphs as arguments."""

from __future__ import annotations

import pytest
from harness import Client, Harness
from test_core_graph_portions import portion
from test_core_graphs import submit_graph
from test_core_links import OBJECT, cluster, graphs, link, numbers

from scaler_protocol.wire import messages as m
from scaler_scheduler.core import events


@pytest.fixture
def harness() -> Harness:
    return Harness()


def graph_portions(client: Client, rows: int, size: int) -> list[m.GraphSubmit]:
    """A chain in portions, of which the last row is wanted."""
    first = client.next_number
    client.next_number += rows
    chain = [[row - 1] if row else [] for row in range(rows)]
    return [
        portion(
            client,
            chain[start : start + size],
            [size - 1] if start + size == rows else [],
            row=start,
            of=rows,
            first=first,
        )
        for start in range(0, rows, size)
    ]


def test_rows_of_a_graph_are_needed_like_any_task(harness: Harness) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], []], [1, 2])
    # One that runs, one that waits, one that is done and answered, and one that nobody else wants.
    linked = [link(client, first, first + 1), link(client, first + 2)]
    tasks = agent.tasks()
    agent.answer(tasks[-1:], payload=b"Pdone")
    assert client.results() == {first + 2: (0, b"Pdone")}
    linked.append(link(client, first + 2, first + 2))
    agent.answer(tasks[:-1])
    order = agent.run_all()
    assert set(client.results()) == {first + 1, *linked}
    assert sorted([*order, *numbers(tasks)]) == [first, first + 1, first + 2, *linked]
    assert graphs(harness, client) == []


def test_a_large_result_of_a_graph_stays_until_linked_tasks_have_read_it(harness: Harness) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], [0]], [0, 1, 2])
    (one,) = agent.tasks()
    payload = b"O" + OBJECT
    two = link(client, first)
    agent.answer([one], payload=payload, object_positions=[0], objects=(OBJECT,))
    rest = agent.tasks()
    agent.answer([task for task in rest if task[1] != two])
    rest = [task for task in rest if task[1] == two] + agent.tasks()
    assert set(client.results()) == {first + 1, first + 2}
    assert numbers(rest) == [two]
    agent.answer(rest)
    assert client.results() == {two: (0, b"Presult"), first: (0, payload)}
    assert graphs(harness, client) == []
    assert not any(isinstance(message, m.ObjectDelete) for message in harness.to_store())


def test_a_large_result_that_the_client_has_is_named_by_it(harness: Harness) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], [0]], [0, 1, 2])
    payload = b"O" + OBJECT
    agent.answer(agent.tasks(), payload=payload, object_positions=[0], objects=(OBJECT,))
    # Its object may go with the graph, which the task may outlive.
    two = link(client, first)
    asked = (m.Status.SKIPPED, first.to_bytes(8, "little"))
    assert client.results() == {first: (0, payload), two: asked}
    agent.run_all()
    assert set(client.results()) == {first + 1, first + 2}
    assert graphs(harness, client) == []


def test_a_stand_in_that_nobody_came_to_need_leaves_nothing(harness: Harness) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], [0]], [1, 2])
    agent.answer(agent.tasks(), payload=b"O" + OBJECT, object_positions=[0], objects=(OBJECT,))
    (running,) = client.submit(1)
    link(client, running)
    one = link(client, first, 999)
    assert client.results() == {one: (m.Status.SKIPPED, (999).to_bytes(8, "little"))}
    agent.run_all()
    assert graphs(harness, client) == []
    assert harness.to_store() == [m.ObjectDelete(0, client.id, (OBJECT,))]


def test_a_large_result_that_only_linked_tasks_read_is_deleted_after_them(harness: Harness) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], [0]], [1])
    tasks = agent.tasks()
    one, two = link(client, first), link(client, first)
    # One that is cancelled reads nothing.
    client.send(m.TaskCancel(client.id, [two]))
    agent.answer(tasks, payload=b"O" + OBJECT, object_positions=[0], objects=(OBJECT,))
    tasks = agent.tasks()
    agent.answer([task for task in tasks if task[1] != one])
    assert not any(isinstance(message, m.ObjectDelete) for message in harness.to_store())
    agent.answer([task for task in tasks if task[1] == one])
    assert harness.to_store() == [m.ObjectDelete(0, client.id, (OBJECT,))]
    assert {number: status for number, (status, _) in client.results().items()} == {
        one: 0,
        two: m.Status.CANCELED,
        first + 1: 0,
    }
    assert graphs(harness, client) == []


@pytest.mark.parametrize("objects", [(), (OBJECT,)])
def test_the_failure_of_a_row_ends_the_linked_tasks_that_need_it(harness: Harness, objects: tuple[bytes, ...]) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], []], [1, 2])
    tasks = agent.tasks()
    one = link(client, first + 1)
    two = link(client, one, first + 2)
    positions = [0] * len(objects)
    agent.answer(tasks[:1], m.Status.FAILED, b"Pboom", object_positions=positions, objects=objects)
    assert client.results() == dict.fromkeys((first + 1, one, two), (m.Status.FAILED, b"Pboom"))
    agent.answer(tasks[1:])
    three = link(client, first + 1)
    assert {number: status for number, (status, _) in client.results().items()} == {
        first + 2: 0,
        three: m.Status.SKIPPED,
    }
    assert graphs(harness, client) == []
    assert harness.to_store() == []


@pytest.mark.parametrize("objects", [(), (OBJECT,)])
def test_a_linked_task_may_need_several_rows_that_fail_together(harness: Harness, objects: tuple[bytes, ...]) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0], [0]], [1, 2])
    tasks = agent.tasks()
    one = link(client, first, first + 1, first + 2)
    positions = [0] * len(objects)
    agent.answer(tasks[:1], m.Status.FAILED, b"Pboom", object_positions=positions, objects=objects)
    assert client.results() == dict.fromkeys((first + 1, first + 2, one), (m.Status.FAILED, b"Pboom"))
    assert graphs(harness, client) == []


@pytest.mark.parametrize("is_running", [True, False])
def test_the_cancellation_of_a_row_cancels_the_linked_tasks_that_need_it(harness: Harness, is_running: bool) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0]], [1])
    one = link(client, first + 1)
    two = link(client, one)
    client.send(m.TaskCancel(client.id, [first + 1 - is_running]))
    for task in agent.tasks():
        agent.answer([task], m.Status.CANCELED if is_running and task[1] == first else m.Status.SUCCESS, b"")
    assert client.results() == dict.fromkeys((first + 1, one, two), (m.Status.CANCELED, b""))
    assert graphs(harness, client) == []


def test_a_graph_that_is_still_arriving_is_needed(harness: Harness) -> None:
    client, agent = cluster(harness)
    portions = graph_portions(client, 30, 10)
    first = portions[0].first_number
    client.send(portions[0])
    one, two = link(client, first + 29), link(client, first + 3)
    client.send(m.TaskCancel(client.id, [two]))
    client.send(*portions[1:])
    agent.run_all()
    assert {number: status for number, (status, _) in client.results().items()} == {
        one: 0,
        two: m.Status.CANCELED,
        first + 29: 0,
    }
    assert graphs(harness, client) == []


def test_tasks_that_need_a_graph_that_is_given_up_half_way_are_cancelled(harness: Harness) -> None:
    client, agent = cluster(harness)
    portions = graph_portions(client, 30, 10)
    client.send(portions[0])
    one = link(client, portions[0].first_number + 29, portions[0].first_number + 3)
    again = graph_portions(client, 30, 10)
    client.send(*again)
    agent.run_all()
    assert client.results()[one] == (m.Status.CANCELED, b"")
    assert graphs(harness, client) == []


def test_a_row_whose_result_is_lost_runs_again_for_linked_tasks(harness: Harness) -> None:
    client, agent = cluster(harness)
    first = submit_graph(client, [[], [0]], [1])
    tasks = agent.tasks()
    one = link(client, first)
    slow = [link(client, first) for _ in range(20)]
    agent.answer(tasks[:1], payload=b"O" + OBJECT, object_positions=[0], objects=(OBJECT,))
    began = [*tasks[1:], *agent.tasks()]
    harness.core.handle(events.ObjectsLost("host-7", (OBJECT,)), harness.now)
    harness.settle()
    # What has begun may have it, or is tried again.
    reader = next(task for task in began if task[1] == one)
    agent.answer([reader], m.Status.MISSING_OBJECT, b"gone")
    harness.to_store()
    while tasks := began:
        began = []
        agent.answer([task for task in tasks if task != reader])
        began = agent.tasks()
        again = [task for task in began if task[1] == first]
        agent.answer(
            again, payload=b"O" + b"p" * 16, object_positions=[0] * len(again), objects=(b"p" * 16,) * len(again)
        )
        began = [task for task in began if task not in again] + agent.tasks()
    assert client.results() == dict.fromkeys((first + 1, one, *slow), (0, b"Presult"))
    assert graphs(harness, client) == []
    assert harness.to_store() == [m.ObjectDelete(0, client.id, (b"p" * 16,))]


def lose(harness: Harness, *objects: bytes) -> None:
    harness.core.handle(events.ObjectsLost("host-7", objects), harness.now)
    harness.settle()


def test_a_task_whose_lost_result_is_needed_runs_again(harness: Harness) -> None:
    client, agent = cluster(harness)
    (running, one) = client.submit(2)
    held, task = agent.tasks()
    two = link(client, one, running)
    agent.answer([task], payload=b"O" + OBJECT, object_positions=[0], objects=(OBJECT,))
    lose(harness, OBJECT)
    (again,) = agent.take(m.TaskBatch)
    assert (list(again.numbers), list(again.attempts), again.payloads.split()) == ([one], [2], [b"P%d" % one])
    other = b"p" * 16
    agent.answer([held])
    agent.answer([(client.id, one, 2)], payload=b"O" + other, object_positions=[0], objects=(other,))
    assert agent.run_all() == [two]
    assert set(client.results()) == {running, one, two}
    assert graphs(harness, client) == []


def test_a_task_whose_inputs_are_gone_is_its_client_s_again_when_its_result_is_lost(harness: Harness) -> None:
    client, agent = cluster(harness)
    (running, one) = client.submit(2)
    held, task = agent.tasks()
    two = link(client, one)
    three = link(client, two, running)
    agent.answer([task], payload=b"Pone")
    agent.answer(agent.tasks(), payload=b"O" + OBJECT, object_positions=[0], objects=(OBJECT,))
    assert set(client.results()) == {one}
    lose(harness, OBJECT)
    assert client.results() == dict.fromkeys((two, three), (m.Status.SKIPPED, one.to_bytes(8, "little")))
    agent.answer([held])
    assert set(client.results()) == {running}
    assert graphs(harness, client) == []
