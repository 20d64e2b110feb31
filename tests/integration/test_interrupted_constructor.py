"""A client whose constructor is interrupted leaves the scheduler at once, and does not fall silent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scaler.client
from scaler import Client, SchedulerClusterCombo
from scaler_protocol.testing.interrupted_lines import interrupted_at
from tests.integration.deployment import wait_for

FOLDER = str(Path(scaler.client.__file__).parent)
LINES_MAX = 2_000


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
        while interrupted_at(interrupts + 1, lambda: made.append(Client(address)), FOLDER) and interrupts < LINES_MAX:
            interrupts += 1
        for client in made:
            client.disconnect()
        assert interrupts > 50
        # Less than the minute after which the scheduler gives up who is silent.
        wait_for("all have left", lambda: not clients_of(combo.get_monitor_address(), tmp_path), 30)
