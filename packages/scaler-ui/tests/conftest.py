"""Lets the tests import their synthetic cluster by name, and starts publishers and services that never stay behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from browser import Visit, chromium
from stage import Stage, stage_at_work
from synthetic_cluster import SyntheticScheduler

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests in a browser time: it needs much of the processor. Each of their waits has a deadline of its own."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name.startswith("test_browser"):
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture
def scheduler() -> Iterator[SyntheticScheduler]:
    """A publisher that plays the scheduler."""
    with SyntheticScheduler() as scheduler:
        yield scheduler


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium; where there is none, the test is skipped."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A cluster that has worked for a while: all tests of a module look at it, none change it."""
    stage = stage_at_work()
    yield stage
    stage.close()


@pytest.fixture
def visit(browser: Browser, stage: Stage) -> Iterator[Visit]:
    """A tab that shows this cluster."""
    visit = Visit(browser, stage.base)
    yield visit
    visit.close()
