"""A run that is spread over processes says which test hung or crashed, goes on with the others, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from xdist.remote import Producer

from tests.integration.deployment import ROOT, is_gone
from tests.parallel_run import LONG_SECONDS, ModuleScheduling, known_seconds, longest_first

HANGS_AND_CRASHES = """
import faulthandler, subprocess, time, pytest

def test_hangs():
    time.sleep(100)

def test_crashes():
    faulthandler._sigsegv()

def test_leaves_a_process():
    open("left", "w").write(str(subprocess.Popen(["sleep", "100"], start_new_session=True).pid))

@pytest.mark.skip(reason="it is told at the end")
def test_is_skipped():
    pass
"""

PASSES = """
import pytest

@pytest.mark.parametrize("number", range(10))
def test_passes(number):
    pass
"""

PATIENCE_SECONDS = 120.0


class Node:
    """A process of a spread run that does nothing but note what it is given."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self, tests: list[str]) -> None:
        self._tests = tests
        self.given: list[str] = []

    def send_runtest_some(self, places: list[int]) -> None:
        self.given += [self._tests[place] for place in places]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_processes_that_end_one_after_another_lose_no_test() -> None:
    """The second one ends while that which replaces the first one still collects the tests."""
    tests = [f"test_{module}.py::test_{number}" for module in "abcdef" for number in range(3)]
    config = SimpleNamespace(option=SimpleNamespace(loadscopereorder=False), getvalue=lambda _name: ["2*popen"])
    scheduling = ModuleScheduling(config, Producer("test", enabled=False))

    def add(*, has_collected: bool) -> Node:
        node = Node(tests)
        scheduling.add_node(node)
        if has_collected:
            scheduling.add_node_collection(node, tests)
        return node

    first, second = add(has_collected=True), add(has_collected=True)
    scheduling.schedule()
    assert (first.given[0], second.given[0]) == (tests[0], tests[3])
    assert scheduling.remove_node(first) == tests[0]
    third = add(has_collected=False)
    assert scheduling.remove_node(second) == tests[3]
    fourth = add(has_collected=True)
    scheduling.schedule()
    assert not third.given
    scheduling.add_node_collection(third, tests)
    scheduling.schedule()
    while not scheduling.tests_finished:
        for node in (third, fourth):
            done = [
                test for unit in scheduling.assigned_work[node].values() for test, is_done in unit.items() if is_done
            ]
            for test in [test for test in node.given if test not in done]:
                scheduling.mark_test_complete(node, tests.index(test))
    assert sorted(third.given + fourth.given) == sorted(set(tests) - {tests[0], tests[3]})
    assert scheduling.remove_node(third) is None


def test_long_modules_begin_first_and_tests_of_a_module_stay_in_order() -> None:
    items = [SimpleNamespace(nodeid=f"test_{module}.py::test_{number}") for module in "abcd" for number in range(2)]
    ordered = longest_first(cast(Any, items), {"test_d.py": 30.0, "test_b.py": 20.0})
    assert [item.nodeid for item in ordered[::2]] == [f"test_{module}.py::test_0" for module in "dbac"]
    assert [item.nodeid for item in ordered[1::2]] == [f"test_{module}.py::test_1" for module in "dbac"]


def test_the_known_long_modules_are_there() -> None:
    assert [module for module in known_seconds() if not (ROOT / module).is_file()] == [], (
        "SCALER_WRITE_MODULE_SECONDS=1"
    )
    assert min(known_seconds().values()) >= LONG_SECONDS


@pytest.mark.timeout(PATIENCE_SECONDS + 30)
def test_a_spread_run_goes_on_after_a_hang_and_a_crash_and_names_both(tmp_path: Path) -> None:
    conftest = (
        ROOT / "conftest.py"
    ).read_text() + "\nimport tests.parallel_run\ntests.parallel_run.END_SECONDS = 0.5\n"
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 5\ntimeout_method = thread\n")
    (tmp_path / "test_bad.py").write_text(HANGS_AND_CRASHES)
    (tmp_path / "test_good.py").write_text(PASSES)
    own = ("PYTEST_XDIST_", "PYTEST_CURRENT", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_timeout", "-n", "2", "-ra"],
        cwd=tmp_path,
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path),
            # Others take seconds to import, in each of the four processes.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, told
    # Each once, and all others after them.
    assert "2 failed, 11 passed, 1 skipped" in ended.stdout, told
    assert "FAILED test_bad.py::test_hangs" in ended.stdout
    assert "FAILED test_bad.py::test_crashes" in ended.stdout
    assert "it is told at the end" in ended.stdout
    assert re.search(r"\d processes ran tests in \d+% of \d+ s, the last one alone for \d+ s", ended.stdout), told
    # The stacks of both.
    assert "in test_hangs" in ended.stderr
    assert "in test_crashes" in ended.stderr
    left = int((tmp_path / "left").read_text())
    assert f"left behind: process {left}: sleep 100" in ended.stdout
    assert is_gone(left)
    assert not list(tmp_path.glob("tests-gw*"))


def test_python_keeps_bytecode_for_what_tests_start(tmp_path: Path) -> None:
    (tmp_path / "compiled_once.py").touch()
    subprocess.run([sys.executable, "-c", "import compiled_once"], cwd=tmp_path, check=True, timeout=PATIENCE_SECONDS)
    assert list((tmp_path / "__pycache__").glob("compiled_once.*.pyc"))
