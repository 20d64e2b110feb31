"""What the program that starts a local cluster has loaded, its processors import before a task needs it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType

import numpy  # noqa: F401
import psutil
import pytest

from scaler import Client, SchedulerClusterCombo
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


def idle_processors(seconds: float) -> int:
    """How many processors have been there for so long: children of the process that they are forked from."""
    count = 0
    for child in psutil.Process().children(recursive=True):
        try:
            parent = child.parent()
            both = [one.cmdline() for one in (child, parent) if one is not None]
            is_processor = len(both) == 2 and all("scaler_worker.processor" in command for command in both)
            count += is_processor and time.time() - child.create_time() > seconds
        except psutil.Error:
            # It has ended meanwhile.
            continue
    return count


def test_an_import_that_ends_its_processor_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, seen = "ends_its_processor", tmp_path / "seen"
    (tmp_path / f"{name}.py").write_text(f"import os\nopen({str(seen)!r}, 'a').write('x')\nos._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setenv(IMPORT_AHEAD_VARIABLE, name)
    with SchedulerClusterCombo(n_workers=1, logging_level="CRITICAL") as combo:
        wait_until(seen.exists, 30.0, what="it is imported")
        # Otherwise each one would end a tenth of a second after its start.
        wait_until(lambda: idle_processors(1.0) == 1, 30.0, what="the next processor stays")
        with Client(combo.get_address()) as client:
            assert client.submit(abs, -1).result(30) == 1
    assert seen.read_text() == "x"


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
