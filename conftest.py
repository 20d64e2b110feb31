"""Each process of a parallel run (`pytest -n 2`) has surroundings of its own, and says what hangs in it."""

from __future__ import annotations

import shutil
import sys

import pytest
from _pytest.config import create_terminal_writer

from tests.own_surroundings import take_own_surroundings

TEMPORARY_FOLDER = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take them before anything is started."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[TEMPORARY_FOLDER] = take_own_surroundings(worker["workerid"])
        # Where pytest-timeout writes the stacks of a test that hangs. The standard output of these processes goes nowhere.
        vars(config)["get_terminal_writer"] = lambda: create_terminal_writer(config, sys.__stderr__)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was taken."""
    folder = config.stash.get(TEMPORARY_FOLDER, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
