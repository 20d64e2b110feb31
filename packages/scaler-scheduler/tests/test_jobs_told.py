"""What monitors, owners and followers are told of jobs."""

from __future__ import annotations

import pytest
from harness import Agent, Client, Harness
from test_jobs import ask, follow, started, status, submit
from test_monitor import listen, of_kind

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.jobs import listing


def told(harness: Harness) -> m.MonitorSnapshot:
    return of_kind(listen(harness), m.MonitorSnapshot)[-1]


def test_monitors_see_jobs_until_they_are_forgotten() -> None:
    harness, client, agent = started()
    assert told(harness).jobs == ()
    ask(client, "open", keep=60.0)
    submit(client, b"P1", b"P2", b"P3")
    (job,) = told(harness).jobs
    assert (job.name, job.owner, job.closed, job.expires_seconds) == ("job", "client", False, -1.0)
    assert job.waiting + job.running == 3
    agent.run_all()
    ask(client, "close")
    (job,) = told(harness).jobs
    assert (job.done, job.waiting, job.running, job.closed) == (3, 0, 0, True)
    assert job.size_bytes > 1200
    assert job.expires_seconds > job.started_seconds
    ask(client, "forget")
    assert told(harness).jobs == ()


def test_those_that_changed_last_are_told_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "JOBS_MAX", 2)
    harness, client, _ = started()
    for number in range(4):
        harness.now += 1
        ask(client, "open", f"job {number}")
    harness.now += 1
    submit(client, b"P1", name="job 1")
    snapshot = told(harness)
    assert ([job.name for job in snapshot.jobs], snapshot.job_count) == (["job 1", "job 3"], 4)


def test_why_tasks_cannot_run_is_known_as_long_as_they_wait() -> None:
    harness, client, _ = started(unservable_grace_seconds=1.0)
    (number,) = submit(client, b"P1", capabilities=(("gpu", -1),))
    other = Client(harness, "other")
    (asked,) = follow(other, 0)
    for _ in range(6):
        told(harness)
    assert "gpu" in status(client)["notice"]
    assert "gpu" in told(harness).jobs[0].notice
    assert [(list(one.numbers), one.kind) for one in client.take(m.Notice)] == [([number], "unservable")]
    assert [list(one.numbers) for one in other.take(m.Notice)] == [[asked]]
    late = Agent(harness, "late", capabilities=(("gpu", -1),))
    assert late.tasks()
    assert status(client)["notice"] == ""
    assert told(harness).jobs[0].notice == ""
