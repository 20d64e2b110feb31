"""How large hosts, Slurm jobs and ECS tasks are made for tasks with counted resources."""

from __future__ import annotations

import pytest

from scaler_adapters.adapter import MalformedRequestError
from scaler_adapters.ecs.task_size import Definition, TaskSize, size_overrides, task_size
from scaler_adapters.host_size import HostSize, offered_text
from scaler_adapters.slurm.job_size import job_size, size_options

GIB = 1024**3


def test_a_host_has_whole_cores_mebibytes_and_devices() -> None:
    size = HostSize.of({"cores": 2.5, "gpu": 0.5, "mem": 2 * GIB + 1, "licence": 3})
    assert size == HostSize(3, 2049, 1)
    assert offered_text("", size) == "cores=3,gpu=1,mem=2049MiB"
    assert offered_text("licence=2,mem=1GiB", size) == "cores=3,gpu=1,licence=2,mem=1GiB"
    assert offered_text("cores=0", HostSize(cores=2)) == "cores=0"


@pytest.mark.parametrize(
    ("asked", "options", "words"),
    [
        (HostSize(), ["--mem=4G"], []),
        (HostSize(gpus=2), [], ["--gres=gpu:2"]),
        (HostSize(memory_mib=3000), [], ["--mem=3000M"]),
        (HostSize(cores=1), [], ["--cpus-per-task=4"]),
        (HostSize(cores=6), [], ["--cpus-per-task=6"]),
        (HostSize(cores=6), ["--cpus-per-task=8"], ["--cpus-per-task=8"]),
        (HostSize(8, 1024, 1), [], ["--cpus-per-task=8", "--mem=1024M", "--gres=gpu:1"]),
        # What the settings request holds where it is more.
        (HostSize(memory_mib=3000), ["--account=a", "--mem=16G"], ["--mem=16384M"]),
        (HostSize(memory_mib=30_000), ["--mem=16G"], ["--mem=30000M"]),
        (HostSize(memory_mib=3000), ["--mem-per-cpu=1G"], []),
        (HostSize(gpus=1), ["--gres=gpu:a100:4"], []),
    ],
)
def test_what_a_job_requests(asked: HostSize, options: list[str], words: list[str]) -> None:
    assert size_options(job_size(asked, 4, options), options) == words


SMALL = Definition("worker", 256, 1024, 512, 64)


def fargate(asked: HostSize) -> TaskSize:
    return task_size(asked, SMALL, is_fargate=True)


def test_a_task_on_fargate_has_one_of_its_sizes() -> None:
    assert fargate(HostSize()) == TaskSize()
    assert fargate(HostSize(cores=1)) == TaskSize(1024, 2048)
    assert fargate(HostSize(memory_mib=3000)) == TaskSize(512, 3072)
    assert fargate(HostSize(cores=3, memory_mib=20_000)) == TaskSize(4096, 20480)
    assert fargate(HostSize(memory_mib=100_000)) == TaskSize(16384, 106496)
    with pytest.raises(MalformedRequestError, match="Fargate has no task with 17 cores"):
        fargate(HostSize(cores=17))


def test_what_ecs_is_told_of_a_task_and_its_container() -> None:
    assert size_overrides(TaskSize(), SMALL) == ({}, {})
    assert size_overrides(TaskSize(2048, 4096), SMALL) == ({"cpu": "2048", "memory": "4096"}, {"memory": 4032})
    unlimited = Definition("worker", 256, 1024)
    assert size_overrides(TaskSize(2048, 4096), unlimited) == ({"cpu": "2048", "memory": "4096"}, {})
    # On EC2 a definition may leave the size of the whole task out.
    size = task_size(HostSize(2, 3000, 1), Definition("worker"), is_fargate=False)
    assert size_overrides(size, Definition("worker")) == (
        {},
        {"cpu": 2048, "memory": 3000, "resourceRequirements": [{"type": "GPU", "value": "1"}]},
    )
