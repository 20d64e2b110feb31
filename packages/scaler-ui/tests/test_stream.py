"""What the page of the task stream gets: new bars, new names, running tasks; compared with what was told."""

from __future__ import annotations

import pytest
from synthetic_cluster import ALICE, BOB, FUNCTIONS, UNIX, events, finished_tasks, snapshot, worker

from scaler_protocol.wire.messages import TaskEvent
from scaler_ui.model import ClusterModel, stream

NEVER = 10**6


def test_every_task_that_ran_is_a_bar_once_in_however_many_parts() -> None:
    model = ClusterModel()
    told = finished_tasks(1_000, agents=3)
    model.accept(told, 0.0)
    seen, generation = 0, 0
    known: list[int] = []
    numbers: list[int] = []
    failed = 0
    functions: list[str] = []
    while True:
        part = stream.bars_after(model, seen, generation, 64, known)
        functions[part["known"][1] :] = part["functions"]
        numbers += part["columns"]["number"]
        failed += part["columns"]["state"].count(TaskEvent.FAILED)
        seen, generation = part["count"], part["generation"]
        known = [12, len(functions), 1, 1, 1, part["hosts"]]
        if not part["more"]:
            break
    assert numbers == list(told.numbers)
    assert failed == list(told.states).count(TaskEvent.FAILED)
    assert functions == list(told.function_table)
    again = stream.bars_after(model, seen, generation, 64, known)
    assert (again["columns"]["number"], again["functions"], again["lanes"]) == ([], [], [])


def test_lanes_are_told_again_when_their_hosts_become_known() -> None:
    model = ClusterModel()
    model.accept(finished_tasks(10, agents=1), 0.0)
    first = stream.bars_after(model, 0, 0, NEVER)
    assert {lane["host"] for lane in first["lanes"]} == {"node00"}
    model.accept(snapshot(1), 0.0)
    known = [len(first["lanes"]), 5, 1, 1, 1, first["hosts"]]
    second = stream.bars_after(model, first["count"], first["generation"], NEVER, known)
    assert {lane["host"] for lane in second["lanes"]} == {"node00.example.org"}
    # A host keeps its name when it has left.
    model.accept(snapshot(2, agents=0), 0.0)
    assert stream.bars_after(model, 0, 0, NEVER)["lanes"][0]["host"] == "node00.example.org"


def test_running_tasks_are_those_that_have_not_ended() -> None:
    model = ClusterModel()
    running = [(UNIX, ALICE, number, TaskEvent.ASSIGNED, "node00", FUNCTIONS[number], 0, -1) for number in range(4)]
    model.accept(events(1, running), 0.0)
    workers = tuple(worker(0, slot, task=slot, function=FUNCTIONS[slot], task_seconds=0.5) for slot in range(4))
    model.accept(snapshot(1, workers=workers), 0.0)
    assert [(task.number, task.row.client if task.row else b"") for task in stream.running_tasks(model)] == [
        (number, ALICE) for number in range(4)
    ]
    ended = [(UNIX + 1.1, ALICE, 2, TaskEvent.SUCCESS, "node00", FUNCTIONS[2], 600_000, 2)]
    model.accept(events(2, ended), 0.0)
    assert [task.number for task in stream.running_tasks(model)] == [0, 1, 3]
    data = stream.bars_after(model, 0, 0, NEVER, silent_s=0.25)
    assert data["now"] == pytest.approx(UNIX + 1.25)
    assert [(one["slot"], one["start"]) for one in data["running"]] == [(slot, UNIX + 0.5) for slot in (0, 1, 3)]


def test_a_task_that_no_event_told_of_is_shown_when_it_has_run_for_a_while() -> None:
    model = ClusterModel()
    model.accept(snapshot(1, workers=(worker(0, 0, task_seconds=0.2), worker(0, 1, task_seconds=30.0))), 0.0)
    (task,) = stream.running_tasks(model)
    assert (task.lane.slot, task.row) == (1, None)


def test_a_task_whose_processor_died_is_drawn_from_its_beginning() -> None:
    model = ClusterModel()
    rows = [
        (UNIX, ALICE, 1, TaskEvent.ASSIGNED, "node00", "one", 0, -1),
        (UNIX, BOB, 1, TaskEvent.ASSIGNED, "node00", "two", 0, -1),
        (UNIX + 2, ALICE, 1, TaskEvent.SUCCESS, "node00", "one", 1_500_000, 0),
        (UNIX + 5, BOB, 1, TaskEvent.FAILED, "node00", "two", 0, 0),
    ]
    model.accept(events(1, rows), 0.0)
    first, died = model.bars.bars()
    assert (first.start, first.duration_s) == (UNIX + 0.5, 1.5)
    # It could begin when the one before it ended.
    assert (died.start, died.duration_s, died.state) == (UNIX + 2, 3.0, TaskEvent.FAILED)


def test_running_tasks_that_are_left_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RUNNING_MAX", 3)
    model = ClusterModel()
    model.accept(snapshot(1), 0.0)
    data = stream.bars_after(model, 0, 0, NEVER)
    assert (len(data["running"]), data["running_omitted"]) == (3, 5)
