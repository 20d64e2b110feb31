"""Where earlier tools of this kind let their users down: one test for each point of that list that concerns the engine."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scaler.errors import NoWorkerError, ProcessorDiedError, ScalerError, TaskTimeoutError
from tests.integration import functions as f
from tests.integration.deployment import Deployment, is_gone, segments_of, wait_for


def test_point_1_keyword_arguments_builtins_and_a_failing_map(deployment: Deployment) -> None:
    """Keyword-only arguments were dropped, builtins refused, and a failing `map` disconnected the client."""
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.submit(f.keyword_only, value=5, extra=6).result(timeout=30) == (5, {"extra": 6})
    assert client.submit(dict, a=1).result(timeout=30) == {"a": 1}
    assert client.submit(sorted, [3, 1, 2], reverse=True).result(timeout=30) == [3, 2, 1]
    assert client.map(abs, [-1, 2]) == [1, 2]
    with pytest.raises(ValueError, match="on purpose"):
        client.map(f.fail, ["on purpose"] * 3)
    assert client.map(f.square, [1, 2]) == [1, 4]


def test_point_2_a_task_nobody_can_run_blocks_nobody_and_its_client_is_told(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """One task whose capability nobody has, at the head of the queue, blocked every task behind it, in silence."""
    scheduler = deployment.scheduler("-ap", "capability")
    deployment.workers(scheduler, "-pwc", "linux", count=1)
    client = deployment.client(scheduler)
    with caplog.at_level("WARNING"):
        unservable = client.submit_verbose(f.square, (3,), capabilities={"quantum": -1})
        assert client.map(f.square, range(100)) == [x * x for x in range(100)]
        assert client.submit_verbose(f.square, (2,), capabilities={"linux": -1}).result(timeout=30) == 4

        told = ""

        def is_told() -> bool:
            nonlocal told
            captured = capfd.readouterr()
            told += captured.err + captured.out + caplog.text
            return "quantum" in told

        wait_for("the client is told", is_told)
    assert not unservable.done()
    # It was waiting, not lost: somebody who can comes and does it.
    deployment.workers(scheduler, "-pwc", "quantum", count=1)
    assert unservable.result(timeout=30) == 9


def test_point_3_a_task_that_kills_its_process_ends_and_takes_nobody_along(deployment: Deployment) -> None:
    """Such a task was retried without limit, took one worker after another, and then healthy tasks hung."""
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler)
    client = deployment.client(scheduler)
    healthy = [client.submit(f.sleep_and_return, 0.01, number) for number in range(100)]
    poison = [client.submit(f.kill_self, number) for number in range(3)]
    healthy += [client.submit(f.sleep_and_return, 0.01, number) for number in range(100, 200)]
    for future in poison:
        with pytest.raises(ProcessorDiedError) as caught:
            future.result(timeout=50)
        assert "3 of 3" in str(caught.value)
        assert "SIGKILL" in str(caught.value)
    assert [future.result(timeout=30) for future in healthy] == list(range(200))
    assert workers.child.is_running


def test_point_4_nested_parents_that_fill_every_slot_finish(deployment: Deployment) -> None:
    """Parents that fill every queue slot deadlocked."""
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--per-worker-task-queue-size", "1", count=2)
    client = deployment.client(scheduler)
    parents = [client.submit(f.parent_of_two, client, number) for number in range(8)]
    assert [parent.result(timeout=50) for parent in parents] == [n * n + (n + 1) ** 2 for n in range(8)]


def test_fibonacci_on_one_worker(deployment: Deployment) -> None:
    """Nesting far deeper than there are workers: bounded by depth, not deadlocked."""
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    assert client.submit(f.fibonacci, client, 10).result(timeout=55) == 55
    # One worker, nesting 10 deep: at most one processor per level and a few more, once those that are about to end have done so.
    wait_for("no more processes than levels ask for", lambda: len(workers.children()) <= 16)


def test_point_6_equal_hashes_are_not_equal_bytes(deployment: Deployment) -> None:
    """Objects were told apart by a 64-bit hash alone. Many large ones that differ in one place stay themselves."""
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    arrays = [np.zeros(20_000) for _ in range(40)]
    for number, array in enumerate(arrays):
        array[number] = number + 1
    references = [client.send_object(array) for array in [*arrays, *arrays]]
    sums = client.map(lambda a: (float(a.sum()), int(np.argmax(a))), references)
    assert sums == [(number + 1.0, number) for number in range(40)] * 2


def test_point_7_limits_do_what_they_say(deployment: Deployment, tmp_path: Path) -> None:
    """`max_number_of_tasks_waiting`, `task_timeout_seconds`, `object_retention_seconds` were accepted and did nothing."""
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address, "-mt", "3", "-ot", "1", "-ct", "2")
    deployment.workers(scheduler, "--task-timeout-seconds", "1", "-wtqs", "1", count=1)
    client = deployment.client(scheduler)
    with pytest.raises(TaskTimeoutError):
        client.submit(time.sleep, 60).result(timeout=30)
    started = time.monotonic()
    futures = [client.submit(time.sleep, 0.1) for _ in range(15)]
    assert time.monotonic() - started > 0.7, "submit waits while too many tasks wait"
    concurrent.futures.wait(futures, timeout=30)

    empty = segments_of(storage.pid)
    # A client that vanishes without a word.
    program = (
        "import os, sys, time\nfrom scaler import Client\nlost = Client(sys.argv[1])\n"
        "kept = lost.send_object(os.urandom(40_000_000))\ntime.sleep(600)\n"
    )
    lost = subprocess.Popen([sys.executable, "-c", program, scheduler.address])
    try:
        wait_for("stored", lambda: segments_of(storage.pid) > empty)
    finally:
        lost.kill()
        lost.wait()
    wait_for("freed", lambda: segments_of(storage.pid) == empty)


def test_point_9_cancelling_is_quick_and_never_sticks(deployment: Deployment, tmp_path: Path) -> None:
    """Cancelling cost up to 3 s, and cancelled tasks got stuck when balancing or a worker's death met them."""
    scheduler = deployment.scheduler("-ls", "0.1", "-lbt", "1", "-wt", "3")
    first = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    started = time.monotonic()
    queued = [client.submit(time.sleep, 600) for _ in range(200)]
    assert all(future.cancel() for future in queued)
    assert time.monotonic() - started < 30.0, "200 cancellations, of which each took up to 3 s"
    # Cancelled while they are moved to a second host, and while the first one dies.
    marks = [tmp_path / str(number) for number in range(40)]
    futures = [client.submit(f.mark_and_sleep, str(mark), 0.2) for mark in marks]
    deployment.workers(scheduler, count=1)
    wait_for("some run", lambda: sum(mark.exists() for mark in marks) >= 2)
    children = first.children()
    first.kill()
    for future in futures[::2]:
        future.cancel(timeout=0)
    for future in futures[1::2]:
        assert future.result(timeout=50)
    assert all(future.done() for future in futures)
    assert client.submit(f.square, 3).result(timeout=30) == 9
    wait_for("the killed host's processors are gone", lambda: all(is_gone(pid) for pid in children))


