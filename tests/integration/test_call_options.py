"""What tasks ask for, with every call that makes tasks and real processes: retries, limits, priorities, to run once at most."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scaler import AsyncClient, Client, Prefer, Retries, ScalerExecutor
from scaler.errors import NoWorkerError, ProcessorDiedError, ScalerError, TaskTimeoutError, WorkerDiedError
from scaler_protocol.failures import full_names_of
from scaler_protocol.wire.call_options import TIMEOUT_NAMES
from tests.integration.deployment import Deployment, Service, wait_for


class OurError(KeyError):
    """Known to workers by its name only."""


def note(mark: str) -> int:
    """Count how often this runs with this mark."""
    with open(mark, "a") as file:
        file.write("x")
    return os.path.getsize(mark)


def take(value: int, mark: str) -> int:
    note(mark)
    return value


def fail_twice(mark: str, item: int = 0) -> int:
    if note(f"{mark}{item}") <= 2:
        raise OurError("not yet")
    return item


def fail(mark: str, kind: type[Exception] = ValueError) -> int:
    note(mark)
    raise kind("always")


def sleep(seconds: float, mark: str = "") -> float:
    if mark:
        note(mark)
    time.sleep(seconds)  # sleeps: a task that takes time
    return seconds


def die(mark: str) -> None:
    note(mark)
    os._exit(3)


def now() -> float:
    return time.time()


def runs(mark: Path | str) -> int:
    return os.path.getsize(mark) if os.path.exists(mark) else 0


def fail_inside(mark: str) -> int:
    with Client() as client:
        return client.submit_verbose(fail_twice, (mark,), retries=2).result()


@pytest.fixture
def scheduler(deployment: Deployment) -> Service:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    return scheduler


def test_every_call_takes_retries(scheduler: Service, tmp_path: Path) -> None:
    mark = str(tmp_path / "m")
    address = str(scheduler.addresses["scheduler"])
    with Client(address) as client:
        assert client.submit_verbose(fail_twice, (mark + "a",), retries=2).result() == 0
        assert client.with_options(retries=2).submit(fail_twice, mark + "b").result() == 0
        assert client.map(partial(fail_twice, mark + "c"), range(20), retries=2) == list(range(20))
        assert {runs(f"{mark}c{item}") for item in range(20)} == {3}
        assert client.starmap(fail_twice, [(mark + "d", 1)], retries=2) == [1]
        assert list(client.imap(partial(fail_twice, mark + "e"), range(3), retries=2)) == [0, 1, 2]
        graph = {"a": (fail_twice, mark + "f", 4), "b": (fail_twice, mark + "g", "a"), "c": (abs, "b")}
        assert client.get(graph, ["c"], retries=2) == {"c": 4}
        with client.prepare({"a": (fail_twice, mark + "h")}, ["a"], retries=2) as template:
            assert template.run() == {"a": 0}
        first = client.submit_verbose(fail_twice, (mark + "i", 5), retries=2)
        assert client.submit_verbose(fail_twice, (mark + "j", first), retries=2).result() == 5
        assert client.submit(fail_inside, mark + "k").result() == 0
        assert pickle.loads(pickle.dumps(client.with_options(retries=2))).submit(fail_twice, mark + "l").result() == 0
    with ScalerExecutor(address) as executor:
        assert executor.with_options(retries=2).submit(fail_twice, mark + "n").result() == 0
        assert list(executor.map(partial(fail_twice, mark + "o"), [7], retries=2)) == [7]
    asyncio.run(calls_of_async_client(address, mark))


async def calls_of_async_client(address: str, mark: str) -> None:
    async with AsyncClient(address) as client:
        assert await client.submit_verbose(fail_twice, (mark + "p",), retries=2) == 0
        assert await client.map(partial(fail_twice, mark + "q"), [8], retries=2) == [8]
        assert await client.get({"a": (fail_twice, mark + "r")}, ["a"], retries=2) == {"a": 0}


def test_attempts_are_exact_and_the_last_error_arrives(scheduler: Service, tmp_path: Path) -> None:
    with Client(str(scheduler.addresses["scheduler"])) as client:
        cases: list[tuple[int | Retries, type[Exception], int]] = [
            (Retries(3), ValueError, 4),
            (Retries(3, on=KeyError), OurError, 4),
            (Retries(3, on=(OSError, LookupError)), OurError, 4),
            (Retries(3, on=OurError), OurError, 4),
            (Retries(3, on=OurError), KeyError, 1),
            (Retries(3, on=OSError), ValueError, 1),
            (3, ValueError, 4),
            (0, ValueError, 1),
        ]
        for number, (retries, kind, attempts) in enumerate(cases):
            mark = str(tmp_path / str(number))
            with pytest.raises(kind, match="always"):
                client.submit_verbose(fail, (mark, kind), retries=retries).result()
            assert runs(mark) == attempts, (retries, kind)
            with pytest.raises(kind, match="always"):
                client.map(partial(fail, kind=kind), [mark + "map"], retries=retries)
            assert runs(mark + "map") == attempts, (retries, kind)


def test_a_task_that_waits_for_its_next_attempt_holds_no_worker(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    retries = Retries(2, wait_seconds=2.0, backoff=1.0)
    began = time.monotonic()
    waiting = client.submit_verbose(fail_twice, (str(tmp_path / "m"),), retries=retries)
    others = 0
    while not waiting.done():
        client.submit(abs, -1).result()
        others += 1
    assert waiting.result() == 0
    assert time.monotonic() - began > 3.9
    assert others > 20


def test_a_processor_s_death_has_its_own_limit(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "2")
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    with pytest.raises(ProcessorDiedError, match="attempt 2 of 2 failed"):
        client.submit_verbose(die, (str(tmp_path / "m"),), retries=9).result()
    assert runs(tmp_path / "m") == 2


def test_time_limits_say_which_one_it_was(scheduler: Service, tmp_path: Path) -> None:
    with Client(str(scheduler.addresses["scheduler"])) as client:
        client.map(sleep, [0.0] * 20)
        with pytest.raises(TaskTimeoutError, match=r"ran for more than 0\.3 s and was ended \(timeout_seconds\)"):
            client.submit_verbose(sleep, (30,), timeout_seconds=0.3).result(timeout=20)
        with pytest.raises(TaskTimeoutError, match=r"not done 2 s after it was submitted .* it was running"):
            client.submit_verbose(sleep, (30,), deadline_seconds=2).result(timeout=20)
        mark = str(tmp_path / "m")
        with pytest.raises(TaskTimeoutError):
            # Long enough for a process that has imported nothing yet.
            client.submit_verbose(sleep, (30, mark), timeout_seconds=3, retries=1).result(timeout=30)
        assert runs(mark) == 2
        busy = [client.submit(sleep, 2) for _ in range(4)]
        with pytest.raises(TaskTimeoutError, match="it waited for a worker"):
            client.submit_verbose(sleep, (0, mark + "never"), deadline_seconds=0.3).result(timeout=20)
        with pytest.raises(TaskTimeoutError, match="deadline_seconds"):
            client.get({"a": (sleep, 30), "b": (sleep, "a")}, ["b"], deadline_seconds=0.3)
        with pytest.raises(TaskTimeoutError, match="timeout_seconds"):
            client.map(sleep, [0, 30, 0], timeout_seconds=0.3)
        assert [future.result() for future in busy] == [2] * 4
        assert runs(mark + "never") == 0
        # Workers are as before.
        assert client.map(abs, range(-50, 0)) == list(range(50, 0, -1))


def test_an_urgent_task_starts_ahead_of_its_client_s_others(scheduler: Service) -> None:
    with Client(str(scheduler.addresses["scheduler"])) as client:
        client.map(sleep, [0.01] * 20)
        usual = [client.submit(sleep, 0.01) for _ in range(3000)]
        wait_for("work goes on", lambda: sum(future.done() for future in usual) > 20)
        waits = []
        for _ in range(5):
            began = time.time()
            waits.append(client.submit_verbose(now, (), priority=1).result() - began)
        assert sum(future.done() for future in usual) < 2500
        client.clear()
    # The others take 15 s.
    assert sorted(waits)[2] < 2.0, waits


def test_kill_9_of_everything_runs_no_task_twice(deployment: Deployment, tmp_path: Path) -> None:
    """Processors, then an agent, then the scheduler: each task runs once at most, and is answered with a value or the reason."""
    scheduler = deployment.scheduler()
    doomed = deployment.workers(scheduler, count=2)
    deployment.workers(scheduler, count=2)
    with Client(str(scheduler.addresses["scheduler"])) as client:
        once = client.with_options(idempotent=False)
        dying = once.submit(die, str(tmp_path / "dying"))
        with pytest.raises(ProcessorDiedError, match=r"not run again \(idempotent=False\)"):
            dying.result(timeout=50)
        marks = [str(tmp_path / f"m{number}") for number in range(200)]
        futures = [once.submit(sleep, 0.1, mark) for mark in marks]
        wait_for("some are done", lambda: sum(future.done() for future in futures) > 20)
        doomed.kill()
        wait_for("more are done", lambda: sum(future.done() for future in futures) > 80)
        address = scheduler.address
        scheduler.kill()
        deployment.scheduler(address=address)
        ends = Counter(ended(future) for future in futures)
    assert ends["value"] + ends["reason"] == len(futures), ends
    assert ends["value"] > 50
    assert ends["reason"] > 0
    counts = Counter(runs(mark) for mark in marks)
    assert set(counts) <= {0, 1}, counts
    assert runs(tmp_path / "dying") == 1
    assert counts[1] >= ends["value"]


def test_retries_and_deadlines_outlive_the_scheduler(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    mark = str(tmp_path / "m")
    with Client(str(scheduler.addresses["scheduler"])) as client:
        failing = client.submit_verbose(fail, (mark,), retries=Retries(3, wait_seconds=1.0, backoff=1.0))
        waiting = client.submit_verbose(sleep, (0,), host="elsewhere", deadline_seconds=15)
        wait_for("it has failed twice", lambda: runs(mark) == 2)
        scheduler.kill()
        scheduler = deployment.scheduler(address=scheduler.address)
        restarted = time.monotonic()
        with pytest.raises(ValueError, match="always"):
            failing.result()
        assert runs(mark) == 4
        with pytest.raises(TaskTimeoutError, match="not done 15 s after it was submitted"):
            waiting.result()
        # It would end 15 s after that, if it were not known how long it has waited.
        assert time.monotonic() - restarted < 14.5


def test_what_waits_for_workers_after_a_restart_ends_at_its_deadline(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    marks = [str(tmp_path / name) for name in ("single", "graph", "behind", "linked")]
    with Client(str(scheduler.addresses["scheduler"])) as client:
        asks = client.with_options(deadline_seconds=5)
        single = asks.submit(note, marks[0])
        rows = {"first": (note, marks[1]), "second": (take, "first", marks[2])}
        graph = asks.get(rows, ["first", "second"], block=False)
        linked = asks.submit(take, single, marks[3])
        scheduler.kill()
        scheduler = deployment.scheduler(address=scheduler.address)
        deployment.workers(scheduler, count=1)
        for future in (single, *(graph[name] for name in rows), linked):
            with pytest.raises(TaskTimeoutError, match=r"\(deadline_seconds\); it waited for"):
                future.result(timeout=60)
        # By then tasks are handed out again.
        assert client.submit(abs, -3).result(timeout=60) == 3
    assert [runs(mark) for mark in marks] == [0] * 4


def ended(future: object) -> str:
    try:
        future.result(timeout=60)  # type: ignore[attr-defined]
    except (WorkerDiedError, ProcessorDiedError) as error:
        return "reason" if "idempotent=False" in str(error) else str(error)
    return "value"


def where() -> tuple[int, str]:
    return os.getpid(), socket.gethostname()


def where_inside(**options: Any) -> tuple[int, str]:
    with Client() as client:
        return client.submit_verbose(where, (), **options).result()


def test_tasks_run_at_the_worker_and_the_host_that_they_ask_for(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--no-worker-timeout-seconds", "4")
    deployment.workers(scheduler)
    host = socket.gethostname()
    with Client(str(scheduler.addresses["scheduler"])) as client:
        nowhere = client.submit_verbose(where, (), host="elsewhere")
        by_name = client.run(os.getpid)
        for name, pid in by_name.items():
            bound = client.with_options(worker=name)
            assert {future.result()[0] for future in [bound.submit(where) for _ in range(50)]} == {pid}
            assert {own for own, _ in client.starmap(where, [()] * 30, worker=name)} == {pid}
            assert client.get({"a": (where,), "b": (list, "a")}, ["b"], worker=name, host=host)["b"] == [pid, host]
        # In another process, if the worker is the one that waits for it.
        assert client.submit(where_inside, worker=name).result()[1] == host
        assert client.submit_verbose(where, (), host=host).result()[1] == host
        assert client.submit_verbose(where, (), host=Prefer("elsewhere")).result()[1] == host
        with pytest.raises(NoWorkerError, match="host elsewhere: no worker of that name is connected"):
            nowhere.result()
        for wrong in ({"worker": ""}, {"worker": 3}, {"worker": Prefer("left-0")}, {"host": "a\nb"}, {"host": b"a"}):
            with pytest.raises((TypeError, ValueError), match=r"worker|host"):
                client.map(abs, [1], **wrong)


def test_impossible_values_are_errors_at_the_call(scheduler: Service) -> None:
    with Client(str(scheduler.addresses["scheduler"])) as client:
        with pytest.raises(TypeError, match="has no option retry"):
            client.map(abs, [1], retry=3)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="idempotent=False"):
            client.submit_verbose(abs, (1,), retries=1, idempotent=False)
        with pytest.raises(ValueError, match="timeout_seconds must be more than 0"):
            client.with_options(timeout_seconds=0)


def test_the_error_of_a_task_that_ran_too_long_has_the_bases_that_retries_know() -> None:
    assert list(TIMEOUT_NAMES) == full_names_of(TaskTimeoutError)
    assert issubclass(TaskTimeoutError, ScalerError)
