"""Interrupts at random moments leave a client that works, and leave nothing behind. See `tests.integration.interruptions`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scaler import Client, SchedulerClusterCombo

SECONDS_MAX = 240
HANDLERS_MAX = 5
"""So many handlers run inside each other, and one or two whose signals were under way."""

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(SECONDS_MAX + 30)
@pytest.mark.parametrize("interrupts", [1000, pytest.param(2000, marks=pytest.mark.soak)])
def test_interrupts_at_random_moments(interrupts: int) -> None:
    seed = int(os.environ.get("SCALER_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"SCALER_SEED={seed}")
    with SchedulerClusterCombo(n_workers=2) as combo:
        program = [sys.executable, "-m", "tests.integration.interruptions", combo.get_address()]
        command = [*program, "--interrupts", str(interrupts), "--seed", str(seed)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, cwd=ROOT)
    assert not ended.returncode, f"seed {seed}\n{ended.stderr[-6000:]}"
    report = json.loads(ended.stdout)
    assert report["reentered"] > interrupts / 20, report
    assert not report["vanished"], f"{report}\n{ended.stderr[-6000:]}"
    print(report)


def test_a_signal_s_handler_uses_the_client_while_its_thread_is_inside_it() -> None:
    results: list[int] = []
    handlers = 0
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:

        def handler(_number: int, _frame: object) -> None:
            nonlocal handlers
            handlers += 1
            results.append(client.submit(abs, -len(results)).result(20))
            handlers -= 1

        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.002):
                # Python runs the handler of the next signal inside that of the last one: signals that came faster than they are
                # answered would end in a RecursionError, whatever the handler does.
                if handlers < HANDLERS_MAX:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        sender = threading.Thread(target=send)
        before = signal.signal(signal.SIGUSR1, handler)
        try:
            sender.start()
            deadline = time.monotonic() + 40
            while len(results) < 200:
                assert client.submit(abs, -7).result(20) == 7
                assert time.monotonic() < deadline
        finally:
            # In this order, or a signal that nobody handles ends the whole test run without a word.
            stop.set()
            sender.join()
            signal.signal(signal.SIGUSR1, before)
    assert len(results) >= 200
