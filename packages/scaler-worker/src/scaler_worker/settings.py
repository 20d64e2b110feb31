"""The settings of `scaler_cluster`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from scaler_protocol.service.late_address import LateAddress, or_on_input
from scaler_protocol.service.setting_types import ADDRESS, TEXTS, integer
from scaler_protocol.service.settings import positional, setting
from scaler_protocol.service.worker_settings import WorkerSettings


def _default_worker_count(earlier: Mapping[str, Any]) -> int:
    return len(earlier["worker_names"]) or os.cpu_count() or 1


class ClusterSettings(WorkerSettings):
    """Runs workers on this machine for the scheduler at ADDRESS.

    Each worker runs one task at a time in a process of its own.
    """

    command: ClassVar[str] = "scaler_cluster"
    section: ClassVar[str] = "cluster"

    address: LateAddress = positional(
        or_on_input(ADDRESS),
        also_key="scheduler_address",
        description="scheduler to work for, as in tcp://127.0.0.1:2345; - reads it from standard input",
    )
    worker_names: tuple[str, ...] = setting(
        TEXTS,
        "wn",
        default=(),
        description="names of the workers, separated by commas (default: host name and number)",
    )
    num_of_workers: int = setting(
        integer(at_least=1),
        "n",
        default_from=_default_worker_count,
        description="number of workers (default: as many as names, else the number of CPUs)",
    )

    def check(self) -> None:
        names = self.worker_names
        if names and len(names) != self.num_of_workers:
            raise ValueError(f"--worker-names has {len(names)} names for --num-of-workers {self.num_of_workers}")
        if len(set(names)) != len(names):
            raise ValueError("--worker-names gives the same name to two workers")
