"""What monitors are told of tasks that wait for counted resources."""

from __future__ import annotations

import pytest
from harness import Client, Harness
from test_monitor import listen, of_kind
from test_resource_rules import HostAgent, asking

from scaler_protocol.wire import messages as m
from scaler_scheduler.core import resource_waits
from scaler_scheduler.group_shares import parse_shares


def waits(harness: Harness) -> dict[tuple[str, bool], int]:
    harness.advance(2)
    snapshot = of_kind(listen(harness), m.MonitorSnapshot)[-1]
    return {(one.resources, one.offered): one.count for one in snapshot.resource_waits}


def test_tasks_that_wait_for_what_others_use_are_told_from_those_that_nobody_could_serve() -> None:
    harness = Harness()
    agent = HostAgent(harness, "a", "licence=1,disk=4", workers=2)
    client = Client(harness, "client")
    client.define()
    client.submit(3, options=asking("licence=1"))
    client.submit(2, options=asking("licence=5"))
    held = agent.tasks()
    assert len(held) == 1
    # The workers get no further work of other tasks, and are not to be confused with what is in use.
    client.submit(20)
    assert waits(harness) == {("licence=1", True): 2, ("licence=5", False): 2}
    agent.answer(held)
    agent.answer(agent.tasks())
    agent.run_all()
    assert waits(harness) == {("licence=5", False): 2}


def test_tasks_that_wait_for_a_worker_are_not_among_them() -> None:
    harness = Harness()
    agent = HostAgent(harness, "a", "licence=9", workers=2)
    client = Client(harness, "client")
    client.define()
    client.submit(5, options=asking("licence=1"))
    assert len(agent.tasks()) == 2
    assert waits(harness) == {}


def test_tasks_that_wait_for_capabilities_or_for_their_group_are_not_among_them() -> None:
    harness = Harness(shares=parse_shares(["pricing=3:max_running=1"]))
    agent = HostAgent(harness, "a", "licence=1")
    client = Client(harness, "client", group="pricing")
    client.define()
    client.submit(4, options=asking("licence=1"))
    client.submit(2, options=asking("licence=1"), capabilities=(("fpga", -1),))
    assert len(agent.tasks()) == 1
    assert waits(harness) == {}


def test_a_limit_of_the_cluster_is_told() -> None:
    harness = Harness(resources="seat=1")
    agent = HostAgent(harness, "a", "licence=9")
    client = Client(harness, "client")
    client.define()
    client.submit(3, options=asking("seat=1"))
    harness.advance(2)
    assert len(agent.tasks()) == 1
    assert waits(harness) == {("seat=1", True): 2}


def test_a_snapshot_looks_at_a_bounded_number_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_waits, "LINES_LOOKED", 5)
    harness = Harness()
    HostAgent(harness, "a", "licence=1")
    client = Client(harness, "client")
    client.define()
    for number in range(2, 12):
        client.submit(1, options=asking(f"licence={number}"))
    assert sum(waits(harness).values()) == 5


@pytest.mark.parametrize("limit", ["of the cluster", "of a group"])
def test_what_a_limit_lets_run_runs_at_once_when_a_task_ends_with_its_agent(limit: str) -> None:
    """No other event may come for hours, as nothing else runs."""
    if limit == "of a group":
        harness = Harness(shares=parse_shares(["pricing=3:max_running=1"]))
    else:
        harness = Harness(resources="licence=1")
    client = Client(harness, "client", group="pricing" if limit == "of a group" else "")
    client.define()
    first = HostAgent(harness, "first", "cores=2")
    amounts = "" if limit == "of a group" else "licence=1"
    (lost,) = client.submit(options=asking(amounts, idempotent=False))
    harness.advance(2)
    assert [number for _, number, _ in first.tasks()] == [lost]
    second = HostAgent(harness, "second", "cores=2")
    (waiting,) = client.submit(options=asking(amounts))
    harness.advance(2)
    assert second.tasks() == []
    harness.vanish(first)
    harness.advance(120)
    assert client.results()[lost][0] == m.Status.WORKER_DIED
    assert [number for _, number, _ in second.tasks()] == [waiting]
