"""Groups of clients get core seconds by their weights from real processes, also after a restart of the scheduler."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import pytest

from scaler import Client, ScalerFuture
from tests.integration import functions
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.test_group_shares import groups_of
from tests.integration.test_monitors import start_ui, wait_live

pytestmark = pytest.mark.without_keys("without keys, clients name their groups")

WORKERS = 4
START_SECONDS = 2.0
"""So long after the first task of the second group what each had before has no effect any more."""
MEASURED_SECONDS = 14.0


def run_for(seconds: float) -> tuple[float, float]:
    """Take a slot for so long, whatever else the machine does. Return from when until when, by a clock of the whole machine."""
    began = time.monotonic()
    time.sleep(seconds)  # sleeps: that is what the task takes
    return began, time.monotonic()


def process_after(seconds: float) -> int:
    run_for(seconds)
    return os.getpid()


def squares_of(count: int) -> list[int]:
    with Client() as client:
        return client.map(functions.square, range(count))


def seconds_between(tasks: Iterable[ScalerFuture], begin: float, end: float) -> float:
    """Return for how many core seconds these tasks ran between two times."""
    ran: Iterable[tuple[float, float]] = (task.result() for task in tasks if task.done() and not task.cancelled())
    return sum([max(0.0, min(ended, end) - max(began, begin)) for began, ended in ran])


def seconds_from(begin: float) -> list[float]:
    return [begin - START_SECONDS + second for second in range(round(START_SECONDS + MEASURED_SECONDS))]


def assert_shared(deployment: Deployment, scheduler: Service) -> None:
    """Two clients with tasks of very different lengths get 3:1 of the core seconds."""
    whole = START_SECONDS + MEASURED_SECONDS + 10.0
    with (
        deployment.client(scheduler, group="pricing") as pricing,
        deployment.client(scheduler, group="research") as research,
    ):
        quick = [pricing.submit(run_for, 0.01) for _ in range(round(WORKERS * whole / 0.01))]
        long = [
            research.submit(run_for, 0.11 if number % 3 else 0.04) for number in range(round(WORKERS * whole / 0.04))
        ]
        began, _ = long[0].result()
        begin = max(began, time.monotonic()) + START_SECONDS
        end = begin + MEASURED_SECONDS
        # Those that run at the end must have ended to be counted.
        time.sleep(end + 0.5 - time.monotonic())  # sleeps: what ran in a time is what is measured
        assert not quick[-1].done()
        assert not long[-1].done()
        shares = [seconds_between(tasks, begin, end) for tasks in (quick, long)]
        each = [
            tuple(round(seconds_between(tasks, at, at + 1), 2) for tasks in (quick, long)) for at in seconds_from(begin)
        ]
        assert shares[0] / shares[1] == pytest.approx(3, rel=0.05), f"{shares}, of which in each second {each}"
        for task in quick + long:
            task.cancel()


@pytest.mark.timeout(180)
def test_core_seconds_are_shared_three_to_one_also_after_a_restart(deployment: Deployment) -> None:
    shares = ("--share", "pricing=3,research=1")
    scheduler = deployment.scheduler(*shares)
    deployment.workers(scheduler, count=WORKERS)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    with deployment.client(scheduler, group="pricing") as stays, deployment.client(scheduler) as other:
        assert stays.submit(squares_of, 5).result() == [0, 1, 4, 9, 16]
        wait_for("the nested client to be shown", lambda: groups_of(base)["pricing"]["clients"] == 2)
        # A worker that still imports this module has its slot taken, and runs nothing.
        wait_for(
            "all workers to have imported this module",
            lambda: len(set(other.map(process_after, [0.2] * WORKERS))) == WORKERS,
        )
        assert_shared(deployment, scheduler)
        os.kill(scheduler.pid, signal.SIGKILL)
        scheduler.wait_end()
        deployment.scheduler(
            *shares, "--monitor-address", str(scheduler.addresses["monitor"]), address=scheduler.address
        )
        assert (stays.submit(functions.square, 3).result(), other.submit(functions.square, 4).result()) == (9, 16)

        def are_back() -> bool:
            groups = groups_of(base)
            return bool(groups["pricing"]["clients"] and groups["default"]["clients"])

        wait_for("the clients to be in their groups again", are_back)
