"""How often a processor says how far its task is, and what the agent passes on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from agent_harness import CLIENT, AgentHarness

from scaler_protocol.wire import messages as m
from scaler_worker.core import events
from scaler_worker.processor import progress
from scaler_worker.processor.records import Kind, progress_parts, read_progress
from scaler_worker.processor.task_threads import TaskThreads


class Setting:
    """A processor whose clock stands still, and what it has sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sent: list[tuple[int, float, float, str]] = []
        self.woken = 0
        self.running: Any = SimpleNamespace(row=SimpleNamespace(task_index=5), in_code=True)
        monkeypatch.setattr(progress, "monotonic", lambda: self.now)
        threads = TaskThreads(cast(Any, self.running), lambda: None)
        self.reports = progress.ProgressReports(cast(Any, self.running), threads, self.send, self.wake)

    def send(self, kind: Kind, parts: Any) -> None:
        assert kind is Kind.PROGRESS
        self.sent.append(read_progress(b"".join(parts)))

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_the_first_is_sent_at_once_and_then_the_newest_when_it_is_time(setting: Setting) -> None:
    for done in range(1000):
        setting.reports.report(done, 1000.0, "row")
    assert (setting.sent, setting.woken) == ([(5, 0.0, 1000.0, "row")], 1)
    setting.reports.send_due()
    assert len(setting.sent) == 1
    assert setting.reports.poll_milliseconds == pytest.approx(501)
    setting.now += progress.INTERVAL_SECONDS
    setting.reports.send_due()
    assert setting.sent[1:] == [(5, 999.0, 1000.0, "row")]
    assert setting.reports.poll_milliseconds is None
    setting.reports.report(1000, 1000.0, "")
    assert (len(setting.sent), setting.woken) == (2, 2)


def test_what_waits_is_dropped_with_its_task(setting: Setting) -> None:
    setting.reports.report(1, -1.0, "")
    setting.reports.report(2, -1.0, "")
    setting.running.row = SimpleNamespace(task_index=6)
    setting.now += 1
    setting.reports.send_due()
    setting.running.row = None
    setting.reports.report(3, -1.0, "")
    assert setting.sent == [(5, 1.0, -1.0, "")]


def test_while_the_processor_works_for_the_task_nothing_is_sent_by_its_thread(setting: Setting) -> None:
    setting.running.in_code = False
    setting.reports.report(1, -1.0, "")
    assert (setting.sent, setting.woken) == ([], 1)
    setting.reports.send_due()
    assert setting.sent == [(5, 1.0, -1.0, "")]


def test_what_is_reported_while_the_one_before_is_sent_is_sent_behind_it(setting: Setting) -> None:
    class Running:
        """The control thread looks at `row` right before it sends: the task's thread has its turn there."""

        in_code = True
        turns: ClassVar[list[Callable[[], None]]] = []

        @property
        def row(self) -> Any:
            if self.turns:
                self.turns.pop()()
            return setting.running.row

    running = cast(Any, Running())
    reports = progress.ProgressReports(running, TaskThreads(running, lambda: None), setting.send, setting.wake)
    reports.report(1, -1.0, "first")
    reports.report(2, -1.0, "next")
    setting.now += progress.INTERVAL_SECONDS
    Running.turns.append(lambda: reports.report(3, -1.0, "last"))
    reports.send_due()
    setting.now += progress.INTERVAL_SECONDS
    reports.send_due()
    assert [note for *_, note in setting.sent] == ["first", "next", "last"]


@pytest.mark.parametrize(
    "amounts", [(float("nan"), 1.0), (-1.0, 1.0), (1.0, float("inf")), (1.0, -2.0), (2.0**54, 1.0)]
)
def test_records_that_no_task_can_have_sent_are_refused(amounts: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="progress"):
        read_progress(struct.pack("=Qdd", 1, *amounts))
    with pytest.raises(ValueError, match="progress"):
        read_progress(struct.pack("=Qdd", 1, 1.0, 2.0) + bytes(5000))
    assert read_progress(b"".join(progress_parts(1, 1.0, 2.0, "é" * 200))) == (1, 1.0, 2.0, "é" * 200)


def test_the_agent_names_the_task() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([7])
    harness.step(events.ProcessorProgress(0, 0, 3.0, 10.0, "rows"))
    harness.step(events.ProcessorProgress(0, 5, 1.0, 2.0, "of no task"))
    harness.step(events.ProcessorProgress(77, 0, 1.0, 2.0, "of no processor"))
    assert harness.said(m.TaskProgress) == [m.TaskProgress(CLIENT, 7, 3.0, 10.0, "rows")]
