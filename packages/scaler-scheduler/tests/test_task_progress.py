"""How far running tasks say that they are: who is told, and what monitors see."""

from __future__ import annotations

import pytest
from harness import Agent, Client, Harness
from test_jobs import follow, submit
from test_monitor import listen, of_kind

from scaler_protocol.wire import messages as m
from scaler_scheduler.core import progress


def started(capacity: int = 2) -> tuple[Harness, Client, Agent]:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=capacity)
    client.define()
    return harness, client, agent


def shown(harness: Harness) -> tuple[m.ProgressStatus, ...]:
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    return snapshot.progress


def test_the_client_is_told_and_monitors_see_it_while_the_task_runs() -> None:
    harness, client, agent = started()
    (number,) = client.submit()
    said = m.TaskProgress(client.id, number, 3.0, 10.0, "rows")
    agent.send(said)
    assert client.take(m.TaskProgress) == [said]
    (status,) = shown(harness)
    assert (status.number, status.done, status.total, status.note, status.agent) == (number, 3.0, 10.0, "rows", "agent")
    agent.run_all()
    assert shown(harness) == ()


def test_nobody_speaks_for_the_tasks_of_others() -> None:
    harness, client, agent = started()
    (number,) = client.submit()
    forger = Agent(harness, "forger", capacity=0)
    forger.send(m.TaskProgress(client.id, number, 3.0))
    agent.send(m.TaskProgress(client.id, number + 1, 3.0))
    agent.send(m.TaskProgress(b"?" * 16, number, 3.0))
    assert client.take(m.TaskProgress) == []
    assert shown(harness) == ()


def test_a_further_attempt_begins_anew() -> None:
    harness, client, agent = started()
    (number,) = client.submit()
    agent.send(m.TaskProgress(client.id, number, 3.0))
    assert len(shown(harness)) == 1
    agent.send(m.TaskReturn(client.id, [number], [1]))
    assert agent.tasks()
    assert shown(harness) == ()
    agent.send(m.TaskProgress(client.id, number, 1.0))
    assert [one.done for one in shown(harness)] == [1.0]


def test_those_that_spoke_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TASKS_MAX", 2)
    harness, client, agent = started(capacity=10)
    numbers = client.submit(3)
    for number in (*numbers, numbers[1]):
        agent.send(m.TaskProgress(client.id, number, 1.0))
    assert [one.number for one in shown(harness)] == [numbers[2], numbers[1]]


def test_of_a_task_of_a_job_all_hear_who_wait_for_it() -> None:
    harness, client, agent = started()
    (number,) = submit(client, b"P1")
    other = Client(harness, "other")
    (asked,) = follow(other, 0)
    ((job, own, _),) = agent.tasks()
    agent.send(m.TaskProgress(job, own, 4.0, 5.0, "half"))
    assert client.take(m.TaskProgress) == [m.TaskProgress(client.id, number, 4.0, 5.0, "half")]
    assert other.take(m.TaskProgress) == [m.TaskProgress(other.id, asked, 4.0, 5.0, "half")]
    assert [one.client for one in shown(harness)] == [job]
