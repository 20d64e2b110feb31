"""What the model says of load, progress, waiting tasks, functions and errors, against counts made beforehand."""

from __future__ import annotations

import dataclasses
import json
from random import Random
from typing import Any

import pytest
from synthetic_cluster import ALICE, BOB, FUNCTIONS, UNIX, events, failure_payload, failures, snapshot, worker

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.messages import TaskEvent as T
from scaler_ui.model import ClusterModel, activity, figures, waiting
from scaler_ui.model.bars import CANCELED, FAILED, SUCCESS
from scaler_ui.model.cluster import readable_name
from scaler_ui.model.error_groups import ErrorGroups, shape_of
from scaler_ui.model.failures import ErrorText, FailedTask
from scaler_ui.model.functions import OTHER, FunctionTable, Took
from scaler_ui.model.rates import ProgressTable
from scaler_ui.model.task_pages import find_tasks


def model_of(**fields: Any) -> ClusterModel:
    model = ClusterModel()
    model.accept(dataclasses.replace(snapshot(1), **fields), 1.0)
    return model


def states(unassigned: int, running: int = 0) -> tuple[m.Counter, ...]:
    return (m.Counter("unassigned", unassigned), m.Counter("running", running))


def test_running_queued_and_waiting_are_three_numbers() -> None:
    blocked = worker(0, 1, state=m.ProcessorState.BLOCKED, sent=3, queued=1)
    idle = worker(0, 2, state=m.ProcessorState.IDLE, sent=0, queued=0, function="")
    busy = worker(0, 0, sent=4, queued=3)
    model = model_of(workers=(busy, blocked, idle), task_states=states(9, 7))
    shown = figures.overview(model, 0.1, 5.0)
    # Two of the three that have begun are parents that wait for a task of their own.
    assert (shown["running"], shown["paused"], shown["queued"], shown["tasks"]["unassigned"]) == (3, 2, 4, 9)
    assert (shown["slots"], shown["busy_slots"], shown["utilisation_percent"]) == (3, 1, 33.3)
    assert shown["running"] + shown["queued"] == shown["tasks"]["running"]
    assert model.history.latest("utilisation_percent") == pytest.approx(100 / 3)
    assert figures.overview(model_of(workers=()), 0.1, 5.0)["utilisation_percent"] is None


@pytest.mark.parametrize("queued", [0, 2, 4])
def test_without_clients_inside_tasks_as_many_run_as_workers_are_busy(queued: int) -> None:
    # What was sent to workers and what is queued there were counted at different times: short tasks have come and gone between.
    workers = tuple(worker(0, slot, sent=4, queued=queued) for slot in range(2))
    alone = tuple(client for client in snapshot(1).clients if not client.nested)
    shown = figures.overview(model_of(workers=workers, clients=alone, task_states=states(9, 8)), 0.1, 5.0)
    assert (shown["running"], shown["paused"], shown["queued"]) == (2, 0, 6)


