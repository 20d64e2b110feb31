"""Chains, trees and graphs of 10,000 tasks while schedulers, agents and processors are killed. `nox -s chaos -- -s -k dependent`.

`SCALER_CHAOS_SIZE` sets another number of tasks, `SCALER_CHAOS_SEED` repeats the choices of an earlier run.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration import dependent_work
from tests.integration.deployment import Deployment, Service, is_gone, traces, wait_for

SIZE = int(os.environ.get("SCALER_CHAOS_SIZE", "10000"))
SEED = int(os.environ.get("SCALER_CHAOS_SEED", str(time.time_ns() % 100_000)))
KILLS = {"scheduler": 2, "agent": 4, "processor": 8}
"""How often each is killed during one piece of work. More often is no use: the scheduler waits some seconds after each start."""
END_S = 240.0


class Victims:
    """A deployment of which parts are killed, and started again."""

    def __init__(self, deployment: Deployment, dice: random.Random) -> None:
        self._deployment = deployment
        self._dice = dice
        self._flags = ("-osa", deployment.storage().address, "-mta", "30")
        self._scheduler = deployment.scheduler(*self._flags)
        self._hosts: list[Service] = [deployment.workers(self._scheduler, count=2) for _ in range(2)]
        self.client = deployment.client(self._scheduler)
        self.killed: Counter[str] = Counter()

    def kill(self, kind: str) -> None:
        """Kill one, and start it again where nobody else does."""
        self.killed[kind] += 1
        if kind == "scheduler":
            self._scheduler.kill()
            time.sleep(self._dice.uniform(0.0, 1.0))  # sleeps: how long there is no scheduler
            address = self._scheduler.address
            self._scheduler = self._deployment.scheduler(*self._flags, address=address)
        elif kind == "agent":
            self._hosts.pop(self._dice.randrange(len(self._hosts))).kill()
            self._hosts.append(self._deployment.workers(self._scheduler, count=2))
        else:
            started = re.findall(r"started: processor (\d+)", self._dice.choice(self._hosts).log())
            living = [int(pid) for pid in started if not is_gone(int(pid))]
            if living:
                os.kill(self._dice.choice(living), signal.SIGKILL)


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", KILLS)
def test_dependent_tasks_while_processes_are_killed(tmp_path: Path, kind: str) -> None:
    print(f"\nseed {SEED}, {SIZE:,} tasks")
    before = traces()
    deployment = Deployment(tmp_path)
    try:
        victims = Victims(deployment, random.Random(SEED))
        for make in dependent_work.SHAPES.values():
            _run(victims, kind, make, str(tmp_path / "never"))
    finally:
        deployment.close()
    wait_for("nothing left behind", lambda: not traces().beyond(before), 20)


def _run(
    victims: Victims,
    kind: str,
    make: Callable[..., dependent_work.Work],
    gate: str,
) -> None:
    """Run one piece of work, and kill while it is submitted and while it runs."""
    dice = random.Random(SEED)
    killed_before = sum(victims.killed.values())
    ended = threading.Event()
    began = time.monotonic()

    def kill() -> None:
        for _ in range(KILLS[kind]):
            if ended.wait(dice.uniform(0.05, 0.5)):
                return
            victims.kill(kind)

    killer = threading.Thread(target=kill, name="killer")
    killer.start()
    try:
        work = make(victims.client, SIZE, gate)
        outcome = work.check(END_S)
    finally:
        ended.set()
        killer.join(60)
    kills = sum(victims.killed.values()) - killed_before
    print(f"{outcome}; {kills} times the {kind} was killed; {time.monotonic() - began:.1f} s")
    assert kills
