"""Jobs with real processes: clients that go, another program that fetches, schedulers that are killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaler import Client, ScalerError, errors
from tests.integration.deployment import ROOT, Deployment, wait_for

SUBMIT = """
import sys
from scaler import Client
from tests.integration import test_jobs as jobs

client = Client(sys.argv[1])
with client.job("overnight", keep="7d"):
    for number in range(int(sys.argv[2])):
        client.submit(jobs.squared, number)
{end}
"""

FETCH = """
import sys
from scaler import Client

client = Client(sys.argv[1])
results = client.jobs()["overnight"].results(timeout=200)
assert results == [number * number for number in range(int(sys.argv[2]))], results[:10]
print(len(results))
client.disconnect()
"""


def squared(number: int) -> int:
    return number * number


def noted(number: int, folder: str) -> int:
    (Path(folder) / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    if number == 3 and not (Path(folder) / "healed").exists():
        raise ValueError("not yet")
    return number


def many_bytes(count: int) -> bytes:
    return b"x" * count


def slow(seconds: float) -> float:
    time.sleep(seconds)  # sleeps: a task that runs
    return seconds


def program(text: str, *arguments: str) -> str:
    """Run a program of its own, which ends before this returns, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("end", ["client.disconnect()", "", "import os; os._exit(0)"], ids=["quits", "ends", "exits"])
def test_tasks_go_on_when_the_program_has_ended(deployment: Deployment, end: str) -> None:
    scheduler = deployment.scheduler()
    program(SUBMIT.format(end=end), scheduler.address, "300")
    # Nobody can run them before the program is gone.
    deployment.workers(scheduler)
    assert program(FETCH, scheduler.address, "300") == "300\n"


