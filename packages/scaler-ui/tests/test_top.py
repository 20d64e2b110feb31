"""`scaler_top` in a terminal that does not exist, fed by a scheduler that does not either."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from synthetic_cluster import ALICE, SyntheticScheduler, failures, snapshot, worker
from textual.pilot import Pilot
from textual.widgets import DataTable, Static
from top_at_work import column, knows_a_snapshot, text_of, use_top

from scaler_protocol.address import Address
from scaler_protocol.monitoring.topics import EVENTS, FIGURES
from scaler_protocol.testing.waiting import wait_until, wait_until_async
from scaler_protocol.wire import messages as m
from scaler_ui.feed import FIGURES_ONLY, MonitorFeed
from scaler_ui.model import ClusterModel
from scaler_ui.model.cluster import MonitorMessage
from scaler_ui.top.app import TopApplication
from scaler_ui.top.details import lines
from scaler_ui.top.questions import Questions
from scaler_ui.top.screens import Detail
from scaler_ui.top.summary import waiting_reason


def test_it_shows_blocks_and_a_row_for_each_worker(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, _pilot: Pilot[int]) -> None:
        blocks = text_of(application, "blocks")
        for name in ("scheduler", "task_manager", "scheduler_sent", "scheduler_received"):
            assert name in blocks
        assert "success 4,321" in " ".join(blocks.split())
        assert column(application, "workers", "worker") == [f"node{a:02}-{s}" for a in range(2) for s in range(4)]
        assert column(application, "workers", "queued") == ["3"] * 8
        assert column(application, "workers", "functions")[:2] == ["simulate 4", "simulate 2, aggregate 2"]
        assert EVENTS not in scheduler.topics()

    use_top(scheduler, look)


@pytest.mark.parametrize(("key", "name"), [("n", "worker"), ("c", "cpu"), ("m", "rss"), ("f", "free"), ("q", "queued")])
def test_a_key_sorts_by_its_column_and_marks_it(scheduler: SyntheticScheduler, key: str, name: str) -> None:
    async def sort(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press(key)
        labels = [str(one.label) for one in application.query_one("#workers", DataTable).ordered_columns]
        assert [label for label in labels if label.startswith("[")] == [f"[{name}]"]
        if key == "c":
            values = [float(value.rstrip("%")) for value in column(application, "workers", "cpu")]
            assert values == sorted(values, reverse=True)

    use_top(scheduler, sort)


def test_details_open_and_close(scheduler: SyntheticScheduler) -> None:
    async def open_things(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("down", "enter")
        await pilot.pause()
        assert isinstance(application.screen, Detail)
        assert "node00-1" in text_of(application, "detail-text")
        await pilot.press("escape")
        await pilot.press("3")
        assert column(application, "failures", "error") == ["ValueError", "ValueError"]
        await pilot.press("enter")
        await pilot.pause()
        assert "Traceback (most recent call last)" in text_of(application, "detail-text")
        await pilot.press("enter")
        await pilot.press("2")
        assert column(application, "clients", "client") == ["alice", "bob"]
        await pilot.press("enter")
        await pilot.pause()
        assert "object bytes" in text_of(application, "detail-text")
        assert "3.0 MiB" in text_of(application, "detail-text")

    use_top(scheduler, open_things)


def test_progress_of_running_tasks_has_a_table(scheduler: SyntheticScheduler) -> None:
    said = (
        m.ProgressStatus(ALICE, 7, 50.0, 200.0, "epoch 2", 3.0, "pricing.simulate", "node00"),
        m.ProgressStatus(ALICE, 8, 1.5, -1.0, "", 0.0, "pricing.simulate", "node01"),
    )

    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        scheduler.publish(snapshot(2, progress=said))
        await wait_until_async(lambda: knows_a_snapshot(application.feed, 2))
        await pilot.press("8")
        assert column(application, "progress", "task") == ["8", "7"]
        assert column(application, "progress", "share") == ["", "25 %"]
        assert column(application, "progress", "progress") == ["1.5", "50 of 200"]
        assert column(application, "progress", "client") == ["alice", "alice"]

    use_top(scheduler, look)


def test_jobs_have_a_table(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("9")
        assert column(application, "jobs", "job") == ["overnight", "<b>bold</b>"]
        assert column(application, "jobs", "done") == ["90", "7"]
        assert column(application, "jobs", "owner") == ["desk (pid 812)", "bob"]
        assert "{gpu}" in column(application, "jobs", "cannot run")[0]

    use_top(scheduler, look)


def test_groups_have_a_table_that_says_why_tasks_wait(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        assert column(application, "groups", "group") == ["pricing", "default"]
        assert column(application, "groups", "weight") == ["3", "1"]
        assert column(application, "groups", "core seconds") == ["1,235", "400"]
        assert column(application, "groups", "note") == [
            "tasks wait: 20 run, at most 20 may",
            "tasks are refused: 20 wait, at most 20 may",
        ]
        await pilot.press("enter")
        await pilot.pause()
        assert "core seconds used  1,234.568" in text_of(application, "detail-text")

    use_top(scheduler, look)


def test_labels_have_a_table(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        assert column(application, "labels", "label") == ["curves"]
        assert [column(application, "labels", name) for name in ("unfinished", "success", "failed")] == [
            ["12"],
            ["30"],
            ["1"],
        ]
        await pilot.press("enter")
        await pilot.pause()
        assert "unfinished  12" in text_of(application, "detail-text")
        await pilot.press("enter")
        # More tasks of another label: it comes first.
        scheduler.publish(snapshot(2, labels=(m.Tally("curves", 2, 40, 1), m.Tally("books", 5, 0, 0))))

        def follows() -> bool:
            application.redraw()
            return column(application, "labels", "label") == ["books", "curves"]

        await wait_until_async(follows)

    use_top(scheduler, look)


def summary_of(application: TopApplication) -> str:
    return application.query_one("#summary", Static).render_line(0).text.rstrip()


def test_at_80_columns_and_24_lines_the_workers_come_first(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        # It is laid out some time after it is there.
        await wait_until_async(lambda: application.query_one("#workers", DataTable).region.y == 2)
        assert not application.query_one("#blocks").display
        assert summary_of(application) == "busy ████████ 100%  running 8  queued 24  waiting 120  done 0/s  failed 0/s"
        labels = [str(one.label) for one in application.query_one("#workers", DataTable).ordered_columns]
        assert labels == ["[worker]", "cpu", "rss", "free", "working", "queued", "functions"]
        scheduler.publish(snapshot(2, success=500_000, agents=1))

        def follows() -> bool:
            application.redraw()
            return "running 4 " in summary_of(application)

        await wait_until_async(follows)
        assert "done 496k/s" in summary_of(application)
        await pilot.press("6")
        assert column(application, "messages", "message") == ["ResultBatch", "TaskBatch"]
        assert column(application, "messages", "received") == ["42", "11"]

    use_top(scheduler, look, size=(80, 24))


def test_functions_have_a_table_with_the_busiest_first(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        names = column(application, "functions", "function")
        assert names[0] == "risk.aggregate"
        assert column(application, "functions", "running")[:2] == ["2", "2"]
        assert column(application, "functions", "failed")[names.index("pricing.simulate")] == "3"
        await pilot.press("down", "down", "down", "enter")
        await pilot.pause()
        assert "last failure" in text_of(application, "detail-text") or names[3] != "pricing.simulate"

    use_top(scheduler, look)


def test_clients_and_labels_have_a_rate_and_a_time_left(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("2")
        assert column(application, "clients", "time left") == ["", ""]
        scheduler.publish(snapshot(11, success=4_321 + 20))

        def follows() -> bool:
            application.redraw()
            return column(application, "clients", "tasks/s")[0] == "2.0"

        await wait_until_async(follows)
        assert column(application, "clients", "time left") == ["1 min 0 s", ""]
        await pilot.press("4")
        assert column(application, "labels", "tasks/s") == ["0.0"]
        scheduler.publish(snapshot(12, labels=(m.Tally("curves", 22, 40, 2),)))
        await wait_until_async(lambda: knows_a_snapshot(application.feed, 12))
        application.redraw()
        assert column(application, "labels", "tasks/s") == ["1.0"]
        assert column(application, "labels", "time left") == ["22 s"]

    use_top(scheduler, look)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"agents": 0}, "120 tasks wait: no worker is connected. Start some with scaler_cluster"),
        (
            {"workers": tuple(worker(0, s, state=m.ProcessorState.IDLE, sent=0, queued=0) for s in range(2))},
            "120 tasks wait, and 2 workers have nothing to do: they offer gpu,linux; resources cores=4,gpu=2,mem=64GiB per",
        ),
        (
            {"workers": (worker(0, 0, state=m.ProcessorState.IDLE, sent=0, queued=0, capabilities=""),)},
            "120 tasks wait, and 1 worker has nothing to do: it offers no capabilities",
        ),
        (
            {
                "workers": (worker(0, 0, state=m.ProcessorState.IDLE, sent=0, queued=0),),
                "groups": (m.GroupStatus("research", waiting=120, running=2, max_running=2),),
            },
            "120 tasks wait: as many of group research run as may (max_running)",
        ),
        (
            {"resource_waits": (m.ResourceWait("licence=1", 100, True), m.ResourceWait("mem=1TiB", 5, False))},
            "120 tasks wait, 100 of them for licence=1, which other tasks use",
        ),
        (
            {"resource_waits": (m.ResourceWait("mem=1TiB", 120, False),)},
            "120 tasks wait, 120 of them for mem=1TiB, which no host offers",
        ),
        ({"resource_waits": (m.ResourceWait("licence=1", 3, True),)}, ""),
        ({}, ""),
    ],
)
def test_it_says_why_tasks_wait(fields: dict[str, Any], said: str) -> None:
    model = ClusterModel()
    model.accept(snapshot(1, **fields), 0.0)
    assert waiting_reason(model).startswith(said)
    assert bool(waiting_reason(model)) == bool(said)


def test_failures_and_silent_workers_have_colours(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        def styles(view: str) -> list[str]:
            table = application.query_one(f"#{view}", DataTable)
            return [str(table.get_row_at(row)[0].style) for row in range(table.row_count)]

        await pilot.press("3")
        assert styles("failures") == ["red", "red"]
        assert column(application, "failures", "new") == ["", "new"]
        await pilot.press("1")
        silent = tuple(worker(0, s, last_seen_seconds=60.0 * (s == 1)) for s in range(3))
        scheduler.publish(snapshot(2, workers=silent))

        def follows() -> bool:
            application.redraw()
            return len(styles("workers")) == 3

        await wait_until_async(follows)
        assert styles("workers") == ["", "red", ""]
        assert text_of(application, "reason") == "1 worker not heard for 1 min 0 s: node00-1"

    use_top(scheduler, look)


def test_no_color_is_respected(scheduler: SyntheticScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def look(application: TopApplication, _pilot: Pilot[int]) -> None:
        assert application.no_color

    use_top(scheduler, look)


def test_help_opens_and_escape_closes_it_and_then_leaves(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "q  queued" in text_of(application, "detail-text")
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(application.screen, Detail)
        assert application.is_running
        await pilot.press("q")
        assert application.is_running
        await pilot.press("escape")
        await wait_until_async(lambda: not application.is_running)

    use_top(scheduler, look)


def test_details_have_units() -> None:
    shown = lines({"rss_bytes": 3 * 1024**2, "cpu_percent": 60.0, "latency_seconds": 0.0004, "last_seen_seconds": 75.0})
    assert [" ".join(line.split()) for line in shown.splitlines()] == [
        "rss bytes 3.0 MiB",
        "cpu 60 % of a core",
        "latency 0.4 ms",
        "last seen 1 min 15 s",
    ]


def test_it_follows_what_happens_and_keeps_the_cursor(scheduler: SyntheticScheduler) -> None:
    async def follow(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("down", "down")
        scheduler.publish(snapshot(2, workers=(*(worker(0, slot) for slot in range(3)), worker(9, 9, cpu_percent=1.0))))

        def follows() -> bool:
            application.redraw()
            return "node09-9" in column(application, "workers", "worker")

        await wait_until_async(follows)
        assert column(application, "workers", "worker") == ["node00-0", "node00-1", "node00-2", "node09-9"]
        assert application.query_one("#workers", DataTable).cursor_row == 2

    use_top(scheduler, follow)


def test_a_narrow_terminal_gets_the_same(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        assert max(map(len, text_of(application, "blocks").splitlines())) <= 60
        # As much of the line as there is room for, not as many words as fit.
        assert application.query_one("#status", Static).render_line(0).text.rstrip().endswith("…")
        await pilot.resize_terminal(150, 30)
        await pilot.pause()
        assert max(map(len, text_of(application, "blocks").splitlines())) > 60

    use_top(scheduler, look, size=(60, 20))


def test_silence_is_said(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, _pilot: Pilot[int]) -> None:
        def is_silent() -> bool:
            application.redraw()
            return "no message from the scheduler for" in text_of(application, "status")

        await wait_until_async(is_silent)
        assert application.query_one("#status").has_class("bad")
        assert column(application, "workers", "worker")

    use_top(scheduler, look, timeout_s=0.2)


def test_no_scheduler_yet_is_said() -> None:
    async def look() -> None:
        application = TopApplication(feed, 60, questions)
        async with application.run_test():
            assert "waiting for a scheduler at tcp://127.0.0.1:9" in text_of(application, "status")

    address = Address.parse("tcp://127.0.0.1:9")
    with MonitorFeed(address, FIGURES_ONLY) as feed, Questions(address) as questions:
        asyncio.run(look())


def run_top(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scaler_ui.top", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_once_prints_one_json_object(scheduler: SyntheticScheduler) -> None:
    process = run_top(scheduler.address, "--once", "--json", "--timeout=30")
    scheduler.wait_for_monitor(1)
    scheduler.publish(failures(1, 2), snapshot(1, success=4_321))
    printed, _ = process.communicate(timeout=30)
    data = json.loads(printed)
    assert process.returncode == 0
    assert data["task_manager"] == {"unassigned": 120, "running": 32, "success": 4_321, "failed": 3, "canceled": 7}
    assert data["scheduler"] == {"cpu_percent": 12.5, "rss_bytes": 37 * 1024**2}
    assert data["scheduler_sent"] == {"TaskBatch": 41, "ResultBatch": 39}
    assert len(data["workers"]) == 8
    assert data["workers"][0]["queued"] == 3
    assert data["failures"][0]["kind"] == "ValueError"


def test_once_ends_quietly_when_nobody_reads(scheduler: SyntheticScheduler) -> None:
    process = run_top(scheduler.address, "--once", "--json", "--timeout=30")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    scheduler.wait_for_monitor(1)
    scheduler.publish(snapshot(1))
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(30) == 141


def test_once_prints_text(scheduler: SyntheticScheduler) -> None:
    process = run_top(scheduler.address, "--once", "--timeout=30")
    scheduler.wait_for_monitor(1)
    scheduler.publish(snapshot(1))
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Total 8 workers" in printed
    # Keys mean nothing to what was printed.
    assert "worker[n]" not in printed


def test_once_says_that_nobody_answers() -> None:
    process = run_top("tcp://127.0.0.1:9", "--once", "--timeout=0.5")
    printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (1, "")
    assert said.startswith("scaler_top: no message from a scheduler at tcp://127.0.0.1:9 within 0.5 s")
    assert len(said.splitlines()) == 1


def test_without_a_terminal_it_says_what_to_do(scheduler: SyntheticScheduler) -> None:
    process = run_top(scheduler.address)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "use --once to print text" in said


def test_a_message_that_cannot_be_shown_does_not_end_the_feed(
    scheduler: SyntheticScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(ClusterModel):
        def accept(self, message: MonitorMessage, now: float) -> None:
            if isinstance(message, m.MonitorFailures):
                raise ZeroDivisionError("a fault of ours")
            super().accept(message, now)

    with MonitorFeed(Address.parse(scheduler.address), FIGURES_ONLY, model=Faulty()) as feed:
        scheduler.wait_for_monitor(1)
        scheduler.publish_raw(FIGURES)
        scheduler.publish(failures(1, 2), failures(1, 2), snapshot(1))
        wait_until(lambda: knows_a_snapshot(feed))
    # One line a minute says so: here it is about what came first.
    assert len(caplog.records) == 1


def test_a_fault_of_the_model_is_logged_with_its_traceback(
    scheduler: SyntheticScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(ClusterModel):
        def accept(self, message: MonitorMessage, now: float) -> None:
            raise ZeroDivisionError("a fault of ours")

    with MonitorFeed(Address.parse(scheduler.address), FIGURES_ONLY, model=Faulty()):
        scheduler.wait_for_monitor(1)
        scheduler.publish(snapshot(1))
        wait_until(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert "cannot be shown" in record.getMessage()
    assert scheduler.address in record.getMessage()
    assert record.exc_info is not None


def test_a_monitor_says_again_and_again_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    with MonitorFeed(Address.parse("tcp://127.0.0.1:9"), clock=lambda: now[0], warn_after_s=5):
        # After five minutes only every five minutes: a monitor waits without end.
        for lines, at in enumerate((6.0, 17.0, 28.0, 400.0, 701.0), 1):
            now[0] = at
            wait_until(lambda lines=lines: len(caplog.records) >= lines)  # type: ignore[misc]
            now[0] = at + 9.0
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"no message from a scheduler at tcp://127.0.0.1:9 for {seconds} s" for seconds in (5, 17, 28, 400, 701)
    ]
