"""What each worker group of a machine offers: all groups together never more than the machine has."""

from __future__ import annotations

from collections.abc import Collection

from scaler_adapters.adapter import NoCapacityError
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_protocol.runtime.cpu_limit import cpu_limit_cores
from scaler_protocol.runtime.memory_limit import memory_limit_bytes
from scaler_protocol.runtime.resources import CORES, GPU, MEMORY, ONE, format_amounts, parse_amounts


class GroupParts:
    """`--resources` says what each group offers. Without it, the machine's cores and memory are divided among workers.

    That is among as many workers as the adapter may have; without a limit, one for each core. GPUs are those of `--gpu-devices`;
    a group gets as many of them as `--resources` says, and no other group has these.
    """

    def __init__(self, settings: NativeAdapterSettings) -> None:
        self._settings = settings
        per_group = settings.workers_per_group
        explicit = dict(parse_amounts(settings.resources, keep_zeros=True))
        cores = cpu_limit_cores()
        workers = max(settings.max_workers if settings.max_workers >= 0 else int(cores), per_group, 1)
        self._gpus = explicit.get(GPU, 0) // ONE
        self._resources = {
            CORES: int(cores * ONE) * per_group // workers,
            MEMORY: memory_limit_bytes() * per_group // workers // 1024**2 * 1024**2 * ONE,
            GPU: 0,
            **explicit,
        }

    def settings_for(self, devices_in_use: Collection[str]) -> NativeAdapterSettings:
        """Return the settings of the next group. Raises NoCapacityError where there are too few GPUs that no group has."""
        free = [device for device in self._settings.gpu_devices if device not in devices_in_use]
        if len(free) < self._gpus:
            raise NoCapacityError(f"a group needs {self._gpus} GPUs, and {len(free)} of --gpu-devices are free")
        resources = format_amounts(sorted(self._resources.items()))
        return self._settings.model_copy(update={"resources": resources, "gpu_devices": tuple(free[: self._gpus])})
