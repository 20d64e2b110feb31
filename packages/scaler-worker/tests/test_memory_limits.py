"""Tasks that are held to the memory they ask for: what an agent's core decides, and how much of it a process has taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest
from agent_harness import CLIENT, AgentHarness

from scaler_protocol.runtime.resources import memory_bytes, parse_amounts
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.call_options import CallOptions
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects, events
from scaler_worker.core.memory_limits import MEASURE_SECONDS_MAX, MEASURE_SECONDS_MIN
from scaler_worker.processor.page import RunningPage
from scaler_worker.shell.task_memory import private_bytes, used_bytes

MIB = 1024**2


def asking(amounts: str) -> dict[str, Any]:
    """Fields of a batch whose tasks have been granted this."""
    return {"options": CallOptions(resources=parse_amounts(amounts)).for_agents, "granted": amounts, "devices": ""}


def host(slots: int = 2, *, enforces_memory: bool = True) -> AgentHarness:
    return AgentHarness(slots, resources="cores=4,mem=1GiB", enforces_memory=enforces_memory)


def measured(harness: AgentHarness, bytes_by_task: dict[int, int]) -> list[int]:
    """Answer what the agent asks about tasks; return the numbers of those."""
    asked = []
    for effect in harness.take(effects.MeasureMemory):
        used = {}
        for processor, index in effect.tasks:
            number = dict(harness.handed[processor])[index]
            asked.append(number)
            used[processor] = (index, bytes_by_task[number])
        harness.step(events.MemoryMeasured(used))
    return asked


def killed(harness: AgentHarness) -> list[int]:
    """Let the processors end that are killed; return their numbers."""
    numbers = [effect.processor for effect in harness.take(effects.KillProcessor)]
    for number in numbers:
        begun = harness.look().processors[number].front_index
        harness.step(events.ProcessorExited(number, begun, "it was killed"))
    return numbers


# --- what the core decides


def test_a_task_that_takes_more_than_it_asked_for_ends_alone_and_is_final() -> None:
    harness = host()
    harness.submit([1], **asking("mem=100MiB"))
    harness.submit([2], **asking("mem=200MiB"))
    first, second = harness.holder(1), harness.holder(2)
    harness.wait(MEASURE_SECONDS_MAX)
    assert sorted(measured(harness, {1: 100 * MIB + 1, 2: 200 * MIB})) == [1, 2]
    assert killed(harness) == [first]
    harness.wait(1)
    attempt, status, text = harness.results[CLIENT, 1]
    assert (attempt, status) == (1, Status.LIMIT_EXCEEDED)
    assert text == (
        b"the task took 101 MiB of memory, more than the mem=100MiB that it asked for, and was ended (--enforce-memory)"
    )
    harness.finish(second)
    harness.wait(1)
    assert harness.status(2) == Status.SUCCESS


def test_only_tasks_that_ask_for_memory_are_measured_and_only_where_that_is_wanted() -> None:
    for harness, amounts in ((host(), "cores=1"), (host(enforces_memory=False), "mem=100MiB")):
        harness.submit([1], **asking(amounts))
        harness.wait(1)
        assert harness.take(effects.MeasureMemory) == []
        assert harness.running() == [1]
    harness = host()
    harness.submit([1])
    harness.wait(1)
    assert harness.take(effects.MeasureMemory) == []


def test_a_task_is_measured_more_often_where_it_is_near_its_limit() -> None:
    harness = host()
    harness.submit([1], **asking("mem=1GiB"))
    times = []
    for room in (MIB, 512 * MIB, 900 * MIB):
        harness.wait(max(harness.core.next_deadline() - harness.now, 0))
        while not harness.effects or not any(isinstance(e, effects.MeasureMemory) for e in harness.effects):
            harness.wait(MEASURE_SECONDS_MIN)
        measured(harness, {1: 1024 * MIB - room})
        times.append(harness.now)
    assert times[1] - times[0] <= 2 * MEASURE_SECONDS_MIN + 1e-9
    assert times[2] - times[1] > times[1] - times[0]


def test_a_task_that_has_ended_is_not_measured_again() -> None:
    harness = host()
    harness.submit([1], **asking("mem=100MiB"))
    processor = harness.holder(1)
    harness.wait(MEASURE_SECONDS_MAX)
    (effect,) = harness.take(effects.MeasureMemory)
    harness.finish(processor)
    # The answer is late: the task has ended, and another may run there.
    harness.submit([2])
    harness.step(events.MemoryMeasured({processor: (effect.tasks[0][1], 10**12)}))
    harness.wait(1)
    assert killed(harness) == []
    assert harness.take(effects.MeasureMemory) == []
    assert harness.status(1) == Status.SUCCESS


def test_a_task_that_answered_just_before_its_end_has_that_answer() -> None:
    harness = host()
    harness.submit([1], **asking("mem=100MiB"))
    processor = harness.holder(1)
    harness.wait(MEASURE_SECONDS_MAX)
    measured(harness, {1: 200 * MIB})
    harness.finish(processor)
    assert killed(harness) == [processor]
    harness.wait(1)
    assert harness.status(1) == Status.SUCCESS


def test_a_processor_that_has_died_is_forgotten() -> None:
    harness = host()
    harness.submit([1], **asking("mem=100MiB"))
    processor = harness.holder(1)
    harness.wait(MEASURE_SECONDS_MAX)
    harness.step(events.ProcessorExited(processor, 0, "it crashed"))
    harness.step(events.MemoryMeasured({processor: (0, 10**12)}))
    harness.wait(1)
    assert harness.status(1) == Status.PROCESSOR_DIED


def test_nothing_is_due_while_nobody_is_watched() -> None:
    harness = host()
    assert harness.core._memory_limits.next_deadline() == inf
    assert harness.core._memory_limits.watched == {}


def test_memory_among_amounts() -> None:
    assert memory_bytes(parse_amounts("mem=8GiB,gpu=1")) == 8 * 1024**3
    assert memory_bytes(parse_amounts("gpu=1")) == 0


# --- what a process has taken


def test_the_page_tells_what_a_task_had_when_it_began() -> None:
    descriptor = RunningPage.create()
    page = RunningPage(descriptor)
    try:
        assert page.memory_at_begin(0) is None
        page.note_memory(0, 123)
        assert page.memory_at_begin(0) == 123
        assert page.memory_at_begin(1) is None
    finally:
        page.close()
        os.close(descriptor)


@contextmanager
def program(text: str) -> Iterator[tuple[int, Callable[[], None]]]:
    """Run a program that has `step()`, which waits until it may go on; yield its pid and what lets it go on.

    It takes no memory while it waits.
    """
    lines = (
        f"import os, sys, mmap\ndef step():\n    print('here', flush=True)\n    sys.stdin.readline()\n{text}\nstep()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def go_on() -> None:
        stdin.write("\n")
        stdin.flush()
        until_it_waits()

    def until_it_waits() -> None:
        assert stdout.readline() == "here\n"
        # To wait takes some memory as well.
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", what="it does not wait")

    try:
        until_it_waits()
        yield process.pid, go_on
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stdin.close()
        stdout.close()


def grown(text: str, before: str = "") -> float:
    """Return the MiB that a process has taken which does this."""
    with program(f"{before}\nstep()\n{text}") as (pid, go_on):
        base = private_bytes(pid)
        assert base is not None
        assert used_bytes(pid, base) == 0
        go_on()
        return used_bytes(pid, base) / MIB


def test_memory_of_its_own_counts() -> None:
    assert grown("taken = b'x' * (60 << 20)") == pytest.approx(60, abs=10)


def test_memory_that_is_only_reserved_does_not_count() -> None:
    assert grown("reserved = mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)") < 10


def test_memory_that_it_has_given_back_does_not_count() -> None:
    assert grown("taken = b'x' * (60 << 20)\ndel taken") < 10


def test_files_and_shared_memory_that_it_maps_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"x" * (60 * MIB))
    text = f"file = open({str(path)!r}, 'r+b')\nmapped = mmap.mmap(file.fileno(), 0, flags={{}})\nsum(mapped[::4096])"
    for flags in ("mmap.MAP_SHARED", "mmap.MAP_PRIVATE"):
        assert grown(text.format(flags)) < 10
    # But what it changes is its own.
    assert grown(text.format("mmap.MAP_PRIVATE") + "\nmapped[:] = b'y' * len(mapped)") > 50


def forked(text: str, pipe: str = "outer") -> str:
    """Return a program that does this in a child, which stays, and goes on when that is done."""
    lines = ("taken = b''", text, f"os.write({pipe}[1], b'x')", "import time", "time.sleep(600)")
    inside = "\n".join("    " + line for line in "\n".join(lines).splitlines())
    return f"{pipe} = os.pipe()\nif not os.fork():\n{inside}\nos.read({pipe}[0], 1)"


def test_what_a_child_takes_counts() -> None:
    assert grown(forked("taken = b'x' * (60 << 20)")) == pytest.approx(60, abs=15)


def test_what_a_child_shares_with_its_parent_counts_once() -> None:
    before = "held = bytearray(b'x' * (80 << 20))"
    assert grown(forked("pass"), before) < 15
    assert grown(forked("held[::4096] = b'y' * len(held[::4096])"), before) == pytest.approx(80, abs=15)


def test_what_a_child_of_a_child_takes_counts() -> None:
    assert grown(forked(forked("taken = b'x' * (60 << 20)", "inner"))) == pytest.approx(60, abs=15)


def test_a_process_that_is_gone_has_taken_nothing(tmp_path: Path) -> None:
    assert used_bytes(1, 0, tmp_path) == 0
    assert private_bytes(1, tmp_path) is None


def test_a_process_that_may_not_be_looked_at_closely_is_measured_by_what_is_certain(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    for pid, pages, children in ((7, 100, "8"), (8, 400, "")):
        (tmp_path / f"{pid}/task/{pid}").mkdir(parents=True)
        (tmp_path / f"{pid}/task/{pid}/children").write_text(children)
        (tmp_path / f"{pid}/statm").write_text(f"9999 {pages + 5} 5 1 0 1 0\n")
    assert used_bytes(7, 50 * page, tmp_path) == 350 * page
