"""How a run is spread over several processes (`pytest -n 2`): which gets which module, and what must be gone at the end.

Imported only where pytest-xdist is in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import psutil
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from scaler_protocol.testing.waiting import wait_until

PROCESSES_MAX = 4
"""Each runs clusters of several processes, and a few tests take gigabytes."""

END_SECONDS = 15.0
"""What the last tests have started may take so long to end."""


def processes_for_this_machine() -> int:
    """Three for every two cores that this program may use, with a bound: tests of clusters wait for half of their time."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores + cores // 2, PROCESSES_MAX)


class ModuleScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Modules as a whole, in the order in which they are collected: tests of packages, which are short, come last.

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
