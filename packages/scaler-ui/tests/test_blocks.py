"""What is shown of a snapshot."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scaler_protocol.wire.messages import AgentStatus, ClientStatus, Counter, MonitorSnapshot, WorkerStatus
from scaler_ui.model.blocks import (
    SORT_KEYS,
    block_lines,
    format_bytes,
    functions_by_worker,
    render_text,
    snapshot_data,
    sorted_workers,
)
from scaler_ui.top.app import _cell

SNAPSHOT = MonitorSnapshot(
    sequence=1,
    time_seconds=0.0,
    incarnation=b"\1\2",
    cpu_percent=12.5,
    rss_bytes=37 * 1024**2,
    task_states=(Counter("running", 2), Counter("success", 200_000)),
    sent=(Counter("TaskBatch", 4),),
    workers=(
        WorkerStatus("a", "agent", cpu_percent=1.0, rss_bytes=9, free=5, sent=3, queued=2),
        WorkerStatus("b", "agent", cpu_percent=99.0, rss_bytes=3, free=9, sent=7, queued=4),
    ),
    clients=(ClientStatus("c", b"\3"),),
)


def test_blocks_stand_side_by_side_above_the_workers() -> None:
    lines = render_text(SNAPSHOT).splitlines()
    assert lines[0].split(" | ")[0].strip() == "scheduler"
    assert "cpu 12.5%" in " ".join(lines[1].split())
    assert "success 200,000" in render_text(SNAPSHOT)
    assert "worker[n]" not in "".join(lines)
    assert "Total 2 workers" in lines
    assert lines[-1].split() == ["b", "0.0%", "0b", "99.0%", "3b", "9", "7", "3", "4"]


@pytest.mark.parametrize(("key", "first"), [("n", "a"), ("c", "b"), ("m", "a"), ("f", "b"), ("w", "b"), ("q", "b")])
def test_a_key_sorts_and_marks_its_column(key: str, first: str) -> None:
    assert sorted_workers(SNAPSHOT, key)[0].name == first
    assert f"[{SORT_KEYS[key][0]}]" in render_text(SNAPSHOT, key).splitlines()[-3]


def test_an_empty_cluster_can_be_shown() -> None:
    assert "Total 0 workers" in render_text(MonitorSnapshot(0, 0.0, b""))


def test_sizes_are_short() -> None:
    sizes = (0, 1023, 1024, 38_900_000, 5 * 1024**4)
    assert [format_bytes(size) for size in sizes] == ["0b", "1023b", "1.0k", "37.1m", "5.0t"]


def test_the_data_is_json() -> None:
    data = json.loads(json.dumps(snapshot_data(SNAPSHOT)))
    assert data["incarnation"] == "0102"
    assert data["task_states"] == {"running": 2, "success": 200_000}
    assert data["clients"][0]["incarnation"] == "03"


def test_blocks_wrap_where_the_terminal_is_narrow() -> None:
    assert len(block_lines(SNAPSHOT)) == 3
    narrow = block_lines(SNAPSHOT, width=24)
    assert max(map(len, narrow)) <= 24
    assert [line for line in narrow if line.startswith("scheduler_sent")]


def test_functions_are_spread_over_the_workers_of_an_agent_as_tasks_are() -> None:
    agents = (AgentStatus("agent", functions=(Counter("m.f", 5), Counter("m.g", 2))),)
    workers = (
        WorkerStatus("a", "agent", sent=3),
        WorkerStatus("b", "agent", sent=2, function="m.g"),
        WorkerStatus("c", "agent", sent=2),
    )
    shown = functions_by_worker(MonitorSnapshot(1, 0.0, b"", workers=workers, agents=agents))
    assert shown == {("agent", "a"): "f 2, g 1", ("agent", "b"): "f 1, g 1", ("agent", "c"): "f 2"}


HOSTILE = "\x1b]52;c;aGk=\x07\x9b2J\r\b\u202e\nname"
"""Writes the clipboard, clears the screen, moves the cursor, turns the direction of text, and begins a line."""


def test_names_do_nothing_to_a_terminal() -> None:
    snapshot = replace(
        SNAPSHOT,
        sent=(Counter(HOSTILE, 4),),
        workers=(replace(SNAPSHOT.workers[0], name=HOSTILE),),
        agents=(AgentStatus("agent", functions=(Counter(HOSTILE, 1),)),),
    )
    honest = render_text(SNAPSHOT).splitlines()
    lines = render_text(snapshot).splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) <= len(honest)
    assert "\\x1b]52" in "".join(lines)


def test_cells_of_the_interactive_tables_do_nothing_to_a_terminal() -> None:
    assert _cell(HOSTILE).plain.isprintable()
    assert _cell("größer 大").plain == "größer 大"
