"""Outcomes of tests in a file, for pytest plugins that run the tests of other libraries.

With `--outcomes FILE` a run can be continued: tests that have an outcome in the file are left out, and each outcome is
written as soon as there is one. `--seconds N` ends the run after the test that is under way then. `--only FILE` leaves out all
tests that the file, a JSON list, does not name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

MESSAGE_CHARACTERS = 300


def add_options(parser: pytest.Parser) -> None:
    """Add what `register` reads."""
    parser.addoption("--outcomes", type=Path, help="JSON lines: a test that begins, or its outcome")
    parser.addoption("--only", type=Path, help="a JSON list of the tests to run")
    parser.addoption("--seconds", type=float, default=float("inf"), help="how long to begin further tests")


def register(config: pytest.Config) -> None:
    """Write outcomes, where there is `--outcomes`."""
    if path := config.getoption("--outcomes"):
        config.pluginmanager.register(_Outcomes(path, config.getoption("--seconds"), config.getoption("--only")))


def read_outcomes(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last line of each test in a file of outcomes. A test that has begun and not ended has no `outcome`."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["test"]: line for line in map(json.loads, lines)}


class _Outcomes:
    """Leaves out what has an outcome, and writes the outcomes of the others."""

    def __init__(self, path: Path, seconds: float, only: Path | None) -> None:
        self._known = {test for test, line in read_outcomes(path).items() if "outcome" in line}
        self._only: set[str] | None = set(json.loads(only.read_text())) if only else None
        self._file: IO[str] = path.open("a", buffering=1)
        self._end = time.monotonic() + seconds
        self._reports: list[pytest.TestReport] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out = [item for item in items if not self._is_to_run(_name(item))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if self._is_to_run(_name(item))]

    def _is_to_run(self, test: str) -> bool:
        return test not in self._known and (self._only is None or test in self._only)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        test = _name(item)
        self._reports = []
        self._write({"test": test})
        begun = time.monotonic()
        result = yield
        # The first phase that did not pass decides.
        decisive = next((report for report in self._reports if _outcome(report) != "passed"), None)
        line: dict[str, Any] = {"test": test, "outcome": "passed" if decisive is None else _outcome(decisive)}
        line["seconds"] = round(time.monotonic() - begun, 2)
        if decisive is not None and decisive.failed:
            crash = getattr(decisive.longrepr, "reprcrash", None)
            line["message"] = str(crash.message if crash else decisive.longrepr)[:MESSAGE_CHARACTERS]
        self._write(line)
        if time.monotonic() > self._end:
            item.session.shouldstop = "the time of this portion is over"
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")


def _name(item: pytest.Item) -> str:
    """Return a test's name with its module's, wherever Dask is installed."""
    module = item.getparent(pytest.Module)
    assert module is not None
    return f"{module.obj.__name__}::{item.nodeid.partition('::')[2]}"


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return "failed" if report.failed else report.outcome
