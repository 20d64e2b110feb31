"""Fixtures for tests with real processes: deployments on free ports, nothing left behind, logs where a test failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler import Client
from tests.integration.deployment import Deployment, Traces, become_subreaper, heed_interrupts, traces, wait_for

become_subreaper()
heed_interrupts()

_open: list[Deployment] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Shows the logs of every running deployment with a failed test."""
    report = yield
    if report.failed:
        for deployment in _open:
            report.sections += [(f"log {name}", text) for name, text in deployment.logs()]
    return report


@pytest.fixture(scope="module", autouse=True)
def nothing_left_by_module() -> Iterator[None]:
    """After the last test of a module no process, port, shared memory file or thread is left."""
    before = traces()
    yield
    _assert_nothing_beyond(before)


def _assert_nothing_beyond(before: Traces) -> None:
    left: list[str] = []

    def nothing_left() -> bool:
        left[:] = traces().beyond(before)
        return not left

    try:
        wait_for("nothing left behind", nothing_left, 15.0)
    except AssertionError:
        pytest.fail("left behind: " + "; ".join(left))


def _deploy(folder: Path) -> Iterator[Deployment]:
    deployment = Deployment(folder)
    _open.append(deployment)
    try:
        yield deployment
    finally:
        try:
            deployment.close()
        finally:
            _open.remove(deployment)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Processes of one test; afterwards nothing of them is left."""
    before = traces()
    yield from _deploy(tmp_path)
    _assert_nothing_beyond(before)


@pytest.fixture(scope="module")
def module_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Processes all tests of a module share."""
    yield from _deploy(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="module")
def address(module_deployment: Deployment) -> str:
    """A scheduler with two workers, which have the capability "linux", for all tests of a module.

    With SCALER_TEST_ADDRESS it is the one there, which may be on another machine.
    """
    elsewhere = os.environ.get("SCALER_TEST_ADDRESS")
    if elsewhere:
        return elsewhere
    scheduler = module_deployment.scheduler()
    module_deployment.workers(scheduler, "--per-worker-capabilities", "linux")
    return scheduler.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    """A fresh client of the shared cluster."""
    with Client(address=address) as client:
        yield client