def test_a_running_task_that_ignores_everything_is_stopped_all_the_same(deployment: Deployment, tmp_path: Path) -> None:
    def stubborn(path: str) -> None:
        Path(path).touch()
        while True:
            try:
                time.sleep(0.01)  # sleeps: a task that never ends
            except BaseException:
                continue

    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    future = client.submit(stubborn, str(tmp_path / "runs"))
    wait_for("it runs", (tmp_path / "runs").exists)
    started = time.monotonic()
    assert future.cancel(timeout=10)
    assert client.submit(f.square, 3).result(timeout=30) == 9
    assert time.monotonic() - started < 15, "a second's grace, another processor, and some for a busy machine"


def test_point_13_a_webhook_without_a_strategy_does_not_crash_the_scheduler(deployment: Deployment) -> None:
    """The README's own command, `--adapter-webhook-url` without a strategy, crashed the scheduler."""
    scheduler = deployment.scheduler("--adapter-webhook-url", "http://127.0.0.1:9")
    deployment.workers(scheduler, count=1)
    assert deployment.client(scheduler).submit(f.square, 3).result(timeout=30) == 9
    assert scheduler.child.is_running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_point_15_signals_end_every_service_and_leave_nothing(
    deployment: Deployment, number: signal.Signals, busy: bool
) -> None:
    """Live processes and open ports were left behind after Ctrl-C, and SIGTERM was ignored."""
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    workers = deployment.workers(scheduler, count=2)
    own = deployment.scheduler()
    client = deployment.client(scheduler, timeout_seconds=5)
    assert client.submit(f.square, 2).result(timeout=30) == 4
    if busy:
        futures = [client.submit(time.sleep, 30) for _ in range(4)]
    processes = [pid for service in (storage, scheduler, workers, own) for pid in (service.pid, *service.children())]
    for service in (workers, scheduler, own, storage):
        os.kill(service.pid, number)
        assert service.wait_end(20) in (0, 128 + number, -number)
    wait_for("all processes are gone", lambda: all(is_gone(pid) for pid in processes))
    if busy:
        for future in futures:
            with pytest.raises(ScalerError):
                future.result(timeout=30)


def test_no_worker_error_exists_and_waiting_without_workers_is_no_error(deployment: Deployment) -> None:
    """Tasks submitted before any worker has come wait for one."""
    assert issubclass(NoWorkerError, ScalerError)
    scheduler = deployment.scheduler()
    client = deployment.client(scheduler)
    futures = [client.submit(f.square, number) for number in range(10)]
    deployment.workers(scheduler, count=1)
    assert [future.result(timeout=30) for future in futures] == [number * number for number in range(10)]
