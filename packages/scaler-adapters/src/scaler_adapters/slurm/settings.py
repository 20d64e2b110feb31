"""The settings of `scaler_worker_adapter_slurm`."""

from __future__ import annotations

import shlex
import sys
from typing import ClassVar

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.setting_types import integer, number, text
from scaler_protocol.service.settings import setting


def _check_words(words: str) -> None:
    shlex.split(words)


def _check_capabilities(words: str) -> None:
    for word in shlex.split(words):
        name, separator, option = word.partition("=")
        if not name or not separator or not option.startswith("-"):
            raise ValueError(f"{word!r} is not of the form name=--option")


class SlurmAdapterSettings(WebhookSettings):
    """Starts and stops workers as batch jobs of a Slurm cluster when a scheduler asks for it.

    Needs sbatch, squeue and scancel on this machine, and Python with scaler-worker on the nodes.
    """

    command: ClassVar[str] = "scaler_worker_adapter_slurm"
    section: ClassVar[str] = "slurm_worker_adapter"

    max_workers: int = setting(
        integer(at_least=-1),
        "mw",
        default=-1,
        description="most workers at one time, waiting jobs included; -1 for no limit",
    )
    workers_per_job: int = setting(
        integer(at_least=1), "n", default=1, description="workers of one job, which asks for as many CPUs on one node"
    )
    jobs_per_group: int = setting(
        integer(at_least=1),
        "jpg",
        default=1,
        description="jobs that are started and stopped together, as one job array",
    )
    partition: str = setting(text(), default="", description="partition to submit to (default: the cluster's)")
    time_limit: str = setting(
        text(),
        default="",
        description="longest a job may run, as sbatch --time understands it (default: the partition's)",
    )
    sbatch_options: str = setting(
        text(check=_check_words),
        default="",
        description="further options for sbatch, as on a command line: '--account=a --mem=4G'",
    )
    capability_options: str = setting(
        text(check=_check_capabilities),
        default="",
        description="capabilities that jobs can be given beside --per-worker-capabilities, with the sbatch option each "
        "needs: 'gpu=--gres=gpu:1 bigmem=--mem=64G'",
    )
    drain_seconds: float = setting(
        number(at_least=0), "ds", default=60, description="so long before its time limit a job is given no more tasks"
    )
    python: str = setting(
        text(), default=sys.executable, description="Python on the nodes, with scaler-worker installed"
    )

    def options_by_capability(self) -> dict[str, str]:
        """The sbatch option for each capability that has to be asked for."""
        words = shlex.split(self.capability_options)
        return {name: option for name, _, option in (word.partition("=") for word in words)}
