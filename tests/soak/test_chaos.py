"""Random kills under load for minutes: every future ends, results are right, nothing is left behind. `nox -s chaos`.

`SCALER_CHAOS_SECONDS` sets how long (60), `SCALER_CHAOS_SEED` repeats the choices of an earlier run.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

import pytest

from scaler import ScalerFuture
from scaler.errors import ScalerError
from tests.integration.deployment import Deployment, Service, is_gone, traces, wait_for

SECONDS = float(os.environ.get("SCALER_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("SCALER_CHAOS_SEED", str(time.time_ns() % 100_000)))
END_S = 90.0
"""Every future has ended so long after the last kill: the client's timeout, and attempts that begin anew."""


def work(number: int, seconds: float) -> int:
    time.sleep(seconds)  # sleeps: the task takes so long
    return number * 7


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_everything_is_killed_at_random(tmp_path: Path) -> None:
    print(f"\nseed {SEED}")
    dice = random.Random(SEED)
    before = traces()
    deployment = Deployment(tmp_path)
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address, "-mta", "10")
    hosts: list[Service] = [deployment.workers(scheduler, count=2) for _ in range(2)]
    client = deployment.client(scheduler)
    futures: list[tuple[int, ScalerFuture]] = []
    deaths: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            for _ in range(dice.randint(1, 100)):
                number = len(futures)
                futures.append((number, client.submit(work, number, dice.choice((0.0, 0.001, 0.01, 0.2)))))
            wait([future for _, future in futures[-20:]], timeout=dice.uniform(0.0, 1.0))
            victim = dice.choice(("processor", "processor", "processor", "agent", "scheduler", "nobody"))
            deaths[victim] += 1
            if victim == "processor":
                started = re.findall(r"started: processor (\d+)", dice.choice(hosts).log())
                living = [int(pid) for pid in started if not is_gone(int(pid))]
                if living:
                    os.kill(dice.choice(living), signal.SIGKILL)
            elif victim == "agent":
                host = hosts.pop(dice.randrange(len(hosts)))
                host.kill()
                hosts.append(deployment.workers(scheduler, count=2))
            elif victim == "scheduler":
                scheduler.kill()
                time.sleep(dice.uniform(0.0, 2.0))  # sleeps: how long there is no scheduler
                scheduler = deployment.scheduler("-osa", storage.address, "-mta", "10", address=scheduler.address)
        done, silent = wait([future for _, future in futures], timeout=END_S)
        assert not silent, f"{len(silent)} of {len(futures)} futures are silent"
        errors: Counter[str] = Counter()
        for number, future in futures:
            error = future.exception()
            if error is None:
                assert future.result() == number * 7
            else:
                assert isinstance(error, ScalerError)
                errors[type(error).__name__] += 1
        print(f"{len(done):,} tasks, killed: {dict(deaths)}, errors: {dict(errors)}")
        assert sum(errors.values()) <= len(futures) // 100, errors
    finally:
        deployment.close()
    wait_for("nothing left behind", lambda: not traces().beyond(before), 20)
