"""What this host offers for all its workers together, before anything is asked of it: cores, memory, GPUs, and what it is told.

GPUs are found through NVML, which is asked only where pynvml (`nvidia-ml-py`) is installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from scaler_protocol.runtime.cpu_limit import cpu_limit_cores
from scaler_protocol.runtime.memory_limit import memory_limit_bytes
from scaler_protocol.runtime.resources import CORES, GPU, MEMORY, ONE, format_amounts, parse_amounts
from scaler_protocol.service.errors import ServiceError

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Where whoever started the workers may have said which GPUs are theirs, as Slurm does."""


def offered_resources(
    given: str, gpu_devices: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[str, tuple[str, ...]]:
    """Return the amounts as text, and the GPUs among them: as many as `gpu` says.

    `given`: amounts that the user has set; 0 for none. Raises ServiceError where there are fewer GPUs than that.
    """
    explicit = dict(parse_amounts(given, keep_zeros=True))
    amounts = {
        CORES: int(cpu_limit_cores() * ONE),
        # Whole MiB: people read it.
        MEMORY: memory_limit_bytes() // 1024**2 * 1024**2 * ONE,
        **explicit,
    }
    if len(set(gpu_devices)) != len(gpu_devices):
        raise ServiceError(f"--gpu-devices names a device twice: {','.join(gpu_devices)}")
    devices = tuple(gpu_devices) or _visible(environment)
    if devices is None:
        devices = found_devices()
        if not devices and GPU in explicit:
            # Nobody knows better than who has started it.
            devices = tuple(str(number) for number in range(explicit[GPU] // ONE))
    wanted = explicit.get(GPU, len(devices) * ONE)
    if wanted % ONE or wanted > len(devices) * ONE:
        raise ServiceError(
            f"--resources gpu={wanted / ONE:g}: GPUs are whole devices, and there are {len(devices)} ({', '.join(devices)})"
        )
    devices = devices[: wanted // ONE]
    amounts[GPU] = len(devices) * ONE
    return format_amounts(sorted((name, amount) for name, amount in amounts.items() if amount)), devices


def found_devices(nvml: Any = None) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that NVML finds; none where it is not installed, or finds no driver."""
    try:
        if nvml is None:
            nvml = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        # Whatever a driver that is half installed does: this host then has no GPUs to count.
        return ()
    try:
        uuids = [nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount())]
        return tuple(uuid.decode() if isinstance(uuid, bytes) else str(uuid) for uuid in uuids)
    except Exception:
        return ()
    finally:
        nvml.nvmlShutdown()


def _visible(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the GPUs that the environment names; None where it names none."""
    text = environment.get(VISIBLE)
    if text is None:
        return None
    # As CUDA reads it: what comes behind the first that cannot be a device is not visible.
    devices: dict[str, None] = {}
    for part in (part.strip() for part in text.split(",")):
        if not part or part in devices or not (part.isdigit() or part.startswith(("GPU-", "MIG-"))):
            break
        devices[part] = None
    return tuple(devices)
