"""20,000 interrupts of a client: the long form of `tests/integration/test_interruptions.py`. `nox -s soak`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from scaler import SchedulerClusterCombo

INTERRUPTS, ROUNDS = 2000, 10
ROOT = Path(__file__).parents[2]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_thousand_interrupts() -> None:
    with SchedulerClusterCombo(n_workers=2) as combo:
        for _ in range(ROUNDS):
            seed = random.SystemRandom().randrange(1_000_000)
            program = [sys.executable, "-m", "tests.integration.interruptions", combo.get_address()]
            command = [*program, "--interrupts", str(INTERRUPTS), "--seed", str(seed)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT)
            assert not ended.returncode, f"seed {seed}\n{ended.stderr[-6000:]}"
            print(json.loads(ended.stdout))
