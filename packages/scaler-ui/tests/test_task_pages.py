"""Pages of tasks are read by key: every row once, in any order, whatever arrives meanwhile."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from synthetic_cluster import ALICE, BOB, FUNCTIONS, UNIX, events, finished_tasks, snapshot

from scaler_protocol.wire.messages import TaskEvent
from scaler_ui.model import ClusterModel
from scaler_ui.model.task_pages import COLUMNS, find_tasks, read_cursor


def model_of(tasks: int = 100, waiting: int = 17) -> ClusterModel:
    model = ClusterModel()
    model.accept(snapshot(1), 0.0)
    model.accept(finished_tasks(tasks), 0.0)
    rows = [(UNIX + n, BOB, 5_000 + n, TaskEvent.SUBMITTED, "", FUNCTIONS[n % 3], 0, -1) for n in range(waiting)]
    model.accept(events(2, rows), 0.0)
    return model


def walk(model: ClusterModel, **asked: Any) -> list[tuple[str, int]]:
    seen: list[tuple[str, int]] = []
    after = ""
    while True:
        page = find_tasks(model, after=after, limit=7, **asked)
        assert page["offset"] == len(seen)
        seen += [(task["client"], task["number"]) for task in page["tasks"]]
        if page["next"] is None:
            return seen
        after = page["next"]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_every_task_is_on_one_page_in_the_order_asked_for(column: str, sign: str) -> None:
    model = model_of()
    whole = find_tasks(model, sort=sign + column, limit=1_000)["tasks"]
    assert len(whole) == 117
    assert walk(model, sort=sign + column) == [(task["client"], task["number"]) for task in whole]
    # A task whose submission was not seen stands at the first moment that was.
    if column in whole[0] and column != "submitted_at":
        values = [task[column] for task in whole]
        there = [value for value in values if value not in (None, "")]
        # Tasks that have no such value are last in both directions.
        assert values[len(there) :] == [None if column.endswith(("_seconds", "_at")) else ""] * (117 - len(there))
        assert there == sorted(there, key=lambda value: value, reverse=bool(sign))


def test_a_task_that_waits_says_how_long_so_far_and_keeps_its_place() -> None:
    model = ClusterModel()
    model.accept(snapshot(100), 0.0)
    submitted, assigned, returned = TaskEvent.SUBMITTED, TaskEvent.ASSIGNED, TaskEvent.RETURNED
    rows = [
        (UNIX + 10, BOB, 1, submitted, "", "f", 0, -1),
        (UNIX + 70, BOB, 1, assigned, "node00", "f", 0, -1),
        (UNIX + 20, BOB, 2, submitted, "", "f", 0, -1),
        (UNIX + 90, BOB, 3, submitted, "", "f", 0, -1),
        (UNIX + 91, BOB, 3, assigned, "node00", "f", 0, -1),
        (UNIX + 95, BOB, 3, returned, "node00", "f", 0, -1),
        (UNIX + 30, BOB, 4, submitted, "", "f", 0, -1),
        (UNIX + 35, BOB, 4, assigned, "node00", "f", 0, -1),
    ]
    model.accept(events(1, rows), 0.0)

    def waited() -> list[tuple[int, float]]:
        tasks = find_tasks(model, sort="-waited_seconds")["tasks"]
        return [(task["number"], task["waited_seconds"]) for task in tasks]

    assert waited() == [(2, 80.0), (3, 10.0), (1, 60.0), (4, 5.0)]
    first = find_tasks(model, sort="-waited_seconds", limit=1)
    model.accept(snapshot(200), 0.0)
    assert waited() == [(2, 180.0), (3, 110.0), (1, 60.0), (4, 5.0)]
    # A page begins where it began, however much later it is asked for.
    rest = find_tasks(model, sort="-waited_seconds", after=first["next"])["tasks"]
    assert [task["number"] for task in rest] == [3, 1, 4]


def test_pages_stay_where_they_are_while_tasks_arrive() -> None:
    model = model_of()
    first = find_tasks(model, limit=10)
    rows = [(UNIX + 60, ALICE, 90_000 + n, TaskEvent.SUBMITTED, "", FUNCTIONS[0], 0, -1) for n in range(5)]
    expected = [task["number"] for task in find_tasks(model, limit=10, offset=10)["tasks"]]
    model.accept(events(3, rows), 0.0)
    second = find_tasks(model, after=first["next"], limit=10)
    assert [task["number"] for task in second["tasks"]] == expected
    assert second["offset"] == 15
    back = find_tasks(model, before=second["previous"], limit=10)
    assert back["tasks"] == first["tasks"]
    assert back["previous"] is not None


def test_a_row_that_is_gone_still_says_where_its_page_began() -> None:
    model = model_of()
    first = find_tasks(model, limit=10)
    expected = [task["number"] for task in find_tasks(model, after=first["next"], limit=10)["tasks"]]
    model.tasks.forget([row for row in model.tasks.newest_first() if row.number == first["tasks"][-1]["number"]])
    assert [task["number"] for task in find_tasks(model, after=first["next"], limit=10)["tasks"]] == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "W10=", "[" * 2_000, "1e999", "[1,2]", '[0,"a","b"]', "[2,1,1]", "[0,null,1]", f"[0,1{'0' * 400},1]"],
)
def test_anything_else_is_no_cursor(text: str) -> None:
    assert read_cursor(text) is None
    assert read_cursor(base64.urlsafe_b64encode(text.encode()).decode()) is None


def test_the_cursor_of_another_order_begins_anew() -> None:
    model = model_of()
    cursor = find_tasks(model, sort="function", limit=10)["next"]
    assert find_tasks(model, sort="number", after=cursor, limit=10)["offset"] == 0


def test_a_label_is_a_filter() -> None:
    model = model_of()
    for row in model.tasks.newest_first():
        row.label = "night" if row.number % 2 else "day"
    found = find_tasks(model, label="night", limit=1_000)
    assert found["matching"] > 0
    assert all(task["number"] % 2 for task in found["tasks"])
