"""kill -9 of every kind of process while tasks run: right results, clear errors, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaler import Client
from scaler.errors import ScalerError
from tests.integration import dependent_work
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, is_gone, wait_for


def processors_of(workers: Service) -> set[int]:
    """The processors that live, as the log names them."""
    started = {int(pid) for pid in re.findall(r"started: processor (\d+)", workers.log())}
    return {pid for pid in started if not is_gone(pid)}


DEPENDENT_TASKS = 120
"""Of each shape. `tests/soak/test_dependent_chaos.py` has thousands."""


def dependent_tasks(client: Client, tmp_path: Path) -> list[dependent_work.Work]:
    """Submit chains, trees and graphs, with large results in between, and tasks that fail or are cancelled."""
    never = str(tmp_path / "never")
    return [make(client, DEPENDENT_TASKS, never) for make in dependent_work.SHAPES.values()]


def test_kill_9_of_processors(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "20")
    workers = deployment.workers(scheduler, count=2)
    client = deployment.client(scheduler)
    futures = [client.submit(f.sleep_and_return, 0.01, number) for number in range(600)]
    works = dependent_tasks(client, tmp_path)
    dice = random.Random(1)
    killed: set[int] = set()
    for _ in range(6):
        done_before = sum(future.done() for future in futures)
        wait_for("work goes on", lambda done=done_before: sum(x.done() for x in futures) > done + 10)  # type: ignore[misc]
        living = wait_for("a living processor", lambda: processors_of(workers) - killed)
        victim = dice.choice(sorted(living))
        killed.add(victim)
        os.kill(victim, signal.SIGKILL)
    assert [future.result(timeout=50) for future in futures] == list(range(600))
    for work in works:
        work.check(50)
    assert workers.child.is_running


def test_a_task_whose_processor_was_killed_is_tried_again(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    assert client.submit(f.die_once, str(tmp_path / "mark")).result(timeout=30) == "second attempt"


def test_kill_9_of_an_agent(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    first = deployment.workers(scheduler, count=1)
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    client.map(f.square, range(20))
    futures = [client.submit(f.sleep_and_return, 0.02, number) for number in range(150)]
    works = dependent_tasks(client, tmp_path)
    wait_for("half-way", lambda: sum(future.done() for future in futures) > 20)
    children = first.children()
    first.kill()
    assert [future.result(timeout=50) for future in futures] == list(range(150))
    for work in works:
        work.check(50)
    wait_for("its processors died with it", lambda: all(is_gone(pid) for pid in children))


def test_kill_9_of_a_client(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("-ct", "2", "-ot", "0")
    deployment.workers(scheduler, count=2)
    program = (
        "import sys\nfrom scaler import Client\nfrom tests.integration import functions as f\n"
        "client = Client(sys.argv[1])\n"
        "futures = [client.submit(f.mark_and_sleep, sys.argv[2], 120) for _ in range(100)]\n"
        "futures[0].result()\n"
    )
    mark = tmp_path / "mark"
    doomed = subprocess.Popen([sys.executable, "-c", program, scheduler.address, str(mark)])
    other = deployment.client(scheduler)
    try:
        wait_for("its tasks run", lambda: mark.exists() and len(mark.read_text().splitlines()) == 2)
    finally:
        doomed.kill()
        doomed.wait()
    # Both workers sleep for two minutes in its tasks; they are free for others as soon as it is given up.
    assert [future.result(timeout=30) for future in [other.submit(f.square, n) for n in range(50)]] == [
        n * n for n in range(50)
    ]
    assert len(mark.read_text().splitlines()) <= 4


def test_kill_9_of_the_scheduler_which_comes_back(deployment: Deployment, tmp_path: Path) -> None:
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    deployment.workers(scheduler, count=2)
    client = deployment.client(scheduler)
    client.map(f.square, range(20))
    futures = [client.submit(f.sleep_and_return, 0.02, number) for number in range(200)]
    slow = client.submit(f.mark_and_sleep, str(tmp_path / "slow"), 3.0)
    short = client.submit(f.mark_and_sleep, str(tmp_path / "short"), 0.5)
    works = dependent_tasks(client, tmp_path)
    rows = client.get(
        {"runs": (f.mark_and_sleep, str(tmp_path / "row"), 3.0), "then": (len, "runs")}, "then", block=False
    )
    wait_for("some are done", lambda: sum(future.done() for future in futures) > 20)
    wait_for("the slow one runs", (tmp_path / "slow").exists)
    wait_for("the short one runs", (tmp_path / "short").exists)
    wait_for("a row of a graph runs", (tmp_path / "row").exists)
    scheduler.kill()
    deployment.scheduler("-osa", storage.address, address=scheduler.address)
    late = [client.submit(f.square, number) for number in range(20)]
    assert [future.result(timeout=50) for future in futures] == list(range(200))
    assert [future.result(timeout=50) for future in late] == [number * number for number in range(20)]
    assert slow.result(timeout=50)
    assert short.result(timeout=50)
    assert rows["then"].result(timeout=50) == len("slept")
    for work in works:
        work.check(50)
    # They were running while the scheduler was away, and their worker kept them, or their results: none ran twice.
    assert len((tmp_path / "slow").read_text().splitlines()) == 1
    assert len((tmp_path / "short").read_text().splitlines()) == 1
    assert len((tmp_path / "row").read_text().splitlines()) == 1


def test_kill_9_of_the_scheduler_for_good_ends_every_future_in_bounded_time(deployment: Deployment) -> None:
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    deployment.workers(scheduler, "-dts", "5", count=1)
    client = deployment.client(scheduler, timeout_seconds=4)
    assert client.submit(f.square, 2).result(timeout=30) == 4
    futures = [client.submit(time.sleep, 60) for _ in range(10)]
    scheduler.kill()
    started = time.monotonic()
    for future in futures:
        with pytest.raises(ScalerError, match="scheduler"):
            future.result(timeout=20)
    assert time.monotonic() - started < 15


def test_kill_9_of_the_object_storage_server_ends_futures_with_an_error_or_a_result(deployment: Deployment) -> None:
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    blob = os.urandom(1_000_000)
    assert client.submit(len, blob).result(timeout=30) == 1_000_000
    futures = [client.submit(len, os.urandom(300_000)) for _ in range(20)]
    storage.kill()
    deployment.storage(address=storage.address)
    for future in futures:
        with contextlib.suppress(ScalerError):
            assert future.result(timeout=55) == 300_000
    # Scheduler, workers and clients live on.
    assert client.submit(len, blob).result(timeout=30) == 1_000_000
    assert client.submit(f.square, 2).result(timeout=30) == 4
