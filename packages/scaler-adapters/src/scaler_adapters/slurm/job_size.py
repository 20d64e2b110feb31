"""What a Slurm job requests for tasks with counted resources: cores, memory and GPUs of its node."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scaler_adapters.host_size import HostSize

_MEMORY = re.compile(r"--mem=(\d+)([KMGT]?)B?", re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}
_CORES = re.compile(r"--cpus-per-task=(\d+)")
_GPUS = re.compile(r"--(?:gres|gpus|gpus-per-node|gpus-per-task)=(?:gpu:)?(?:[\w.-]+:)?(\d+)", re.IGNORECASE)


def job_size(asked: HostSize, workers: int, options: Sequence[str]) -> HostSize:
    """Return what a job requests and its workers offer; 0 for what nobody has asked for.

    `options` are those of the settings: where they request more than tasks ask for, that holds.
    """
    text = " ".join(options)
    memory = max((int(number) * _MIB[unit.upper()] for number, unit in _MEMORY.findall(text)), default=0)
    cores = max(map(int, _CORES.findall(text)), default=0)
    return HostSize(
        max(asked.cores, workers, cores) if asked.cores else 0,
        # Slurm takes one kind of memory request only.
        max(asked.memory_mib, int(memory)) if asked.memory_mib and "--mem-per-" not in text else 0,
        max(asked.gpus, _gpus_in(options)) if asked.gpus else 0,
    )


def size_options(size: HostSize, options: Sequence[str]) -> list[str]:
    """Return the further options of sbatch."""
    words = []
    if size.cores:
        words.append(f"--cpus-per-task={size.cores}")
    if size.memory_mib:
        words.append(f"--mem={size.memory_mib}M")
    if size.gpus > _gpus_in(options):
        words.append(f"--gres=gpu:{size.gpus}")
    return words


def _gpus_in(options: Sequence[str]) -> int:
    return max((int(count) for option in options for count in _GPUS.findall(option)), default=0)