def test_throughput_is_smoothed() -> None:
    model = ClusterModel()
    for second in range(30):
        model.accept(snapshot(second, success=200 * (second // 2)), float(second))
    assert model.history.latest("success_rate") in (0.0, 200.0)
    assert activity.load(model)["throughput"] == pytest.approx(100.0)


def reasons(model: ClusterModel) -> dict[str, int]:
    assert model.snapshot is not None
    found = waiting.waiting_reasons(model, model.snapshot)
    assert all(one["what_to_do"] for one in found)
    return {str(one["kind"]): int(one["count"]) for one in found}


def test_waiting_tasks_have_reasons_that_add_up() -> None:
    assert reasons(model_of(task_states=states(0))) == {}
    assert reasons(model_of(task_states=states(50), workers=(), agents=(), graphs=(), groups=())) == {"no worker": 50}
    assert reasons(model_of(task_states=states(500, 32), groups=())) == {"graph": 420, "busy": 80}
    full = {"object_bytes": 98, "object_limit_bytes": 100}
    assert reasons(model_of(task_states=states(5), graphs=(), groups=(), **full)) == {"memory": 5}
    free = tuple(worker(0, slot, sent=0, queued=0, state=m.ProcessorState.IDLE) for slot in range(2))
    assert reasons(model_of(task_states=states(5), graphs=(), groups=(), workers=free)) == {"assigning": 5}
    leaving = tuple(dataclasses.replace(agent, draining=True) for agent in snapshot(1).agents)
    assert reasons(model_of(task_states=states(5), graphs=(), groups=(), workers=free, agents=leaving)) == {
        "no worker": 5
    }


def test_tasks_that_a_limit_of_their_group_holds_back_are_told() -> None:
    free = tuple(worker(0, slot, sent=0, queued=0, state=m.ProcessorState.IDLE) for slot in range(2))
    groups = (
        m.GroupStatus("research", waiting=7, running=2, max_running=2),
        m.GroupStatus("pricing", waiting=3, running=1, max_running=2),
        m.GroupStatus("default", waiting=1, running=5),
    )
    model = model_of(task_states=states(11), graphs=(), workers=free, groups=groups)
    assert reasons(model) == {"limit": 7, "assigning": 4}
    assert model.snapshot is not None
    first = waiting.waiting_reasons(model, model.snapshot)[0]
    assert first["reason"] == "at most 2 tasks of group research may run at once"


def test_tasks_that_wait_for_counted_resources_are_told_though_all_workers_are_busy() -> None:
    waits = (m.ResourceWait("licence=1", 12, True), m.ResourceWait("mem=64GiB", 3, False))
    model = model_of(task_states=states(20, 32), graphs=(), groups=(), resource_waits=waits)
    assert model.snapshot is not None
    found = {one["reason"]: one["count"] for one in waiting.waiting_reasons(model, model.snapshot)}
    assert found == {
        "other tasks use the resources that they ask for: licence=1": 12,
        f"all {len(model.snapshot.workers)} workers are busy": 5,
        "no host offers the resources that they ask for: mem=64GiB": 3,
    }


def test_tasks_wait_for_busy_workers_also_in_the_moment_between_two_short_tasks() -> None:
    free = tuple(worker(0, slot, sent=0, queued=0, state=m.ProcessorState.IDLE) for slot in range(2))
    model = ClusterModel()
    for second in range(10):
        at = snapshot(second)
        model.accept(at if second < 9 else dataclasses.replace(at, workers=free, graphs=(), groups=()), float(second))
    assert model.snapshot is not None
    assert reasons(model) == {"busy": 120}


def test_tasks_that_no_worker_can_run_are_told_with_what_they_ask_for() -> None:
    model = model_of(task_states=states(10), graphs=(), groups=())
    rows = [(UNIX, ALICE, number, T.SUBMITTED, "", "f", 0, -1) for number in range(6)]
    asked = {"capability_table": ("gpu", "tpu=2,linux"), "capabilities": [0, 0, 0, 1, 1, 1]}
    model.accept(events(1, rows, **asked), 1.0)
    assert reasons(model) == {"busy": 7, "capability": 3}
    assert model.snapshot is not None
    (unserved,) = (one for one in waiting.waiting_reasons(model, model.snapshot) if one["kind"] == "capability")
    assert unserved["reason"] == "no worker offers tpu"
    assert unserved["what_to_do"] == "start workers with --per-worker-capabilities tpu"


def test_tasks_for_one_worker_or_host_are_told_so() -> None:
    model = model_of(task_states=states(10), graphs=(), groups=())
    (known, *_) = snapshot(1).workers
    rows = [(UNIX, ALICE, number, T.SUBMITTED, "", "f", 0, -1) for number in range(10)]
    table = (f"@worker:{known.name}", "@worker:gone", "@host:far,linux", "@preferred-host:far", "@agent:00ff=2")
    model.accept(events(1, rows, capability_table=table, capabilities=[0, 0, 0, 0, 1, 1, 1, 2, 3, 4]), 1.0)
    assert model.snapshot is not None
    found = {one["reason"]: one["count"] for one in waiting.waiting_reasons(model, model.snapshot)}
    assert found == {
        f"only worker {known.name} may run them": 4,
        "no worker gone is connected": 3,
        "no worker on host far is connected": 1,
        "only one worker may run them": 1,
        f"all {len(snapshot(1).workers)} workers are busy": 1,
    }


def test_progress_begins_anew_after_a_pause_and_tells_the_time_left() -> None:
    table: ProgressTable[str] = ProgressTable()
    table.update(0.0, {"a": (1_000, 0)})
    for second in range(1, 61):
        table.update(float(second), {"a": (1_000 + 10 * second, 900 - 10 * second)})
    known = table.of("a")
    assert (known.done, known.left) == (600, 300)
    assert known.per_second == pytest.approx(10.0)
    assert known.seconds_left == pytest.approx(30.0)
    # A scheduler that was started again counts from 0.
    table.update(61.0, {"a": (3, 5)})
    assert (table.of("a").done, table.of("a").seconds_left) == (0, None)
    table.update(62.0, {})
    assert table.of("a").left == 0


def test_progress_of_clients_and_functions() -> None:
    model = ClusterModel()
    nested = m.ClientStatus("n", BOB, waiting=4, running=1, nested=True, parent=ALICE, parent_name="alice")
    for second in range(5):
        alice = m.ClientStatus("alice", ALICE, waiting=100 - 20 * second, running=0, finished=20 * second)
        counts = (m.Counter("f", 100 - 20 * second),) if second < 5 else ()
        model.accept(
            events(second + 1, [(UNIX + second, ALICE, n, T.SUCCESS, "node00", "f", 1000, 0) for n in range(20)]), 1.0
        )
        model.accept(snapshot(second, clients=(alice, nested), functions=counts), 1.0)
    shown = activity.progress(model)
    (client,) = shown["clients"]
    assert (client["name"], client["done"], client["left"], client["nested_tasks"]) == ("alice", 80, 20, 5)
    assert client["seconds_left"] == pytest.approx(1.0, abs=0.1)
    (function,) = shown["functions"]
    assert (function["name"], function["left"], function["per_second"]) == ("f", 20, 20.0)


def test_percentiles_of_functions_are_those_of_the_sorted_durations() -> None:
    random = Random(3)
    table = FunctionTable()
    durations = [random.lognormvariate(-3, 1.5) for _ in range(20_000)]
    for duration in durations:
        table.add("f", SUCCESS, UNIX, Took(duration, 0.25))
    table.add("f", FAILED, UNIX + 9, Took(0.1))
    table.add("f", CANCELED, UNIX + 9, Took(0.0))
    durations = sorted([*durations, 0.1])
    figures_of_f = table.find("f")
    assert figures_of_f is not None
    assert (figures_of_f.success, figures_of_f.failed, figures_of_f.canceled) == (20_000, 1, 1)
    for share in (0.5, 0.95, 0.99):
        assert figures_of_f.percentile_s(share) == pytest.approx(durations[int(share * len(durations))], rel=0.06)
    assert figures_of_f.mean_s == pytest.approx(sum(durations) / len(durations))
    assert figures_of_f.longest_s == durations[-1]
    assert figures_of_f.mean_wait_s == pytest.approx(0.25)


def test_functions_say_how_much_time_goes_into_reading_and_writing() -> None:
    table = FunctionTable()
    table.add("f", SUCCESS, UNIX, Took(2.0, read_s=1.5, write_s=0.5), 2.0)
    table.add("f", SUCCESS, UNIX, Took(4.0))
    table.add("g", SUCCESS, UNIX, Took(4.0))
    f, g = table.find("f"), table.find("g")
    assert f is not None
    assert g is not None
    assert (f.read_seconds, f.write_seconds) == (3.0, 1.0)
    assert f.overhead_share == pytest.approx(4 / 12)
    assert g.overhead_share == 0.0
    f.merge(f)
    assert (f.read_seconds, f.write_seconds) == (6.0, 2.0)
    model = model_of()
    row = (UNIX + 1, ALICE, 4, T.SUCCESS, "node00", FUNCTIONS[0], 500_000, 0)
    model.accept(dataclasses.replace(events(1, [row]), read_times=[250_000], write_times=[250_000]), 1.0)
    (shown,) = (row for row in activity.functions(model)["functions"] if row["name"] == FUNCTIONS[0])
    assert (shown["read_seconds"], shown["write_seconds"], shown["overhead_share"]) == (0.25, 0.25, 0.5)


def test_functions_are_bounded_and_counted_with_what_was_left_out() -> None:
    table = FunctionTable(limit=3)
    for number in range(10):
        table.add(f"f{number}", SUCCESS, UNIX, Took(1.0))
    assert len(table) == 4
    other = table.find(OTHER)
    assert other is not None
    assert other.ended == 7
    model = model_of()
    rows = [(UNIX + 1, ALICE, 4 * n, T.SUCCESS, "node00", FUNCTIONS[0], 500_000, 0) for n in range(10)]
    model.accept(events(1, rows, stride=4), 1.0)
    shown = {row["name"]: row for row in activity.functions(model)["functions"]}
    row = shown[FUNCTIONS[0]]
    assert (row["ended"], row["total_seconds"], row["p50_seconds"]) == (40, pytest.approx(20.0), 0.5)
    assert (row["unfinished"], row["failed_since_start"], row["failed_share"]) == (100, 3, 0.0)
    # Workers run it now.
    assert row["running"] == 1
    assert row["memory_bytes"] == max(w.rss_bytes for w in snapshot(1).workers if w.function == FUNCTIONS[0])
    assert json.dumps(activity.functions(model))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no such instrument: 'XYZ'", "no such instrument: 'ABC'"),
        ("row 17 of 2,000 is wrong", "row 3 of 9 is wrong"),
        ("<Thing object at 0x7f3a10>", "<Thing object at 0x55ee90>"),
        ("cannot open /tmp/run/a.csv", "cannot open /var/data/b.csv"),
        ("job 123e4567-e89b-12d3-a456-426614174000 failed", "job 00000000-e89b-12d3-a456-426614174fff failed"),
        ("x = -1.5e-7", "x = 2"),
        ("no price at 0.01519490552314173", "no price at 0.6806"),
        ("object 0123456789abcdef0123 is lost", "object 00ffee00ffee00ffee is lost"),
        ("first line\ndetails", "first line\nothers"),
    ],
)
def test_messages_that_differ_in_details_have_one_shape(one: str, other: str) -> None:
    assert shape_of(one) == shape_of(other)


def test_other_messages_have_other_shapes() -> None:
    assert shape_of("division by zero") != shape_of("list index out of range")
    assert shape_of("'" * 5_000) == shape_of("'" * 5_000)
    assert len(shape_of("x" * 5_000)) <= 300


def test_functions_of_the_last_minutes() -> None:
    model = model_of()
    rows = [
        (UNIX + at, ALICE, number, T.SUCCESS, "node00", function, 500_000, 0)
        for number, (at, function) in enumerate(((60, "early"), (900, "early"), (900, "late"), (1_900, "late")))
    ]
    model.accept(events(1, rows), 1.0)
    model.accept(snapshot(1_930, functions=(), failed_functions=(m.Counter("old", 3),), workers=()), 1.0)

    def ended(seconds: int) -> dict[str, int]:
        return {row["name"]: row["ended"] for row in activity.functions(model, seconds)["functions"]}

    assert ended(60) == {"late": 1}
    assert ended(900) == {"late": 1}
    assert ended(1_800) == {"early": 1, "late": 2}
    assert ended(3_600) == {"early": 2, "late": 2}
    assert ended(0) == {"early": 2, "late": 2, "old": 0}
    since = activity.functions(model, 60)["since"]
    assert UNIX + 1_860 <= since <= UNIX + 1_870
    # Nothing is known of before.
    assert activity.functions(model, 3_600)["since"] == activity.functions(model)["since"] == model.since


def failure(number: int, text: str, *, at: float = UNIX, kind: str = "ValueError", function: str = "f") -> FailedTask:
    return FailedTask(number, at, ALICE, number, 1, "failed", function, "node00", 0.1, ErrorText(kind, text))


def test_errors_come_in_groups_with_count_first_last_and_trend() -> None:
    groups = ErrorGroups(limit=3)
    for number in range(90):
        groups.add(failure(number, f"bad row {number}", at=UNIX + 60 * number))
    groups.add(failure(100, "bad row 1", kind="KeyError"))
    groups.add(failure(101, "bad row 1", function="g"))
    by_key = {(group.kind, group.function): group for group in groups.newest_first()}
    assert len(by_key) == 3
    first = by_key["ValueError", "f"]
    assert (first.count, first.first_at, first.last_at) == (90, UNIX, UNIX + 60 * 89)
    assert first.trend(UNIX + 60 * 89) == [1] * 60
    assert sum(first.trend(UNIX + 60 * 99)) == 50
    assert first.trend(UNIX + 60 * 89, 60) == [0, 0, 0, 0, 0, 1]
    assert sum(first.trend(UNIX + 60 * 89, 300)) == 5
    assert len(first.trend(UNIX + 60 * 89, 900)) == 45
    assert sum(first.trend(UNIX + 60 * 89, 900)) == 15
    assert first.last is not None
    assert first.last.error.text == "bad row 89"
    groups.add(failure(102, "something else"))
    assert [group.kind for group in groups.newest_first()] == ["ValueError", "ValueError", "KeyError"]
    assert groups.number_of(failure(1, "bad row 5")) is None


def test_errors_of_the_last_minutes() -> None:
    model = ClusterModel()
    payloads = [failure_payload(kind, "bad") for kind in ("ValueError", "KeyError", "KeyError")]
    made = failures(1, 3, payloads=Packed.of(payloads), time_seconds=[UNIX, UNIX + 10, UNIX + 500])
    model.accept(made, 1.0)
    model.accept(snapshot(530), 1.0)

    def found(seconds: int) -> list[tuple[str, int, int]]:
        groups = activity.error_groups(model, seconds=seconds)["groups"]
        return [(group["kind"], group["recent"], group["count"]) for group in groups]

    assert found(60) == [("KeyError", 1, 2)]
    assert found(900) == found(0) == [("KeyError", 2, 2), ("ValueError", 1, 1)]


def test_error_groups_are_searched_and_lead_to_their_failures() -> None:
    model = model_of()
    payloads = [failure_payload("ValueError", f"row {n} is bad") for n in range(3)] + [
        failure_payload("KeyError", "'k'")
    ]
    model.accept(failures(1, 4, payloads=Packed.of(payloads)), 1.0)
    # Another monitor has connected: the scheduler tells all again.
    model.accept(failures(1, 4, payloads=Packed.of(payloads)), 1.0)
    shown = activity.error_groups(model)
    assert [(row["kind"], row["count"], row["text"]) for row in shown["groups"]] == [
        ("KeyError", 1, "'k'"),
        ("ValueError", 3, "row 2 is bad"),
    ]
    assert [row["kind"] for row in activity.error_groups(model, search="value pricing")["groups"]] == ["ValueError"]
    number = shown["groups"][1]["group"]
    assert [one.task for one in activity.failures_of_group(model, number)] == [903, 902, 901]
    assert figures.failures(model)[0]["group"] == shown["groups"][0]["group"]
    assert json.dumps(shown)


def test_of_error_groups_what_has_changed_is_asked_for() -> None:
    model = model_of()
    texts = [f"case {'abcdefghij'[n // 100]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n % 10]} " for n in range(1000)]
    payloads = Packed.of([failure_payload("ValueError", text + "x" * 200) for text in texts])
    model.accept(failures(1, 1000, payloads=payloads), 1.0)
    first = activity.error_groups(model, limit=500)
    assert first["whole"]
    model.accept(failures(1001, 3, payloads=Packed.of([failure_payload("KeyError", "'k'")] * 3)), 2.0)
    then = activity.error_groups(model, limit=500, seen=first["changes"])
    assert not then["whole"]
    assert [(row["kind"], row["count"]) for row in then["groups"]] == [("KeyError", 3)]
    # What each second asks for while tasks fail: thousands of bytes instead of hundreds of thousands.
    assert len(json.dumps(then)) < 1_000 < 200_000 < len(json.dumps(first))
    assert activity.error_groups(model, seen=then["changes"])["groups"] == []
    # The monitor was started anew, and has counted fewer.
    assert activity.error_groups(model, seen=then["changes"] + 1)["whole"]


def test_tasks_are_filtered_and_paged() -> None:
    model = model_of()
    rows = [(UNIX, ALICE if n % 2 else BOB, n, T.SUBMITTED, "", f"f{n % 3}", 0, -1) for n in range(30)]
    model.accept(events(1, rows), 1.0)
    model.accept(events(2, [(UNIX + 1, ALICE, 1, T.RETURNED, "node00", "f1", 0, -1)]), 1.0)
    found = find_tasks(model, function="f1", client=ALICE)
    assert {task["number"] for task in found["tasks"]} == {1, 7, 13, 19, 25}
    # What came back before it began waits like the others.
    assert find_tasks(model, state="submitted")["matching"] == 30
    pages = [find_tasks(model, offset=offset, limit=12)["tasks"] for offset in (0, 12, 24)]
    assert [len(page) for page in pages] == [12, 12, 6]
    assert len({task["number"] for page in pages for task in page}) == 30


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("client|vm|31514", "vm (pid 31514)"),
        ("nested|vm|7", "vm (pid 7, nested)"),
        ("pricing", "pricing"),
        ("client|x", "client|x"),
    ],
)
def test_names_that_clients_make_up_are_shown_for_people(name: str, shown: str) -> None:
    assert readable_name(name) == shown
