"""What the program that starts a local cluster has loaded, its processors import before a task needs it."""

from __future__ import annotations

import sys

import numpy  # noqa: F401
import psutil
import pytest

from scaler import SchedulerClusterCombo
from scaler_protocol.service import module_path
from scaler_protocol.service.module_path import IMPORT_AHEAD_VARIABLE, program_modules
from scaler_protocol.testing.waiting import wait_until


def processors_with_numpy() -> int:
    count = 0
    for child in psutil.Process().children(recursive=True):
        try:
            count += any("_multiarray_umath" in mapped.path for mapped in child.memory_maps())
        except psutil.Error:
            # It has ended meanwhile.
            continue
    return count


@pytest.fixture(autouse=True)
def as_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_path, "IMPORTED_AHEAD", "numpy")


def test_processors_import_numpy_while_they_wait_where_the_program_has_loaded_it() -> None:
    with SchedulerClusterCombo(n_workers=2):
        wait_until(lambda: processors_with_numpy() == 2, 30.0, what=lambda: f"{processors_with_numpy()} of 2")


def test_what_the_program_has_not_loaded_is_not_among_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_modules() == ("numpy",)
    monkeypatch.setenv(IMPORT_AHEAD_VARIABLE, "")
    assert program_modules() == ()
    monkeypatch.setenv(IMPORT_AHEAD_VARIABLE, "psutil, numpy")
    assert program_modules() == ("psutil", "numpy")
    monkeypatch.delenv(IMPORT_AHEAD_VARIABLE)
    without = {name: module for name, module in sys.modules.items() if name != "numpy"}
    monkeypatch.setattr(sys, "modules", without)
    assert program_modules() == ()
