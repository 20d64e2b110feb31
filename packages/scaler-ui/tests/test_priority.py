"""Monitors give way to what they watch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scaler_ui.priority import PRIORITY


@pytest.mark.parametrize("chosen", [0, 3, 15])
def test_a_monitor_gives_way_unless_somebody_chose_its_priority(chosen: int) -> None:
    program = (
        f"import os, threading; os.nice({chosen}); from scaler_ui.priority import give_way; give_way(); "
        "threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0))).start()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    # These tests may have been given a priority themselves, and hand it on.
    before = min(19, os.getpriority(os.PRIO_PROCESS, 0) + chosen)
    assert int(done.stdout) == (before or PRIORITY)
