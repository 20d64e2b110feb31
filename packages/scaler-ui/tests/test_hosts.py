"""Workers by host: their last ten minutes, and what is said of those with which something is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic_cluster import ALICE, FUNCTIONS, UNIX, events, snapshot

from scaler_protocol.wire.messages import ProcessorState, TaskEvent
from scaler_ui.model import ClusterModel
from scaler_ui.model.hosts import hosts
from scaler_ui.model.worker_history import SPANS_KEPT


def told(model: ClusterModel) -> dict[str, list[str]]:
    return {host["name"].partition(".")[0]: host["reasons"] for host in hosts(model)["hosts"]}


def test_the_last_ten_minutes_are_kept_and_no_more() -> None:
    model = ClusterModel()
    for second in range(1, 1_001):
        made = snapshot(second, agents=1, slots=2)
        made.workers[0].state = ProcessorState.RUNNING if second % 2 else ProcessorState.IDLE
        made.workers[1].state = ProcessorState.IDLE
        made.workers[1].rss_bytes = second
        model.accept(made, float(second))
    (host,) = hosts(model, {"node00.example.org"})["hosts"]
    first, second_worker = host["members"]
    assert len(first["busy"]) == len(host["busy"]) == SPANS_KEPT
    assert set(first["busy"][:-1]) == {50}
    assert set(second_worker["busy"]) == {0}
    assert set(host["busy"][:-1]) == {25}
    assert second_worker["memory"][-1] == 1_000
    assert second_worker["memory"][-2] == 999 or second_worker["memory"][-2] % 10 == 9
    # Workers that are gone are forgotten.
    model.accept(snapshot(1_001, agents=1, slots=1), 1_001.0)
    assert len(model.worker_history) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"last_seen_seconds": 11.0}, "nothing was heard of it for 11 s"),
        ({"rss_bytes": 950}, "it has 95 % of the memory"),
        ({}, ""),
    ],
    ids=["late", "near its limit", "well"],
)
def test_a_sick_worker_says_why(change: dict[str, Any], reason: str) -> None:
    model = ClusterModel()
    made = snapshot(1, agents=2, slots=2)
    for worker in made.workers:
        worker.rss_bytes = 500
    for agent in made.agents:
        agent.processor_limit_bytes = 1_000
    for name, value in change.items():
        setattr(made.workers[1], name, value)
    model.accept(made, 1.0)
    found = told(model)
    assert found["node01"] == []
    assert ([one for one in found["node00"] if reason in one and one.startswith("node00-1: ")] != []) == bool(reason)
    assert bool(found["node00"]) == bool(reason)


def test_processes_that_die_again_and_again() -> None:
    model = ClusterModel()
    for second in range(1, 5):
        made = snapshot(second, agents=1)
        made.workers[2].pid = second
        model.accept(made, float(second))
    assert told(model)["node00"] == ["node00-2: its process was replaced 3 times in 10 minutes: it died, or was ended"]
    # A worker that is starting has no process: that is no death.
    for second, pid in ((5, 0), (6, 4), (7, 0), (8, 4)):
        made = snapshot(second, agents=1)
        made.workers[2].pid = pid
        model.accept(made, float(second))
    assert "replaced 3 times" in told(model)["node00"][0]
    # After ten minutes nobody needs to know.
    made = snapshot(1_000, agents=1)
    made.workers[2].pid = 4
    model.accept(made, 1_000.0)
    assert told(model)["node00"] == []


def test_a_worker_that_ends_far_fewer_tasks_than_its_neighbours() -> None:
    model = ClusterModel()
    model.accept(snapshot(1, agents=1), 1.0)
    for second in range(2, 120):
        rows = [
            (UNIX + second, ALICE, second * 10 + slot, TaskEvent.SUCCESS, "node00", FUNCTIONS[0], 9, slot)
            for slot in range(4)
            if slot or second % 10 == 0
        ]
        model.accept(events(second, rows), float(second))
        model.accept(snapshot(second, agents=1), float(second))
    (reason,) = told(model)["node00"]
    assert reason.startswith("node00-0: it ends ")
    assert "others like it" in reason


def test_a_part_of_the_past() -> None:
    model = ClusterModel()
    for second in range(1, 121):
        model.accept(snapshot(second, agents=1), float(second))
        row = (UNIX + second, ALICE, second, TaskEvent.SUCCESS, "node00", FUNCTIONS[0], 9, 0)
        model.accept(events(second, [row]), float(second))
    whole, minute = hosts(model, {"node00.example.org"}), hosts(model, {"node00.example.org"}, 60)
    assert (whole["spans"], minute["spans"]) == (60, 6)
    assert whole["kept_spans"] == minute["kept_spans"] == 13
    assert whole["hosts"][0]["busy"] == [100] * 13
    assert minute["hosts"][0]["busy"] == [100] * 6
    member = minute["hosts"][0]["members"][0]
    assert len(member["memory"]) == 6
    assert whole["hosts"][0]["members"][0]["ended"] == 120
    assert 50 <= member["ended"] <= 60


def test_a_host_tells_what_it_has() -> None:
    model = ClusterModel()
    made = snapshot(1, agents=2)
    for agent in made.agents:
        agent.hostname = "one"
    for worker in made.workers:
        worker.hostname = "one"
    made.agents[0].devices, made.agents[1].devices = ("GPU-a",), ("GPU-b",)
    made.agents[0].software_version, made.agents[1].software_version = "0.1.0", "0.2.0"
    made.agents[0].memory_bytes = 1024**4
    made.agents[0].rss_free_bytes = 1024
    model.accept(made, 1.0)
    (host,) = hosts(model)["hosts"]
    assert host["workers"] == host["running"] == 8
    assert host["devices"] == ["GPU-a", "GPU-b"]
    assert host["resources"] == "cores=4,gpu=2,mem=64GiB · cores=4,gpu=2,mem=64GiB"
    assert host["members"] is None
    assert host["rss_bytes"] == sum(worker.rss_bytes for worker in made.workers)
    assert host["reasons"] == [
        "0.0 % of its memory is free: soon it ends processes",
        "its agents have different versions",
    ]
