"""How a run is spread over several processes (`pytest -n 2`): which gets which module, and what must be gone at the end.

Imported only where pytest-xdist is in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from scaler_protocol.testing.waiting import wait_until

PROCESSES_MAX = 4
"""Each runs clusters of several processes, and a few tests take gigabytes."""

SECONDS_FILE = Path(__file__).with_name("module_seconds.json")
"""How long modules take that take long, in a spread run on two cores. A run with SCALER_WRITE_MODULE_SECONDS=1 writes it."""

LONG_SECONDS = 10.0
"""Modules that take less are not in that file: they begin after the others, in the order in which they are collected."""

END_SECONDS = 15.0
"""What the last tests have started may take so long to end."""


def processes_for_this_machine() -> int:
    """Two for every core that this program may use, with a bound: tests of clusters wait for half of their time."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(2 * cores, PROCESSES_MAX)


class ModuleScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Modules as a whole, in the order in which they are collected: see `longest_first`.

    A test that ends its process, by a crash or because it hangs, has failed and is not tried again. The scheduling that comes
    with pytest-xdist gives it to the next process, and so on, until none is left for the other tests.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process that has ended; return the test in which it did, and give what is left of its modules to others."""
        modules = self.assigned_work.pop(node)
        unfinished = [(tests, test) for tests in modules.values() for test, done in tests.items() if not done]
        if not unfinished:
            return None
        crashed: str
        tests, crashed = unfinished[0]
        tests[crashed] = True
        for module, tests in reversed(modules.items()):
            if not all(tests.values()):
                self.workqueue[module] = tests
                self.workqueue.move_to_end(module, last=False)
        for other in self.nodes:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        """Give a process more to do, once it has collected the tests: one that replaces another needs a while for that."""
        if node in self.registered_collections:
            super()._reschedule(node)


# --- how long modules take


class _Seconds:
    """What this run has taken so far, in the process that spreads it."""

    def __init__(self) -> None:
        self.of_module: defaultdict[str, float] = defaultdict(float)
        self.first = float("inf")
        self.last: dict[str, float] = {}
        """When each process ended its last test."""


_seconds = _Seconds()


def known_seconds() -> dict[str, float]:
    """Return how long modules take of which that is known."""
    seconds: dict[str, float] = json.loads(SECONDS_FILE.read_text(encoding="utf-8"))
    return seconds


def longest_first(items: Sequence[pytest.Item], seconds: Mapping[str, float]) -> list[pytest.Item]:
    """Return these tests, with those of long modules before the others. The order inside each module stays."""
    return sorted(items, key=lambda item: -seconds.get(_module_of(item.nodeid), 0.0))


def note(report: pytest.TestReport) -> None:
    """Take up how long a part of a test took, in one of the processes of the run."""
    if not report.stop:
        # Its process crashed: nobody knows.
        return
    _seconds.of_module[_module_of(report.nodeid)] += report.duration
    _seconds.first = min(_seconds.first, report.start)
    _seconds.last[vars(report)["node"].gateway.id] = report.stop


def how_full() -> str:
    """Return a line that says how well the processes of the run were used."""
    if not _seconds.last:
        return "no test has run"
    ended = sorted(_seconds.last.values())
    took = ended[-1] - _seconds.first
    share = sum(_seconds.of_module.values()) / max(took * len(ended), 0.001)
    alone = ended[-1] - ended[-2] if len(ended) > 1 else took
    used = os.times()
    return (
        f"{len(ended)} processes ran tests in {share:.0%} of {took:.0f} s, the last one alone for {alone:.0f} s; all that they "
        f"started took {used.children_user + used.children_system:.0f} s of processor time"
    )


def write_seconds() -> None:
    """Write how long modules took, of a run of the whole suite."""
    long = {module: round(seconds) for module, seconds in _seconds.of_module.items() if seconds >= LONG_SECONDS}
    ordered = dict(sorted(long.items(), key=lambda pair: (-pair[1], pair[0])))
    SECONDS_FILE.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")


def _module_of(test: str) -> str:
    return test.split("::", 1)[0]


# --- the end of a run


def adopt_orphans() -> None:
    """Become the parent of whatever a process of tests leaves behind when it ends. Linux."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def end_what_is_left() -> list[str]:
    """Wait for all processes of the run; kill those that stay, and say what they were."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not _children(), END_SECONDS, pause_seconds=0.05)
    left = []
    for process in _children():
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(f"process {process.pid}: {' '.join(process.cmdline())[:200]}")
            process.kill()
    return left


def _children() -> list[psutil.Process]:
    children = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                children.append(process)
    return children
