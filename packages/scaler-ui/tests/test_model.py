"""The view model: fed with messages, looked at as a page would."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections import Counter

import pytest
from synthetic_cluster import (
    ALICE,
    BOB,
    FUNCTIONS,
    UNIX,
    events,
    failure_payload,
    failures,
    finished_tasks,
    log,
    snapshot,
    worker,
)

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import TaskEvent as T
from scaler_ui.model import ClusterModel, Limits, figures, stream
from scaler_ui.model.bars import Bar, BarStore, Lane
from scaler_ui.model.chrome_trace import chrome_trace
from scaler_ui.model.failures import IN_STORAGE, NOT_KEPT, UNREADABLE, read_error
from scaler_ui.model.metrics import render_metrics
from scaler_ui.model.names import NameTable
from scaler_ui.model.task_pages import find_tasks
from scaler_ui.model.tasks import FINISHED

SMALL = Limits(samples=20, tasks=50, bars=64, failures=5, log_lines=10)


def test_nothing_is_known_at_first_and_everything_can_be_asked() -> None:
    model = ClusterModel()
    assert figures.overview(model, 3.0, 5.0)["connection"] == "waiting"
    assert json.dumps(figures.whole(model, 3.0, 5.0))
    assert find_tasks(model)["tasks"] == []
    assert stream.bars_after(model, 0, 0, 100)["count"] == 0
    assert json.loads("".join(chrome_trace(model)))["traceEvents"] == []
    assert b"scaler_monitor_silence_seconds 3.0" in render_metrics(model, 3.0)


def test_figures_are_those_of_the_snapshot() -> None:
    model = ClusterModel()
    model.accept(snapshot(1, success=1_000), 50.0)
    model.accept(snapshot(3, success=1_500), 52.0)
    shown = figures.overview(model, 0.1, 5.0)
    assert shown["connection"] == "live"
    assert shown["tasks"] == {"unassigned": 120, "running": 32, "success": 1_500, "failed": 3, "canceled": 7}
    assert shown["success_rate"] == 250
    assert (shown["workers"], shown["worker_states"], shown["agents"], shown["clients"]) == (8, {"running": 8}, 2, 2)
    assert shown["missed_messages"] == 1
    assert figures.overview(model, 9.0, 5.0)["connection"] == "silent"


def test_workers_of_one_name_are_told_apart_by_their_agents() -> None:
    workers = [worker(agent, slot, name=f"desk-{slot}") for agent in (0, 1) for slot in (0, 1)]
    workers.append(worker(1, 2, name="desk-2"))
    model = ClusterModel()
    model.accept(snapshot(1, workers=tuple(workers)), 50.0)
    assert model.worker_name(Lane("node00", 1)) == "desk-1 (node00)"
    assert model.worker_name(Lane("node01", 1)) == "desk-1 (node01)"
    assert model.worker_name(Lane("node01", 2)) == "desk-2"


def test_history_is_bounded_and_continues_where_a_reader_was() -> None:
    model = ClusterModel(SMALL)
    for second in range(1, 101):
        model.accept(snapshot(second, success=10 * second), float(second))
    everything = figures.history_after(model, 0)
    assert everything["count"] == 100
    assert 20 <= len(everything["time"]) <= 23
    assert everything["time"][-1] == UNIX + 100
    assert set(everything["series"]["success_rate"][1:]) == {10.0}
    assert [figures.history_after(model, 98)["time"], figures.history_after(model, 100)["time"]] == [
        [UNIX + 99, UNIX + 100],
        [],
    ]


def test_a_scheduler_that_was_started_again_counts_from_zero_without_a_dip() -> None:
    model = ClusterModel()
    model.accept(snapshot(1, success=1_000), 1.0)
    model.accept(events(1, [(UNIX, ALICE, 1, T.ASSIGNED, "node00", "f", 0, -1)]), 1.0)
    model.accept(events(2, [(UNIX, ALICE, 2, T.SUCCESS, "node00", "f", 9, 0)]), 1.0)
    model.accept(snapshot(1, success=5, incarnation=b"2" * 16), 9.0)
    assert model.restarts == 1
    assert model.missed_messages == 0
    assert model.history.latest("success_rate") == 0
    assert [task["number"] for task in find_tasks(model)["tasks"]] == [2]


def test_the_life_of_a_task() -> None:
    model = ClusterModel()
    model.accept(snapshot(1), 1.0)
    model.accept(
        events(1, [(UNIX + 1, ALICE, 7, T.SUBMITTED, "", "m.f", 0, -1)], capability_table=("gpu",), capabilities=[0]), 1
    )
    (task,) = find_tasks(model)["tasks"]
    assert (task["state"], task["function"], task["capabilities"], task["client_name"]) == (
        "submitted",
        "m.f",
        "gpu",
        "alice",
    )
    model.accept(events(2, [(UNIX + 2, ALICE, 7, T.ASSIGNED, "node00", "m.f", 0, -1)]), 2)
    model.accept(events(3, [(UNIX + 3, ALICE, 7, T.RETURNED, "node00", "m.f", 0, -1)]), 3)
    model.accept(events(4, [(UNIX + 4, ALICE, 7, T.ASSIGNED, "node01", "m.f", 0, -1)]), 4)
    model.accept(events(5, [(UNIX + 6, ALICE, 7, T.SUCCESS, "node01", "m.f", 1_500_000, 2)]), 6)
    (task,) = find_tasks(model)["tasks"]
    assert (task["state"], task["agent"], task["slot"], task["attempts"]) == ("success", "node01", 2, 1)
    assert (task["waited_seconds"], task["duration_seconds"]) == (3.0, 1.5)
    (bar,) = model.bars.bars()
    assert bar == Bar(UNIX + 4.5, 1.5, Lane("node01", 2), "m.f", "gpu", ALICE, 7, 2)


def test_tasks_answered_in_one_batch_ran_one_after_another_on_their_worker() -> None:
    model = ClusterModel()
    rows = [(UNIX + 10, ALICE, number, T.SUCCESS, "node00", "f", 1_000_000, number % 2) for number in range(4)]
    model.accept(events(1, rows), 1.0)
    assert {bar.number: bar.start - UNIX for bar in model.bars.bars()} == {0: 8, 1: 8, 2: 9, 3: 9}


def test_tasks_of_a_client_that_left_are_cancelled() -> None:
    model = ClusterModel()
    model.accept(snapshot(1), 1.0)
    model.accept(
        events(1, [(UNIX, BOB, 1, T.SUBMITTED, "", "f", 0, -1), (UNIX, ALICE, 1, T.SUBMITTED, "", "f", 0, -1)]), 1
    )
    model.accept(snapshot(2, clients=(m.ClientStatus("alice", ALICE),)), 2.0)
    states = {task["client_name"]: task["state"] for task in find_tasks(model)["tasks"]}
    assert states == {"alice": "submitted", "bob": "canceled"}


def test_tasks_whose_end_will_not_be_told_are_not_shown_as_unfinished() -> None:
    model = ClusterModel()
    model.accept(events(1, [(UNIX, ALICE, n, T.SUBMITTED, "", "f", 0, -1) for n in range(8)]), 1)
    model.accept(events(2, [], stride=4, dropped=30), 2)
    assert sorted(task["number"] for task in find_tasks(model)["tasks"]) == [0, 4]
    assert (model.omitted_events, model.stride) == (30, 4)


def test_search_finds_words_in_any_field() -> None:
    model = ClusterModel()
    model.accept(snapshot(1), 1.0)
    model.accept(finished_tasks(300), 1.0)
    found = find_tasks(model, search="PRICING node01 alice", order="longest", limit=10)
    assert 0 < found["matching"] < 300
    assert all(t["function"] == "pricing.simulate" and t["agent"] == "node01" for t in found["tasks"])
    durations = [task["duration_seconds"] for task in found["tasks"]]
    assert durations == sorted(durations, reverse=True)
    assert find_tasks(model, search="no such thing")["matching"] == 0
    failed = find_tasks(model, state="failed")
    assert failed["matching"] == failed["states"]["failed"]
    assert sum(failed["states"].values()) == failed["known"] == 300
    # Counts by state are of what else is asked for: whoever chooses another state gets as many.
    of_node = find_tasks(model, search="node01", state="failed")["states"]
    assert 0 < sum(of_node.values()) < 300
    for state, count in of_node.items():
        assert find_tasks(model, search="node01", state=state)["matching"] == count


def test_everything_is_bounded() -> None:
    model = ClusterModel(SMALL)
    for second in range(200):
        model.accept(snapshot(second + 1), float(second))
        model.accept(finished_tasks(40, first_number=1 + 40 * second, seed=second), second)
        model.accept(failures(1 + 3 * second, 3), second)
        model.accept(log(1 + 2 * second, (20, "one"), (30, "two")), second)
    assert (len(model.tasks), len(model.failures), len(model.log_lines)) == (50, 5, 10)
    assert 64 <= len(model.bars) <= 68
    assert model.bars.count == 8_000
    assert (model.failure_count, model.log_count) == (600, 400)


def test_failures_are_shown_once_however_often_they_are_told() -> None:
    model = ClusterModel()
    model.accept(failures(1, 3), 1.0)
    model.accept(failures(2, 4), 2.0)
    assert [failure["failure"] for failure in figures.failures(model)] == [5, 4, 3, 2, 1]
    (found,) = figures.failures(model, search="904 instrument")
    assert (found["number"], found["kind"]) == (904, "ValueError")
    assert 'File "pricing.py", line 41' in found["traceback"]
    assert figures.failures_of(model, ALICE, 904) == [found]
    assert figures.failures_of(model, BOB, 904) == []


def test_log_lines_are_shown_once_and_go_on_after_a_restart() -> None:
    model = ClusterModel()
    model.accept(log(1, (20, "a"), (20, "b")), 1.0)
    model.accept(log(1, (20, "a"), (20, "b"), (30, "c")), 1.0)
    restarted = log(1, (20, "d"))
    restarted.incarnation = b"2" * 16
    model.accept(restarted, 2.0)
    assert [line["text"] for line in figures.log_after(model, 1)["lines"]] == ["b", "c", "d"]
    assert figures.log_after(model, 1)["count"] == 4


class Exploit:
    """What a hostile task could answer with."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("code from a payload ran",))


