"""Worker groups of one machine offer their part of it each."""

from __future__ import annotations

import pytest

from scaler_adapters.adapter import NoCapacityError
from scaler_adapters.native.group_parts import GroupParts
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.worker_command import worker_arguments
from scaler_protocol.runtime.cpu_limit import cpu_limit_cores
from scaler_protocol.runtime.memory_limit import memory_limit_bytes
from scaler_protocol.runtime.resources import ONE, parse_amounts


def settings(**changes: object) -> NativeAdapterSettings:
    return NativeAdapterSettings(address="tcp://127.0.0.1:2345", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "per_group"), [(-1, 1), (4, 1), (8, 2)])
def test_all_groups_together_offer_no_more_than_the_machine(workers: int, per_group: int) -> None:
    parts = GroupParts(settings(max_workers=workers, workers_per_group=per_group))
    amounts = dict(parse_amounts(parts.settings_for(()).resources))
    groups = (workers if workers > 0 else int(cpu_limit_cores())) // per_group
    assert amounts["cores"] * groups <= cpu_limit_cores() * ONE
    assert amounts["mem"] * groups <= memory_limit_bytes() * ONE
    assert "gpu" not in amounts


def test_each_group_has_gpus_of_its_own() -> None:
    parts = GroupParts(settings(resources="gpu=1,licence=2", gpu_devices=["a", "b"]))
    first = parts.settings_for(())
    second = parts.settings_for(first.gpu_devices)
    assert [*first.gpu_devices, *second.gpu_devices] == ["a", "b"]
    assert "--gpu-devices=a" in worker_arguments(first, 1, {})
    assert dict(parse_amounts(first.resources))["licence"] == 2 * ONE
    with pytest.raises(NoCapacityError, match="a group needs 1 GPUs, and 0 of --gpu-devices are free"):
        parts.settings_for(("a", "b"))
