"""Slurm jobs and ECS tasks are as large as the tasks that wait for them ask: with a real Slurm, and with moto for ECS."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler import current_task
from scaler_adapters.adapter import MalformedRequestError, NoCapacityError, StartRequest
from scaler_adapters.ecs.adapter import EcsAdapter
from scaler_adapters.ecs.settings import EcsAdapterSettings
from tests.integration.deployment import Deployment, wait_for
from tests.integration.ecs_stand_in import CREDENTIALS, EcsStandIn, adapter_flags
from tests.integration.slurm_cluster import SlurmCluster, missing
from tests.integration.test_slurm import Elastic, post

GIB = 1024**3


# --- Slurm


@pytest.fixture
def slurm(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"), gpus=2)
    yield cluster
    # The adapter first: it cancels its jobs.
    deployment.close()
    cluster.close()


def job_and_devices(seconds: float) -> tuple[str, dict[str, tuple[str, ...]]]:
    time.sleep(seconds)  # sleeps: others wait beside it
    return os.environ["SLURM_JOB_ID"], dict(current_task().devices)


def size_of(slurm: SlurmCluster, job: str) -> tuple[str, str]:
    """Return the memory and the generic resources that a job has requested."""
    words = slurm.command("squeue", "--noheader", f"--jobs={job}", "--Format=MinMemory:30,tres-per-node:30").split()
    return words[0], words[1].removeprefix("gres:").removeprefix("gres/")


@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_jobs_request_what_waiting_tasks_ask_for(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    elastic = Elastic(deployment, slurm, tmp_path)
    plain = elastic.client.submit(job_and_devices, 0)
    plain_job, devices = plain.result(timeout=60)
    assert devices == {}
    future = elastic.client.submit_verbose(job_and_devices, (1.0,), resources={"gpu": 2, "mem": "1500MiB"})
    sizes: dict[str, tuple[str, str]] = {}

    def is_there() -> bool:
        for line in elastic.jobs():
            job = line.split()[0]
            if job not in sizes:
                sizes[job] = size_of(slurm, job)
        return future.done()

    wait_for("the task", is_there, 60)
    job, devices = future.result()
    assert job != plain_job
    assert sizes[job] == ("1500M", "gpu:2")
    assert len(devices["gpu"]) == 2


@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_what_no_node_has_is_refused(slurm: SlurmCluster, deployment: Deployment, tmp_path: Path) -> None:
    elastic = Elastic(deployment, slurm, tmp_path)
    for resources in ({"gpu": 3}, {"mem": 100 * GIB}, {"cores": 64}):
        status, answer = post(elastic.url, action="start_worker_group", resources=resources)
        assert status == 400, answer
    assert post(elastic.url, action="start_worker_group", resources={"gpu": "many"})[0] == 400
    assert elastic.jobs() == []


# --- ECS


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[EcsStandIn]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    stand_in = EcsStandIn()
    yield stand_in
    stand_in.close()


def adapter_of(ecs: EcsStandIn, *flags: str) -> EcsAdapter:
    return EcsAdapter(EcsAdapterSettings.from_command_line(["tcp://10.0.0.1:2345", *adapter_flags(ecs), *flags]))


def started(ecs: EcsStandIn, adapter: EcsAdapter, **resources: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Start a group; return what ECS is told of the task, and of its container. It says that it has no room."""
    ecs.instead["RunTask"].append((200, {"tasks": [], "failures": [{"reason": "RESOURCE:MEMORY"}]}))
    with pytest.raises(NoCapacityError):
        adapter.start(StartRequest({}, "", resources))
    overrides = dict([words for action, words in ecs.calls if action == "RunTask"][-1]["overrides"])
    (container,) = overrides.pop("containerOverrides")
    return overrides, container


def test_ecs_tasks_are_as_large_as_waiting_tasks_ask(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs)
    assert adapter.info().sized_resources == ("cores", "mem")
    task, container = started(ecs, adapter)
    assert task == {}
    assert not {"cpu", "memory", "resourceRequirements"} & container.keys()
    # Moto takes it too.
    adapter.start(StartRequest({}, "", {"cores": 2, "mem": 6 * GIB}))
    task, container = started(ecs, adapter, cores=2, mem=6 * GIB)
    assert task == {"cpu": "2048", "memory": "7168"}
    # The other container of the definition has the rest.
    assert container["memory"] == 7168 - 64
    assert "--resources=cores=2,mem=7GiB" in container["command"]
    with pytest.raises(MalformedRequestError, match="Fargate has no task with 32 cores"):
        adapter.start(StartRequest({}, "", {"cores": 32}))


def test_ecs_tasks_on_machines_have_gpus(ecs: EcsStandIn) -> None:
    adapter = adapter_of(ecs, "--launch-type=EC2", "--resources=licence=1")
    assert adapter.info().sized_resources == ("cores", "gpu", "mem")
    _, container = started(ecs, adapter, gpu=2)
    assert container["resourceRequirements"] == [{"type": "GPU", "value": "2"}]
    assert "--resources=gpu=2,licence=1" in container["command"]
