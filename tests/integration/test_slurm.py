"""The Slurm adapter against a real Slurm of two nodes, started by this test run where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.testing.free_ports import free_ports
from tests.integration import plain_http
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.elastic import groups_at, scheduler_with_adapter, url_of, work_to_spare
from tests.integration.functions import mark_and_wait, sleep_and_return
from tests.integration.slurm_cluster import NODES, SlurmCluster, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

WORKERS_MAX = 4
"""Two nodes of two CPUs."""


@pytest.fixture
def slurm(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    # The adapter first: it cancels its jobs.
    deployment.close()
    cluster.close()


class Elastic:
    """A scheduler and a Slurm adapter that know each other."""

    def __init__(self, deployment: Deployment, slurm: SlurmCluster, folder: Path, *flags: str) -> None:
        self.deployment = deployment
        self.slurm = slurm
        self.folder = folder
        self.flags = (f"--max-workers={WORKERS_MAX}", f"--sbatch-options=--output={folder}/%A_%a.out", *flags)
        # At a port of the system's choice an adapter that is started again would not find its jobs.
        scheduler_port, port = free_ports(2)
        self.address = f"tcp://127.0.0.1:{scheduler_port}"
        self.adapter = self.start_adapter(port)
        self.url = url_of(self.adapter)
        self.scheduler = scheduler_with_adapter(deployment, self.address, self.url, "--worker-timeout-seconds=10")
        self.client = deployment.client(self.scheduler)

    def start_adapter(self, port: int) -> Service:
        return self.deployment.start(
            "scaler_adapters.slurm",
            self.address,
            f"--port={port}",
            *self.flags,
            SLURM_CONF=str(self.slurm.configuration),
        )

    def jobs(self) -> list[str]:
        return self.slurm.command("squeue", "--me", "--array", "--noheader", "--format=%A %N %T").splitlines()

    def nodes_used(self) -> set[str]:
        return {words[1] for words in (line.split() for line in self.jobs()) if words[-1] == "RUNNING"}


def post(url: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = plain_http.post(url, json=body, timeout=60)
    return answer.status_code, answer.json()


@pytest.mark.timeout(240)
def test_jobs_come_with_work_and_go_without(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    elastic = Elastic(deployment, slurm, tmp_path)
    assert elastic.jobs() == []
    futures = [elastic.client.submit(sleep_and_return, 0.1, number) for number in range(200)]
    used: set[str] = set()

    def both_nodes() -> bool:
        used.update(elastic.nodes_used())
        return used == set(NODES)

    with work_to_spare(deployment, elastic.scheduler):
        wait_for("jobs on both nodes", both_nodes, 60)
    assert [future.result(timeout=60) for future in futures] == list(range(200))
    wait_for("no jobs left", lambda: not elastic.jobs(), 40)
    assert groups_at(elastic.url) == []


@pytest.mark.timeout(240)
def test_what_slurm_can_never_run_is_refused(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    def adapter(*flags: str) -> str:
        words = ["tcp://127.0.0.1:1", "--port=0", "--death-timeout-seconds=60", *flags]
        return url_of(deployment.start("scaler_adapters.slurm", *words, SLURM_CONF=str(slurm.configuration)))

    output = f"--output={tmp_path}/%A_%a.out"
    for flags in (
        ["--workers-per-job=1000"],
        ["--time-limit=10:00:00"],
        ["--partition=nowhere"],
        ["--capability-options=gpu=--gres=gpu:1"],
    ):
        status, answer = post(
            adapter(*flags, f"--sbatch-options={output}"), action="start_worker", capabilities=["gpu"]
        )
        if "gpu" not in flags[0]:
            status, answer = post(adapter(*flags, f"--sbatch-options={output}"), action="start_worker")
        assert status == 400, answer
    assert slurm.command("squeue", "--noheader") == ""
    url = adapter("--max-workers=2", "--workers-per-job=2", f"--sbatch-options={output}")
    status, answer = post(url, action="start_worker_group", metadata={"request_id": "r1"})
    assert status == 200
    assert post(url, action="start_worker_group", metadata={"request_id": "r1"})[1] == answer
    assert post(url, action="start_worker_group")[0] == 429
    assert len(answer["worker_ids"]) == 2
    assert post(url, action="shutdown_worker_group", worker_group_id=answer["worker_group_id"])[0] == 200
    assert slurm.command("squeue", "--noheader") == ""


@pytest.mark.timeout(240)
def test_as_many_at_the_same_time_as_there_may_be(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    words = ["tcp://127.0.0.1:1", "--port=0", "--death-timeout-seconds=60", "--max-workers=4"]
    output = f"--sbatch-options=--output={tmp_path}/%A_%a.out"
    url = url_of(deployment.start("scaler_adapters.slurm", *words, output, SLURM_CONF=str(slurm.configuration)))
    with ThreadPoolExecutor(6) as threads:
        statuses = [*threads.map(lambda _: post(url, action="start_worker_group")[0], range(6))]
    assert sorted(statuses) == [200, 200, 200, 200, 429, 429]


@pytest.mark.timeout(240)
def test_a_group_that_waits_for_nodes_is_pending(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    elastic = Elastic(deployment, slurm, tmp_path, "--jobs-per-group=2", "--workers-per-job=2")
    slurm.command("scontrol", "update", "nodename=n1,n2", "state=drain", "reason=test")
    began, go = tmp_path / "began", tmp_path / "go"
    future = elastic.client.submit(mark_and_wait, str(began), str(go))
    elastic.scheduler.wait_log("worker groups wanted: 1")
    wait_for("a pending group", lambda: "pending" in [g["state"] for g in _groups(elastic.url)], 20)
    slurm.command("scontrol", "update", "nodename=n1,n2", "state=resume")
    wait_for("the task to run", began.exists, 60)
    # It runs as soon as one job does. While it runs, nobody ends the group.
    wait_for("both jobs to run", lambda: elastic.nodes_used() == set(NODES))
    (group,) = _groups(elastic.url)
    assert (len(group["worker_ids"]), group["state"]) == (4, "running")
    go.touch()
    assert future.result(timeout=60)


def _groups(url: str) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = plain_http.get(url).json()["worker_groups"]
    return groups


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_jobs_are_left_before_their_time_is_over(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    elastic = Elastic(deployment, slurm, tmp_path, "--time-limit=1", "--drain-seconds=20")
    futures = [elastic.client.submit(sleep_and_return, 2.0, number) for number in range(160)]
    assert [future.result(timeout=200) for future in futures] == list(range(160))
    log = elastic.scheduler.log()
    assert "its machines go away soon" in log
    assert "WorkerDied" not in log


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_daemons_may_be_killed_in_the_middle(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    elastic = Elastic(deployment, slurm, tmp_path)
    futures = [elastic.client.submit(sleep_and_return, 0.5, number) for number in range(160)]
    with work_to_spare(deployment, elastic.scheduler):
        wait_for("jobs on both nodes", lambda: elastic.nodes_used() == set(NODES), 60)
    port = elastic.adapter.addresses["webhook"].port or 0
    slurm.kill("slurmctld")
    slurm.start_controller()
    elastic.adapter.kill()
    elastic.start_adapter(port)
    slurm.kill_node("n2")
    wait_for("tasks go on", lambda: sum(future.done() for future in futures) >= 60, 120)
    slurm.start_node("n2")
    assert [future.result(timeout=200) for future in futures] == list(range(160))
    wait_for("no jobs left", lambda: not elastic.jobs(), 90)
