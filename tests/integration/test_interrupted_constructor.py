"""A client whose constructor is interrupted leaves the scheduler at once, and does not fall silent."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import scaler.client
from scaler import Client, SchedulerClusterCombo
from tests.integration.deployment import wait_for

FOLDER = str(Path(scaler.client.__file__).parent)
LINES_MAX = 2_000


def interrupted_at(number: int, act: Callable[[], object]) -> bool:
    """Do `act` with a KeyboardInterrupt at the so many-th line of the client that it runs; return whether it got so far."""
    lines = 0

    def look(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            lines += 1
            if lines == number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return look

    # Else the collector could end an earlier client in there, whose lines would be counted and interrupted as well.
    gc.disable()
    sys.settrace(look)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
        gc.enable()
    return False


def clients_of(monitor: str, folder: Path) -> list[Any]:
    file = folder / "dump.json"
    command = [sys.executable, "-m", "scaler_ui.dump", monitor, "-o", str(file)]
    subprocess.run(command, timeout=30, check=True, stdout=subprocess.DEVNULL)
    clients: list[Any] = json.loads(file.read_text())["scheduler"]["clients"]
    return clients


@pytest.mark.timeout(120)
def test_no_interrupted_constructor_leaves_a_client_behind(tmp_path: Path) -> None:
    with SchedulerClusterCombo(0) as combo:
        address = combo.get_address()
        made: list[Client] = []
        interrupts = 0
        while interrupted_at(interrupts + 1, lambda: made.append(Client(address))) and interrupts < LINES_MAX:
            interrupts += 1
        made.pop().disconnect()
        assert interrupts > 50
        # Far less than the minute after which the scheduler gives up who is silent.
        wait_for("all have left", lambda: not clients_of(combo.get_monitor_address(), tmp_path), 10)