@pytest.mark.parametrize(
    ("status", "payload", "kind", "text"),
    [
        (m.Status.FAILED, failure_payload("KeyError", "'x'"), "KeyError", "'x'"),
        (
            m.Status.PROCESSOR_DIED,
            b"attempt 3 of 3 failed; SIGKILL",
            "processor_died",
            "attempt 3 of 3 failed; SIGKILL",
        ),
        (m.Status.FAILED, b'J{"type":"KeyError","text":"x","traceback":"y"}', "KeyError", "x"),
        (m.Status.FAILED, b"J{", "failed", UNREADABLE),
        (m.Status.FAILED, b"", "failed", NOT_KEPT),
        (m.Status.FAILED, b"O" + b"i" * 16, "failed", IN_STORAGE),
        (m.Status.FAILED, b"Sbytes", "failed", UNREADABLE),
        (m.Status.FAILED, b"P\x80garbage", "failed", UNREADABLE),
        (m.Status.FAILED, b"P" + pickle.dumps((1, 2)), "failed", UNREADABLE),
        (m.Status.FAILED, b"P" + pickle.dumps(Exploit()), "failed", UNREADABLE),
        (99, b"\xff", "status 99", "�"),
    ],
)
def test_errors_are_read_without_running_anything(status: int, payload: bytes, kind: str, text: str) -> None:
    error = read_error(status, payload)
    assert (error.kind, error.text) == (kind, text)


