"""Monitors give way to what they watch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scaler_ui.priority import PRIORITY


@pytest.mark.parametrize(("chosen", "expected"), [(0, PRIORITY), (3, 3), (15, 15)])
def test_a_monitor_gives_way_unless_somebody_chose_its_priority(chosen: int, expected: int) -> None:
    if os.getpriority(os.PRIO_PROCESS, 0):
        pytest.skip("somebody has chosen a priority for these tests")
    program = (
        f"import os, threading; os.nice({chosen}); from scaler_ui.priority import give_way; give_way(); "
        "threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0))).start()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert int(done.stdout) == expected
