"""Counted resources with real processes: never more than there is, own devices for each task, and limits of the cluster."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, SchedulerClusterCombo, current_task


def occupy(folder: str, seconds: float) -> tuple[int, str, int]:
    """Say by a file that this runs; return how many such files there are, what devices are seen, and the process."""
    path = Path(folder, f"{os.getpid()}-{time.monotonic_ns()}")
    path.touch()
    time.sleep(seconds)  # sleeps: others run beside it, or may not
    count = len(list(Path(folder).iterdir()))
    path.unlink()
    return count, os.environ.get("CUDA_VISIBLE_DEVICES", "none"), os.getpid()


def devices() -> tuple[str | None, ...]:
    names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    return tuple(os.environ.get(name) for name in names)


def test_no_more_runs_than_there_is(tmp_path: Path) -> None:
    with SchedulerClusterCombo(n_workers=4, resources="licence=2") as combo, Client(combo.get_address()) as client:
        futures = [client.submit_verbose(occupy, (str(tmp_path), 0.05), resources={"licence": 1}) for _ in range(12)]
        assert max(future.result()[0] for future in futures) <= 2
        assert client.map(abs, range(-5, 5), resources={"licence": 0.5}) == list(map(abs, range(-5, 5)))
        assert client.get({"a": (abs, -1), "b": (abs, "a")}, ["b"], resources="licence=2") == {"b": 1}
        assert client.submit_verbose(abs, (client.submit_verbose(abs, (-7,), resources="licence=2"),)).result() == 7
        assert client.with_options(resources={"cores": 1, "mem": "1MiB"}).submit(abs, -3).result() == 3


def test_limits_of_the_cluster(tmp_path: Path) -> None:
    with (
        SchedulerClusterCombo(n_workers=3, cluster_resources={"seat": 1}) as combo,
        Client(combo.get_address()) as client,
    ):
        futures = [client.submit_verbose(occupy, (str(tmp_path), 0.03), resources={"seat": 1}) for _ in range(6)]
        assert {future.result()[0] for future in futures} == {1}


def test_each_running_task_has_devices_of_its_own(tmp_path: Path) -> None:
    with (
        SchedulerClusterCombo(n_workers=3, resources="gpu=2", gpu_devices=["GPU-a", "GPU-b"]) as combo,
        Client(combo.get_address()) as client,
    ):
        before = client.submit(devices).result()
        futures = [client.submit_verbose(occupy, (str(tmp_path), 0.1), resources={"gpu": 1}) for _ in range(8)]
        results = [future.result() for future in futures]
        assert max(count for count, _, _ in results) <= 2
        assert {seen for _, seen, _ in results} == {"GPU-a", "GPU-b"}
        # A process keeps its device.
        assert len({(seen, pid) for _, seen, pid in results}) == len({pid for _, _, pid in results})
        both = client.submit_verbose(devices, resources={"gpu": 2}).result()
        assert [set(seen.split(",")) for seen in both if seen is not None] == [{"GPU-a", "GPU-b"}] * 3
        half = client.submit_verbose(devices, resources={"gpu": 0.5}).result()
        assert half[0] in ("GPU-a", "GPU-b")
        assert client.map(lambda _: devices(), range(20)) == [before] * 20


def nested_half(depth: int) -> tuple[str, ...]:
    with Client() as client:
        inner = client.submit_verbose(devices, resources={"gpu": 0.5}).result()
    return tuple(str(name) for name in inner)


def test_each_worker_is_reached_by_run_with_devices_and_tasks_inside_tasks_have_their_own() -> None:
    with (
        SchedulerClusterCombo(n_workers=1, resources="gpu=2", gpu_devices=["GPU-a", "GPU-b"]) as combo,
        Client(combo.get_address()) as client,
    ):
        (seen,) = client.with_options(resources={"gpu": 1}).run(devices).values()
        assert seen[0] in ("GPU-a", "GPU-b")
        futures = [
            client.submit(nested_half, 0),
            *(client.submit_verbose(devices, resources="gpu=2") for _ in range(3)),
        ]
        assert futures[0].result(timeout=60)[0] in ("GPU-a", "GPU-b")
        assert all(set(str(future.result(timeout=60)[0]).split(",")) == {"GPU-a", "GPU-b"} for future in futures[1:])


def test_what_is_wrong_is_said_at_the_call(tmp_path: Path) -> None:
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
        with pytest.raises(ValueError, match="the amount of gpu is 'many'"):
            client.submit_verbose(abs, (1,), resources={"gpu": "many"})
        with pytest.raises(ValueError, match=r"gpu is 1\.5; above 1 it must be a whole number"):
            client.map(abs, [1], resources={"gpu": 1.5})
        with pytest.raises(TypeError, match="resources must map names to amounts"):
            client.map(abs, [1], resources=7)  # type: ignore[call-overload]


def grants() -> tuple[dict[str, tuple[str, ...]], dict[str, float]]:
    task = current_task()
    return dict(task.devices), dict(task.resources)


def grants_inside_and_outside() -> tuple[Any, Any, Any]:
    with Client() as client:
        inner = client.submit(grants).result()
        asking = client.submit_verbose(grants, resources={"gpu": 0.5}).result()
    return inner, asking, grants()


def test_a_task_sees_what_it_has() -> None:
    assert grants() == ({}, {})
    with (
        SchedulerClusterCombo(n_workers=2, resources="gpu=2,mem=1GiB", gpu_devices=["GPU-a", "GPU-b"]) as combo,
        Client(combo.get_address()) as client,
    ):
        devices, asked = client.submit_verbose(grants, resources={"gpu": 2, "mem": "64MiB", "cores": 0.5}).result()
        assert devices == {"gpu": ("GPU-a", "GPU-b")}
        assert asked == {"gpu": 2, "mem": 64 * 1024**2, "cores": 0.5}
        assert client.submit_verbose(grants, resources={"cores": 1}).result() == ({}, {"cores": 1})
        assert client.with_options(label="plain").submit(grants).result() == ({}, {})
        assert client.submit(grants).result() == ({}, {})
        asked_of_map = client.with_options(resources={"gpu": 1}).map(lambda _: grants(), range(3))
        assert all(len(devices["gpu"]) == 1 and asked == {"gpu": 1} for devices, asked in asked_of_map)
        inner, asking, outer = client.submit_verbose(grants_inside_and_outside, resources={"gpu": 1}).result()
        assert inner == ({}, {})
        assert asking[1] == {"gpu": 0.5}
        assert outer[1] == {"gpu": 1}
        assert set(asking[0]["gpu"]) | set(outer[0]["gpu"]) <= {"GPU-a", "GPU-b"}