def test_bars_continue_where_a_reader_was() -> None:
    store = BarStore(limit=100)
    for number in range(150):
        store.add(Bar(float(number), 0.5, Lane("a", number % 3), f"f{number % 5}", "", ALICE, number, 2))
    seen, columns = store.after(140, 4)
    assert (seen, columns["number"]) == (144, [140, 141, 142, 143])
    seen, columns = store.after(0, 1_000)
    assert (seen, columns["number"][0], columns["number"][-1]) == (150, 150 - len(store), 149)
    assert store.after(150, 10) == (150, {name: [] for name in columns})


def test_names_that_are_not_used_any_more_make_room() -> None:
    store = BarStore(limit=50)
    store.functions = NameTable(40)
    for number in range(500):
        store.add(Bar(float(number), 0.5, Lane("a", 0), f"f{number // 10}", "", ALICE, number, 2))
    assert store.generation > 0
    assert len(store.functions) <= 40
    assert [bar.function for bar in store.bars()] == [f"f{bar.number // 10}" for bar in store.bars()]


def test_a_chrome_trace_has_every_bar_once_and_tracks_nest() -> None:
    model = ClusterModel()
    model.accept(snapshot(1), 1.0)
    model.accept(finished_tasks(400), 1.0)
    trace = json.loads("".join(chrome_trace(model)))
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert sorted(span["args"]["task"] for span in spans) == list(range(1, 401))
    assert Counter(span["name"] for span in spans) == Counter(bar.function for bar in model.bars.bars())
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert {"node00", "node00-0", "node01-3"} <= names
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for span in spans:
        tracks.setdefault((span["pid"], span["tid"]), []).append((span["ts"], span["ts"] + span["dur"]))
    assert len(tracks) == 8
    for track in tracks.values():
        assert_nested(track)


