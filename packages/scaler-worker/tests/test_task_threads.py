"""Which task a thread works for: its own, also after that has ended, and never the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from scaler_worker.processor import task_threads
from scaler_worker.processor.output import OutputCapture
from scaler_worker.processor.task_threads import TaskThreads

CLIENT = b"c" * 16


def row_of(number: int) -> Any:
    return SimpleNamespace(
        task_index=number + 100, position=1, tasks=SimpleNamespace(numbers=[0, number], client=CLIENT)
    )


class Setting:
    """A processor whose tasks the test begins and ends."""

    def __init__(self) -> None:
        self.running: Any = SimpleNamespace(row=None)
        self.ended: Any = None
        self.threads = TaskThreads(cast(Any, self.running), lambda: self.ended)

    def begin(self, number: int) -> None:
        self.running.row = row_of(number)

    def seen(self) -> tuple[int | None, int | None]:
        """The number of the task whose output the caller's is, and of the one it may speak for."""
        writer, row = self.threads.writer(), self.threads.row()
        return writer[0] if writer else None, row.tasks.numbers[row.position] if row is not None else None


class Asking:
    """A thread that a task has started, and that is asked from time to time."""

    def __init__(self, setting: Setting, look: Callable[[], Any]) -> None:
        self._look = look
        self._asked, self._answered = threading.Semaphore(0), threading.Semaphore(0)
        self._answers: list[Any] = []
        self._act: Callable[[], Any] | None = look
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        setting.threads.note(self.thread.ident or 0)

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            if self._act is None:
                return
            self._answers.append(self._act())
            self._answered.release()

    def ask(self, act: Callable[[], Any] | None = None) -> Any:
        self._act = act or self._look
        self._asked.release()
        assert self._answered.acquire(timeout=10)
        return self._answers.pop()

    def end(self) -> None:
        self._act = None
        self._asked.release()
        self.thread.join()


def test_a_thread_that_outlives_its_task_is_not_the_next_one_s() -> None:
    setting = Setting()
    setting.begin(1)
    asking = Asking(setting, setting.seen)
    assert (setting.seen(), asking.ask()) == ((1, 1), (1, 1))
    setting.running.row = None
    assert (setting.seen(), asking.ask()) == ((None, None), (1, None))
    setting.begin(2)
    assert (setting.seen(), asking.ask()) == ((2, 2), (1, None))
    # What such a thread starts is the first task's too.
    inner: list[Asking] = []
    asking.ask(lambda: inner.append(Asking(setting, setting.seen)))
    assert inner[0].ask() == (1, None)
    inner[0].end()
    asking.end()


def test_threads_that_no_task_has_started_work_for_the_running_one() -> None:
    setting = Setting()
    asking = Asking(setting, setting.seen)
    assert asking.ask() == (None, None)
    setting.begin(3)
    assert asking.ask() == (3, 3)
    asking.end()


def test_what_dies_with_the_frames_of_a_task_is_its_own() -> None:
    setting = Setting()
    setting.ended = row_of(4)
    assert setting.seen() == (4, None)


def test_threads_that_have_ended_are_forgotten() -> None:
    setting = Setting()
    setting.begin(1)
    asking = Asking(setting, setting.seen)
    for ident in range(3 * task_threads.OWNERS_MAX):
        setting.threads.note(ident)
    assert len(setting.threads._owners) <= task_threads.OWNERS_MAX
    setting.begin(2)
    assert asking.ask() == (1, None)
    asking.end()


def test_the_client_of_the_next_task_gets_nothing_of_an_earlier_one_s_threads() -> None:
    setting = Setting()
    sent: list[tuple[int, bytes]] = []
    capture = OutputCapture(
        lambda index, _stream, data, _dropped: sent.append((index, data)), setting.threads.works_for
    )
    setting.begin(1)
    capture.begin(101)
    asking = Asking(setting, lambda: (capture.capturing, capture.write(1, b"of the thread\n")))
    assert asking.ask() == (True, True)
    capture.end()
    setting.begin(2)
    capture.begin(102)
    assert asking.ask() == (False, False)
    assert capture.write(1, b"of the second task\n")
    capture.end()
    assert sent == [(101, b"of the thread\n"), (102, b"of the second task\n")]
    asking.end()
