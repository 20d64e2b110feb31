"""A run may be spread over several processes (`pytest -n 2`): each has surroundings of its own, and says what hangs in it."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from typing import Any

import pytest
from _pytest.config import create_terminal_writer
from _pytest.terminal import TerminalReporter

from scaler_protocol.service import module_path
from tests.own_surroundings import take_own_surroundings

FOLDERS = pytest.StashKey[dict[str, str]]()
"""In the process that spreads the run: the temporary folders of the others, by their names."""

LEFT = pytest.StashKey[list[str]]()

WRITES_SECONDS = pytest.StashKey[bool]()
"""Whether this run writes how long modules take."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take surroundings before anything is started."""
    _let_python_keep_bytecode()
    # To find plugins, each service would read the metadata of all packages here, of which there are far more than users have.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    # Removed, because tests look at what a task sees of these variables.
    config.stash[WRITES_SECONDS] = bool(os.environ.pop("SCALER_WRITE_MODULE_SECONDS", ""))
    # What a cluster does would depend on which modules of tests have been imported.
    module_path.IMPORTED_AHEAD = ""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        take_own_surroundings(worker["temporary_folder"])
        # Where pytest-timeout writes the stacks of a test that hangs. The standard output of these processes goes nowhere.
        vars(config)["get_terminal_writer"] = lambda: create_terminal_writer(config, sys.__stderr__)


def _let_python_keep_bytecode() -> None:
    """Have each module compiled once, also where this variable is set, as in many containers.

    A test of a cluster starts three processes or more. Without bytecode each compiles all libraries that it imports, which takes
    longer than everything else that it does until it is ready.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`."""
    from tests.parallel_run import processes_for_this_machine

    return processes_for_this_machine()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole modules to each process."""
    from tests.parallel_run import ModuleScheduling, adopt_orphans

    adopt_orphans()
    config.option.loadscopereorder = False
    return ModuleScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a spread run the longest modules begin first, so that none of them is alone at the end."""
    if hasattr(config, "workerinput"):
        from tests.parallel_run import known_seconds, longest_first

        items[:] = longest_first(items, known_seconds())


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from what there is now: all modules of tests and their libraries, which stay until the end.

    To look through their 600,000 objects takes half a second, in each test that collects garbage to see what is freed.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that spreads the run: how long each module takes."""
    if hasattr(report, "node"):
        from tests.parallel_run import note

        note(report)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A temporary folder for a process that is about to start. The one that makes it removes it, also after a crash."""
    name = node.gateway.id
    folder = node.workerinput["temporary_folder"] = tempfile.mkdtemp(prefix=f"tests-{name}-")
    node.config.stash.setdefault(FOLDERS, {})[name] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(report: pytest.TestReport) -> None:
    """Say where to look."""
    report.longrepr = f"{report.longrepr}: what it wrote last is above, with all stacks if the test took too long"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After all processes of a spread run have ended, nothing that they have started is left."""
    folders = session.config.stash.get(FOLDERS, None)
    if folders is None:
        return
    from tests.parallel_run import end_what_is_left, write_seconds

    left = session.config.stash[LEFT] = end_what_is_left()
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
    if session.config.stash[WRITES_SECONDS]:
        write_seconds()
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say how well a spread run filled its processes, and name what was left behind."""
    if FOLDERS in config.stash:
        from tests.parallel_run import how_full

        terminalreporter.write_line(how_full())
    for line in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"left behind: {line}", red=True)