def assert_nested(track: list[tuple[int, int]]) -> None:
    open_ends: list[int] = []
    for begin, end in sorted(track, key=lambda span: (span[0], -span[1])):
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1]
        open_ends.append(end)


def test_what_was_told_before_tasks_were_left_out_does_not_stay_unfinished() -> None:
    """A message may hold rows of tasks whose end will not be told: they came before the stride rose."""
    model = ClusterModel()
    rows = [(UNIX, ALICE, number, m.TaskEvent.SUBMITTED, "", "f", 0, -1) for number in range(1, 9)]
    model.accept(events(1, rows, stride=4), 1)
    assert [row.number for row in model.tasks.newest_first()] == [8, 4]


def test_unfinished_tasks_are_those_whose_state_says_so() -> None:
    model = ClusterModel(Limits(tasks=4))
    story = (
        *((number, m.TaskEvent.SUBMITTED) for number in range(1, 7)),
        (3, m.TaskEvent.SUCCESS),
        (4, m.TaskEvent.FAILED),
        (4, m.TaskEvent.ASSIGNED),
        (5, m.TaskEvent.CANCELED),
        (5, m.TaskEvent.RETURNED),
        (6, m.TaskEvent.SUCCESS),
        (6, m.TaskEvent.SUCCESS),
    )
    for sequence, (number, state) in enumerate(story, 1):
        model.accept(events(sequence, [(UNIX, ALICE, number, state, "agent", "f", 1, 0)]), 1.0)
        unfinished = {row.number for row in model.tasks.newest_first() if row.state not in FINISHED}
        assert {row.number for row in model.tasks.unfinished} == unfinished
    assert unfinished == {4, 5}


def test_metrics_carry_names_and_figures() -> None:
    model = ClusterModel()
    model.accept(snapshot(1, success=77, adapters=(m.AdapterStatus("http://a/", "ok", 2, requested_groups=3),)), 1.0)
    text = render_metrics(model, 0.2).decode()
    for line in (
        'scaler_tasks{state="unassigned"} 120.0',
        'scaler_tasks_finished_total{result="success"} 77.0',
        f'scaler_function_tasks{{function="{FUNCTIONS[0]}"}} 100.0',
        "scaler_workers 8.0",
        "scaler_object_memory_bytes 3.145728e+06",
        'scaler_worker_tasks{agent="node00",host="node00.example.org",worker="node00-0"} 4.0',
        'scaler_adapter_groups{adapter="http://a/",kind="requested"} 3.0',
    ):
        assert line in text.splitlines()
    names = {line.split("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")}
    assert all(name.startswith("scaler_") for name in names)


def test_messages_with_columns_as_decoded_are_as_good() -> None:
    from scaler_protocol.wire.codec import decode, encode

    model, again = ClusterModel(), ClusterModel()
    for message in (snapshot(1), finished_tasks(20), failures(1, 2), log(1, (20, "x"))):
        model.accept(message, 1.0)
        decoded = decode(encode(message))
        assert isinstance(decoded, m.MonitorSnapshot | m.MonitorEvents | m.MonitorFailures | m.MonitorLog)
        again.accept(decoded, 1.0)
    assert find_tasks(model) == find_tasks(again)
    assert figures.whole(model, 0, 5) == figures.whole(again, 0, 5)


def test_a_nested_client_is_shown_under_the_name_of_its_parent() -> None:
    model = ClusterModel()
    nested = m.ClientStatus("nested|host|5", BOB, nested=True, parent=ALICE, parent_name="pricing")
    model.accept(snapshot(1, clients=(m.ClientStatus("pricing", ALICE), nested)), 1.0)
    assert [client["name"] for client in figures.clients(model)] == ["pricing", "pricing (nested)"]
    assert model.client_name(BOB) == "pricing (nested)"
    # Its parent has left: it is known by its own name again.
    model.accept(snapshot(2, clients=(dataclasses.replace(nested, parent_name=""),)), 2.0)
    assert model.client_name(BOB) == "host (pid 5, nested)"
