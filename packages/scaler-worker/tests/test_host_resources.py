"""What a host offers by itself and what it is told. NVML is a fake: no test here has a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.runtime.cpu_limit import cpu_limit_cores
from scaler_protocol.runtime.resources import parse_amounts
from scaler_protocol.service.errors import ServiceError
from scaler_worker import host_resources
from scaler_worker.host_resources import found_devices, offered_resources


class FakeNvml:
    """What of NVML is used."""

    def __init__(self, uuids: list[Any], fails: bool = False) -> None:
        self.uuids = uuids
        self.fails = fails
        self.is_open = False

    def nvmlInit(self) -> None:
        if self.fails:
            raise RuntimeError("no driver")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> Any:
        return self.uuids[handle]


def test_cores_and_memory_are_offered_by_default() -> None:
    text, devices = offered_resources("", (), {"CUDA_VISIBLE_DEVICES": ""})
    amounts = dict(parse_amounts(text))
    assert amounts["cores"] >= 1000
    assert amounts["mem"] > 0
    assert "gpu" not in amounts
    assert devices == ()


def test_what_is_given_counts() -> None:
    text, _ = offered_resources("cores=0,licence=3,mem=1GiB", (), {"CUDA_VISIBLE_DEVICES": ""})
    assert text == "licence=3,mem=1GiB"


def test_devices_of_the_environment_and_of_the_flag() -> None:
    text, devices = offered_resources("", (), {"CUDA_VISIBLE_DEVICES": "2, 3"})
    assert devices == ("2", "3")
    assert "gpu=2" in text
    assert offered_resources("gpu=1", (), {"CUDA_VISIBLE_DEVICES": "2,3"})[1] == ("2",)
    assert offered_resources("", ("7",), {"CUDA_VISIBLE_DEVICES": "2,3"})[1] == ("7",)
    with pytest.raises(ServiceError, match=r"gpu=4: GPUs are whole devices, and there are 2 \(2, 3\)"):
        offered_resources("gpu=4", (), {"CUDA_VISIBLE_DEVICES": "2,3"})
    with pytest.raises(ServiceError, match=r"gpu=0\.5"):
        offered_resources("gpu=0.5", ("0",), {})


def test_devices_that_nvml_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(["GPU-a", b"GPU-b"])
    assert found_devices(nvml) == ("GPU-a", "GPU-b")
    assert not nvml.is_open
    assert found_devices(FakeNvml([], fails=True)) == ()
    monkeypatch.setattr(host_resources, "import_module", lambda name: FakeNvml(["GPU-x"]))
    assert offered_resources("", (), {})[1] == ("GPU-x",)
    monkeypatch.setattr(host_resources, "import_module", lambda name: FakeNvml([]))
    assert offered_resources("gpu=2", (), {})[1] == ("0", "1")


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,-1,1", ("0",)),
        ("0,0", ("0",)),
        ("GPU-aa,MIG-bb", ("GPU-aa", "MIG-bb")),
        ("", ()),
    ],
)
def test_only_what_cuda_would_see_is_offered(text: str, devices: tuple[str, ...]) -> None:
    assert offered_resources("", (), {"CUDA_VISIBLE_DEVICES": text})[1] == devices


def test_a_device_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ServiceError, match="names a device twice"):
        offered_resources("", ("0", "0"), {})


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        ("0::/a", {"a/cpu.max": "garbage"}, None),
        ("4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "25000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.25),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_quotas_of_control_groups_count(
    tmp_path: Path, membership: str, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "membership").write_text(membership + "\n")
    expected = float(len(os.sched_getaffinity(0))) if cores is None else cores
    assert cpu_limit_cores(str(tmp_path), str(tmp_path / "membership")) == expected
