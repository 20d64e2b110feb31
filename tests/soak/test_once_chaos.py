"""Tasks with `idempotent=False` while everything is killed at random, for minutes: none runs twice. `nox -s chaos`.

Each task appends its number to a file, in one write. `SCALER_CHAOS_SECONDS` sets how long (60), `SCALER_CHAOS_SEED` repeats the
choices of an earlier run.
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
from typing import Any

import pytest

from scaler import Client, ScalerFuture
from scaler.errors import ScalerError
from tests.integration.deployment import Deployment, Service, is_gone, traces, wait_for

SECONDS = float(os.environ.get("SCALER_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("SCALER_CHAOS_SEED", str(time.time_ns() % 100_000)))
END_S = 120.0
"""Every future has ended so long after the last kill."""

LARGE_BYTES = 400_000
"""An argument of this size is in object storage."""

VICTIMS = ("processor", "processor", "processor", "agent", "agent", "scheduler", "scheduler", "storage", "nobody")


def note(path: str, number: int, seconds: float, argument: bytes = b"", *before: int) -> int:
    """Append the number, then take so long."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, b"%d\n" % number)
    finally:
        os.close(file)
    time.sleep(seconds)  # sleeps: the task takes so long
    return number * 7 + len(argument)


class Applicant:
    """Submits tasks of every shape, and knows what each must return."""

    def __init__(self, client: Client, path: Path, dice: random.Random) -> None:
        self._client = client.with_options(idempotent=False)
        self._path = str(path)
        self._dice = dice
        self.futures: list[tuple[int, ScalerFuture[Any], int]] = []
        """Number, future, and what that returns."""
        self.numbers = 0

    def submit_some(self) -> None:
        """Submit some tasks by themselves, a graph, or a map."""
        shape = self._dice.choice(("small", "small", "small", "large", "graph", "links"))
        seconds = self._dice.choice((0.0, 0.001, 0.01, 0.2))
        if shape == "small":
            for _ in range(self._dice.randint(1, 100 if seconds > 0.1 else 1000)):
                self._add(self._client.submit(note, self._path, self._next(), seconds))
        elif shape == "large":
            argument = self._dice.randbytes(LARGE_BYTES)
            for _ in range(self._dice.randint(1, 5)):
                self._add(self._client.submit(note, self._path, self._next(), seconds, argument), len(argument))
        elif shape == "links":
            future: Any = 0
            for _ in range(self._dice.randint(2, 10)):
                future = self._client.submit(note, self._path, self._next(), seconds, b"", future)
                self._add(future)
        else:
            numbers = [self._next() for _ in range(self._dice.randint(2, 20))]
            graph: dict[str, Any] = {"path": self._path, "seconds": seconds, "nothing": b""}
            for place, number in enumerate(numbers):
                earlier = [f"t{one}" for one in self._dice.sample(numbers[:place], min(place, 2))]
                graph[f"n{number}"] = number
                graph[f"t{number}"] = (note, "path", f"n{number}", "seconds", "nothing", *earlier)
            rows = self._client.get(graph, [f"t{number}" for number in numbers], block=False)
            for number in numbers:
                self.futures.append((number, rows[f"t{number}"], number * 7))

    def _next(self) -> int:
        self.numbers += 1
        return self.numbers

    def _add(self, future: ScalerFuture[Any], more: int = 0) -> None:
        self.futures.append((self.numbers, future, self.numbers * 7 + more))


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_no_task_runs_twice_whatever_is_killed(tmp_path: Path) -> None:
    print(f"\nseed {SEED}")
    dice = random.Random(SEED)
    before = traces()
    path = tmp_path / "numbers"
    path.touch()
    deployment = Deployment(tmp_path)
    storage = deployment.storage("--storage-path", str(tmp_path / "objects"))
    flags = ("-osa", storage.address, "-mta", "10")
    scheduler = deployment.scheduler(*flags)
    hosts: list[Service] = [deployment.workers(scheduler, count=2) for _ in range(2)]
    applicant = Applicant(deployment.client(scheduler), path, dice)
    deaths: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            applicant.submit_some()
            wait([future for _, future, _ in applicant.futures[-20:]], timeout=dice.uniform(0.0, 1.0))
            victim = dice.choice(VICTIMS)
            deaths[victim] += 1
            if victim == "processor":
                started = re.findall(r"started: processor (\d+)", dice.choice(hosts).log())
                living = [int(pid) for pid in started if not is_gone(int(pid))]
                if living:
                    os.kill(dice.choice(living), signal.SIGKILL)
            elif victim == "agent":
                hosts.pop(dice.randrange(len(hosts))).kill()
                hosts.append(deployment.workers(scheduler, count=2))
            elif victim == "scheduler":
                scheduler.kill()
                time.sleep(dice.uniform(0.0, 2.0))  # sleeps: how long there is no scheduler
                scheduler = deployment.scheduler(*flags, address=scheduler.address)
            elif victim == "storage":
                storage.kill()
                storage = deployment.storage("--storage-path", str(tmp_path / "objects"), address=storage.address)
        done, silent = wait([future for _, future, _ in applicant.futures], timeout=END_S)
        assert not silent, f"{len(silent)} of {len(applicant.futures)} futures are silent"
        runs = Counter(map(int, path.read_text().split()))
        errors: Counter[str] = Counter()
        for number, future, value in applicant.futures:
            assert runs[number] <= 1, f"task {number} ran {runs[number]} times"
            error = future.exception()
            if error is None:
                assert future.result() == value
                assert runs[number] == 1, f"task {number} has a result and never ran"
            else:
                assert isinstance(error, ScalerError)
                errors[type(error).__name__] += 1
        ended = len(done)
        print(f"{ended:,} tasks, {runs.total():,} ran, killed: {dict(deaths)}, errors: {dict(errors)}")
        # Each kill ends what runs at that moment, and what was on its way.
        assert runs.total() >= ended // 2
    finally:
        deployment.close()
    wait_for("nothing left behind", lambda: not traces().beyond(before), 20)
