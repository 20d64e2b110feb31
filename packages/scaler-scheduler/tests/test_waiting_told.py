"""What monitors are told of single tasks that wait: what they ask for, and how long they pause after an error of their own."""

from __future__ import annotations

import pytest
from harness import Agent, Client, Harness
from test_core_links import link
from test_core_options import asking, chain
from test_monitor import listen, of_kind
from test_resource_rules import asking as asking_for

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import Retries


def told(harness: Harness) -> dict[int, list[tuple[m.TaskEvent, str, int]]]:
    """By number: state, resources and microseconds of each event since the last call."""
    found: dict[int, list[tuple[m.TaskEvent, str, int]]] = {}
    for one in of_kind(listen(harness), m.MonitorEvents):
        for row, number in enumerate(one.numbers):
            resources = one.resource_table[one.resources[row]] if len(one.resources) else ""
            found.setdefault(number, []).append((m.TaskEvent(one.states[row]), resources, one.durations[row]))
    return found


def test_events_say_what_submitted_tasks_ask_for() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    listen(harness)
    (licence,) = client.submit(options=asking_for("licence=1"))
    both = client.submit(2, options=asking_for("mem=8GiB,licence=0.5"))
    (plain,) = client.submit()
    heard = told(harness)
    assert heard[licence] == [(m.TaskEvent.SUBMITTED, "licence=1", 0)]
    assert heard[both[0]] == heard[both[1]] == [(m.TaskEvent.SUBMITTED, "licence=0.5,mem=8GiB", 0)]
    assert heard[plain] == [(m.TaskEvent.SUBMITTED, "", 0)]
    # Where none asks for anything, nothing more is sent.
    client.submit()
    (message,) = of_kind(listen(harness), m.MonitorEvents)
    assert (len(message.resources), message.resource_table) == (0, ())


def test_events_say_how_long_a_task_pauses_that_failed_by_itself() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2)
    client.define()
    (patient,) = client.submit(options=asking(retries=Retries(2, wait_seconds=30.0, backoff=2.0)))
    (hasty,) = client.submit(options=asking(retries=1))
    tasks = agent.tasks()
    listen(harness)
    agent.answer(tasks, m.Status.RETRY)
    heard = told(harness)
    assert heard[patient] == [(m.TaskEvent.RETURNED, "", 30_000_000)]
    # It does not wait, but has begun: those that have not are told with 0.
    assert heard[hasty][0] == (m.TaskEvent.RETURNED, "", 1)
    # A pause is no use of a worker.
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert snapshot.clients[0].used_seconds == pytest.approx(0.0, abs=1e-3)


def test_tasks_that_came_back_before_they_began_do_not_pause() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=2)
    client.define()
    (number,) = client.submit()
    ((_, _, attempt),) = agent.tasks()
    listen(harness)
    agent.send(m.TaskReturn(client.id, [number], [attempt]))
    assert told(harness)[number][0] == (m.TaskEvent.RETURNED, "", 0)


def test_tasks_that_wait_for_the_results_of_others_are_counted() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    chain(client, 5)
    (needed,) = client.submit()
    link(client, needed)
    client.submit(3)
    (before,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert (before.clients[0].waiting_for_tasks, before.graphs[0].waiting) == (5, 4)
    Agent(harness, "agent", workers=2).run_all()
    (after,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert after.clients[0].waiting_for_tasks == after.clients[0].waiting == 0