def test_a_detached_task_alone_leaves_before_its_program_ends(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    text = (
        "import sys; from scaler import Client; from tests.integration import test_jobs as jobs\n"
        "client = Client(sys.argv[1])\n"
        "client.submit_verbose(jobs.squared, (7,), detached=True, name='one')\n"
        "client.with_options(detached=True, name='one').submit(jobs.squared, 8)\n"
    )
    program(text, scheduler.address)
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.jobs()["one"].results(timeout=30) == [49, 64]


@pytest.mark.timeout(300)
def test_ten_thousand_tasks_outlive_client_and_scheduler(deployment: Deployment, tmp_path: Path) -> None:
    flags = ("--storage-path", str(tmp_path / "kept"))
    scheduler = deployment.scheduler(*flags)
    deployment.workers(scheduler)
    program(SUBMIT.format(end="import os; os._exit(0)"), scheduler.address, "10000")
    scheduler.kill()
    again = deployment.scheduler(*flags, address=scheduler.address)
    assert program(FETCH, again.address, "10000") == "10000\n"
    # Once more, when all of it is done.
    again.kill()
    deployment.scheduler(*flags, address=scheduler.address)
    assert program(FETCH, scheduler.address, "10000") == "10000\n"


def test_only_tasks_without_a_result_run_again(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    folder = tmp_path / "runs"
    folder.mkdir()

    def submit() -> list[int | BaseException]:
        client = deployment.client(scheduler)
        with client.job("again"):
            futures = [client.submit(noted, number, str(folder)) for number in (1, 2, 3)]
        found = client.gather(futures, 30, return_exceptions=True)
        client.disconnect()
        return list(found)

    first = submit()
    assert first[:2] == [1, 2]
    assert str(first[2]) == "not yet"
    (folder / "healed").touch()
    assert submit() == [1, 2, 3]
    runs = sorted(path.name.partition("-")[0] for path in folder.glob("*-*"))
    assert runs == ["1", "2", "3", "3"]


def test_a_job_that_is_closed_takes_no_other_tasks(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    with client.job("closed"):
        client.submit(squared, 1)
    with pytest.raises(errors.JobError, match="has other tasks"), client.job("closed"):
        refused = client.submit(squared, 2)
    with pytest.raises(ScalerError, match="has other tasks"):
        refused.result(30)
    # Outside of blocks, nothing belongs to a job.
    assert client.submit(squared, 5).result(30) == 25
    assert client.jobs()["closed"].results(timeout=30) == [1]


def test_cancelling_and_forgetting(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    client = deployment.client(scheduler)
    with client.job("slow"):
        done = client.submit(slow, 0.0)
        done.result(30)
        futures = [client.submit(slow, 600.0 + number) for number in range(5)]
    # A future only follows its task.
    futures[0].cancel()
    job = client.jobs()["slow"]
    assert job.status().waiting + job.status().running == 5
    job.cancel()
    wait_for("all tasks cancelled", lambda: job.status().is_done)
    status = job.status()
    assert (status.done, status.canceled, status.tasks) == (1, 5, 6)
    assert status.expires is not None
    assert job.results(timeout=30, return_exceptions=True)[0] == 0.0
    job.forget()
    assert "slow" not in client.jobs()
    with pytest.raises(KeyError):
        client.jobs()["slow"]
    with pytest.raises(errors.JobNotFoundError, match="no job 'slow'"):
        job.results()


def test_large_results_belong_to_the_job(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    first = deployment.client(scheduler)
    with first.job("large"):
        future = first.submit(many_bytes, 1_000_000)
    assert len(future.result(30)) == 1_000_000
    del future
    first.disconnect()
    for _ in range(2):
        client = deployment.client(scheduler)
        (found,) = client.jobs()["large"].results(timeout=30)
        assert len(found) == 1_000_000
        client.disconnect()


def test_what_a_job_does_not_take(deployment: Deployment) -> None:
    client = deployment.client(deployment.scheduler())
    with pytest.raises(ValueError, match="needs a name"):
        client.submit_verbose(squared, (1,), detached=True)
    with pytest.raises(ValueError, match="detached=True"):
        client.submit_verbose(squared, (1,), name="job")
    with pytest.raises(ValueError, match="single calls"):
        client.map(squared, [1], detached=True, name="job")
    with pytest.raises(ValueError, match="keep must be"):
        client.job("job", keep="soon")
    with client.job("job"):
        with pytest.raises(ValueError, match="single calls"):
            client.map(squared, [1])
        with pytest.raises(ScalerError, match="takes values only"):
            client.submit(squared, client.send_object(3))
        with pytest.raises(ScalerError, match="16777216 at most"):
            client.submit(len, bytes(20_000_000))
        with pytest.raises(ValueError, match="leave that block first"), client.job("other"):
            pass


def test_limits_are_named(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--jobs-max", "1", "--job-tasks-max", "2")
    client = deployment.client(scheduler)
    with pytest.raises(errors.JobError, match=r"--job-tasks-max"), client.job("first"):
        futures = [client.submit(squared, number) for number in range(3)]
    with pytest.raises(ScalerError, match=r"--job-tasks-max"):
        futures[2].result(30)
    with pytest.raises(errors.JobError, match=r"--jobs-max"), client.job("second"):
        pass
    small = deployment.client(deployment.scheduler("--jobs-bytes-max", "10000"))
    with pytest.raises(errors.JobError, match=r"--jobs-bytes-max"), small.job("first"):
        small.submit(len, bytes(20_000))


def test_who_submits_a_job_that_is_not_kept_is_told_once_what_keeps_it(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = deployment.client(deployment.scheduler())
    for name in ("first", "second"):
        with client.job(name):
            pass
    (line,) = [record.getMessage() for record in caplog.records if "as long as it runs" in record.getMessage()]
    assert "job 'first' and others" in line
    assert "with --storage-path or --storage-url they outlive its restart" in line
    kept = deployment.client(deployment.scheduler("--storage-path", str(tmp_path / "kept")))
    with kept.job("third"):
        pass
    assert caplog.text.count("as long as it runs") == 1


def test_two_schedulers_do_not_share_a_folder(deployment: Deployment, tmp_path: Path) -> None:
    deployment.scheduler("--storage-path", str(tmp_path))
    second = deployment.start("scaler_scheduler", "tcp://127.0.0.1:0", "--storage-path", str(tmp_path), ready=False)
    assert second.wait_end() != 0
    assert "is in use by another object storage server" in second.log()


def test_a_client_that_waits_sees_the_job_after_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    flags = ("--storage-path", str(tmp_path))
    scheduler = deployment.scheduler(*flags)
    client: Client = deployment.client(scheduler)
    with client.job("followed"):
        futures = [client.submit(squared, number) for number in range(100)]
    scheduler.kill()
    again = deployment.scheduler(*flags, address=scheduler.address)
    deployment.workers(again)
    assert client.gather(futures, 60) == [number * number for number in range(100)]
    assert client.jobs()["followed"].status().tasks == 100


def once(number: int, folder: str) -> int:
    (Path(folder) / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(0.5)  # sleeps: the task is still running when the scheduler is stopped
    return number


@pytest.mark.timeout(200)
@pytest.mark.parametrize("stopped", [False, True], ids=["killed", "stopped"])
def test_a_standby_takes_the_jobs_up_once_the_first_scheduler_lets_go_of_them(
    deployment: Deployment, tmp_path: Path, stopped: bool
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    storage = deployment.storage()
    kept = tmp_path / "kept"
    flags = ("--object-storage-address", storage.address, "--storage-path", str(kept), "--standby-lease-seconds", "1.5")
    first = deployment.scheduler(*flags)
    standby = deployment.scheduler(*flags, "--standby-of", first.address)
    both = f"{first.address},{standby.address}"
    deployment.workers(both)
    client = deployment.client(both)
    with client.job("taken"):
        futures = [client.submit(squared, number) for number in range(200)]
        large = client.submit(many_bytes, 1_000_000)
        careful = [client.submit_verbose(once, (number, str(folder)), idempotent=False) for number in range(8)]
    assert len(large.result(60)) == 1_000_000
    wait_for("a careful task", lambda: any(folder.iterdir()))
    if stopped:
        os.kill(first.pid, signal.SIGSTOP)
        standby.wait_log("jobs are not taken up yet")
        with pytest.raises(errors.JobError, match="has not let go"):
            client.jobs()["taken"].results()
        with pytest.raises(errors.JobError, match="has not let go"), client.job("other"):
            pass
        with pytest.raises(ScalerError, match="has not let go"):
            client.submit_verbose(squared, (4,), detached=True, name="taken").result(60)
        os.kill(first.pid, signal.SIGCONT)
        first.wait_log("is a standby now")
    else:
        first.kill()
    standby.wait_log("took up 1 job")
    assert client.gather(futures, 60) == [number * number for number in range(200)]
    for number, future in enumerate(careful):
        error = future.exception(60)
        assert error is None or "idempotent=False" in str(error)
        assert error is not None or future.result() == number
    runs = [path.name.partition("-")[0] for path in folder.iterdir()]
    assert len(runs) == len(set(runs)), "a task ran twice"
    job = client.jobs()["taken"]
    assert len(job.results(60, return_exceptions=True)[200]) == 1_000_000
    assert job.status().tasks == 209
    if not stopped:
        # The first one is started again, and back: its jobs are with the other one meanwhile.
        again = deployment.scheduler(*flags, address=first.address)
        again.wait_log("is a standby now")
        assert job.status().tasks == 209
        standby.kill()
        again.wait_log("took up 1 job")
        assert job.status().tasks == 209
        assert client.submit(squared, 5).result(60) == 25


def test_large_results_that_a_restart_has_cost_are_made_again(deployment: Deployment, tmp_path: Path) -> None:
    flags = ("--storage-path", str(tmp_path / "kept"))
    scheduler = deployment.scheduler(*flags)
    deployment.workers(scheduler)
    first = deployment.client(scheduler)
    with first.job("large"):
        small, large = first.submit(squared, 3), first.submit(many_bytes, 1_000_000)
    assert (small.result(30), len(large.result(30))) == (9, 1_000_000)
    first.disconnect()
    scheduler.kill()
    again = deployment.scheduler(*flags, address=scheduler.address)
    client = deployment.client(again)
    job = client.jobs()["large"]
    # It was in the memory of a storage server that has gone with its scheduler.
    wait_for("the loss", lambda: job.status().lost == 1)
    assert job.status().done == 1
    with pytest.raises(errors.MissingObjects, match="submit the job again"):
        job.results(timeout=30)
    with client.job("large"):
        client.submit(squared, 3)
        client.submit(many_bytes, 1_000_000)
    found = job.results(timeout=60)
    assert (found[0], len(found[1])) == (9, 1_000_000)
