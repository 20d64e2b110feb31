"""How large the host of a new worker group has to be, so that waiting tasks with counted resources can run there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Self

from scaler_protocol.runtime.resources import CORES, GPU, MEMORY, ONE, Amounts, format_amounts, parse_amounts

SIZED = (CORES, GPU, MEMORY)
"""What a batch system or a cloud can be asked for. Everything else a host has or has not."""

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class HostSize:
    """0 stands for whatever there is."""

    cores: int = 0
    memory_mib: int = 0
    gpus: int = 0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Self:
        """Return the smallest host with these amounts, in whole cores, MiB and GPUs."""
        return cls(ceil(resources.get(CORES, 0)), ceil(resources.get(MEMORY, 0) / MIB), ceil(resources.get(GPU, 0)))

    @property
    def amounts(self) -> Amounts:
        """What workers on such a host offer."""
        offered = ((CORES, self.cores), (GPU, self.gpus), (MEMORY, self.memory_mib * MIB))
        return tuple((name, amount * ONE) for name, amount in offered if amount)


def offered_text(given: str, size: HostSize) -> str:
    """Return the `--resources` of workers on a host of this size. What the user has given for them holds."""
    explicit = dict(parse_amounts(given, keep_zeros=True))
    return format_amounts(sorted({**dict(size.amounts), **explicit}.items()))
