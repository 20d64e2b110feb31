"""Why each task waits, as of the last snapshot, against clusters made for each reason."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from synthetic_cluster import ALICE, BOB, FUNCTIONS, UNIX, events, snapshot, worker

from scaler_protocol.wire import messages as m
from scaler_ui.model import ClusterModel, figures, waiting
from scaler_ui.model.task_pages import find_tasks

T = m.TaskEvent
FREE = tuple(worker(0, slot, sent=0, queued=0, state=m.ProcessorState.IDLE) for slot in range(2))


def model_of(asked: tuple[str, ...] = ("",), resources: tuple[str, ...] = ("",), **fields: Any) -> ClusterModel:
    """One waiting task of alice and of bob for each of these sets of capabilities and resources."""
    model = ClusterModel()
    made = snapshot(100, groups=())
    for name, value in fields.items():
        setattr(made, name, value)
    model.accept(made, 0.0)
    ways = [(asks, amounts) for asks in range(len(asked)) for amounts in range(len(resources))]
    rows = [
        (UNIX, client, 1 + way, T.SUBMITTED, "", FUNCTIONS[0], 0, -1)
        for client in (ALICE, BOB)
        for way in range(len(ways))
    ]
    told = {
        "capability_table": asked,
        "capabilities": [asks for asks, _ in ways] * 2,
        "resource_table": resources,
        "resources": [amounts for _, amounts in ways] * 2,
    }
    model.accept(events(1, rows, **told), 0.0)
    return model


def reasons(model: ClusterModel, **asked: Any) -> list[tuple[str, str]]:
    """Kind and words of each task, in the order of their numbers."""
    rows = find_tasks(model, sort="number", **asked)["tasks"]
    return [(row["waits"]["kind"], row["waits"]["text"]) for row in rows]


def test_a_task_says_which_capability_is_missing() -> None:
    model = model_of(("gpu", "tpu,linux"), workers=FREE)
    assert reasons(model, client=ALICE) == [
        ("assigning", "about to be assigned"),
        ("capability", "no worker offers tpu"),
    ]


def test_a_task_for_one_worker_or_host_says_so() -> None:
    (known, _) = FREE
    model = model_of((f"@worker:{known.name}", "@host:far"), workers=FREE)
    assert reasons(model, client=BOB) == [
        ("place", f"only worker {known.name} may run it"),
        ("place", "no worker on host far is connected"),
    ]


def test_a_task_says_which_resources_it_waits_for() -> None:
    waits = (m.ResourceWait("licence=1", 5, True), m.ResourceWait("mem=64GiB", 1, False))
    model = model_of(resources=("licence=1", "mem=64GiB", "mem=1GiB", ""), resource_waits=waits)
    assert reasons(model, client=ALICE) == [
        ("resources", "other tasks use the resources that it asks for: licence=1"),
        ("resources", "no host offers the resources that it asks for: mem=64GiB"),
        ("busy", "for a free worker"),
        ("busy", "for a free worker"),
    ]


def test_a_task_says_that_its_group_runs_as_many_as_it_may() -> None:
    groups = (m.GroupStatus("pricing", waiting=7, running=2, max_running=2), m.GroupStatus("default", running=1))
    clients = snapshot(100).clients
    clients[0].group, clients[1].group = "pricing", "default"
    model = model_of(workers=FREE, groups=groups, clients=clients)
    assert reasons(model, client=ALICE) == [("limit", "group pricing runs 2, and may run 2")]
    assert reasons(model, client=BOB) == [("assigning", "about to be assigned")]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"workers": (), "agents": ()}, "no worker"),
        ({"agents": tuple(dataclasses.replace(one, draining=True) for one in snapshot(1).agents)}, "no worker"),
        ({"object_bytes": 98, "object_limit_bytes": 100}, "memory"),
        ({}, "busy"),
        ({"workers": FREE}, "assigning"),
    ],
)
def test_what_keeps_all_tasks_waiting_is_the_reason_of_each(fields: dict[str, Any], kind: str) -> None:
    model = model_of(("", "linux"), **fields)
    assert {one for one, _ in reasons(model)} == {kind}


def test_a_task_that_failed_by_itself_pauses_and_has_begun() -> None:
    model = ClusterModel()
    model.accept(snapshot(10, graphs=()), 0.0)
    rows = [
        (UNIX, ALICE, 1, T.SUBMITTED, "", "f", 0, -1),
        (UNIX + 1, ALICE, 1, T.ASSIGNED, "node00", "f", 0, -1),
        (UNIX + 2, ALICE, 1, T.RETURNED, "node00", "f", 30_000_000, -1),
    ]
    model.accept(events(1, rows), 0.0)
    row = model.tasks.find(ALICE, 1)
    assert row is not None
    data = figures.task_data(model, row)
    assert (data["waits"]["kind"], data["pause_seconds"], data["attempts"]) == ("pause", 22.0, 1)
    assert model.snapshot is not None
    told = {one["kind"]: one["count"] for one in waiting.waiting_reasons(model, model.snapshot)}
    assert told["pause"] == 1
    # The pause is over; nobody has said so.
    model.accept(snapshot(33), 0.0)
    data = figures.task_data(model, row)
    assert (data["waits"]["kind"], data["pause_seconds"]) == ("busy", None)
    model.accept(events(2, [(UNIX + 34, ALICE, 1, T.ASSIGNED, "node00", "f", 0, -1)]), 0.0)
    data = figures.task_data(model, row)
    assert (data["waits"], data["attempts"]) == (None, 2)


def test_calls_with_futures_as_arguments_wait_for_these_and_not_for_workers() -> None:
    clients = snapshot(100).clients
    clients[0].waiting_for_tasks, clients[1].waiting_for_tasks = 425, 3
    model = model_of(clients=clients)
    assert model.snapshot is not None
    told = {one["reason"]: one["count"] for one in waiting.waiting_reasons(model, model.snapshot)}
    # There are 120 that wait, and 420 rows of graphs are more: the counts never exceed what waits.
    assert sum(told.values()) == 120
    model.accept(snapshot(101, clients=clients, graphs=(), groups=()), 1.0)
    for client in clients:
        client.waiting_for_tasks = 20
    told = {one["reason"]: one["count"] for one in waiting.waiting_reasons(model, model.snapshot)}
    assert told["tasks whose results they need come first"] == 40
    assert find_tasks(model)["waiting_for_tasks"] == 40


def test_reasons_are_counted_and_chosen() -> None:
    waits = (m.ResourceWait("licence=1", 5, True),)
    model = model_of(("", "tpu"), ("", "licence=1"), resource_waits=waits)
    found = find_tasks(model)
    told = {kind: count for kind, count in found["reasons"].items() if count}
    assert told == {"busy": 2, "resources": 2, "capability": 4}
    for kind, count in found["reasons"].items():
        chosen = find_tasks(model, why=kind)
        assert chosen["matching"] == count
        assert {row["waits"]["kind"] for row in chosen["tasks"]} <= {kind}
        # What else could be chosen is still counted.
        assert (chosen["reasons"], chosen["states"]) == (found["reasons"], found["states"])
    assert find_tasks(model, why="busy", state="assigned")["matching"] == 0
    assert find_tasks(model, search="licence=1")["matching"] == 4


def test_before_the_first_snapshot_no_reason_is_known() -> None:
    model = ClusterModel()
    model.accept(events(1, [(UNIX, ALICE, 1, T.SUBMITTED, "", "f", 0, -1)]), 0.0)
    found = find_tasks(model)
    assert (found["tasks"][0]["waits"], sum(found["reasons"].values())) == (None, 0)
