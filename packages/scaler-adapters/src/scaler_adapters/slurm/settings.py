"""The settings of `scaler_worker_adapter_slurm`."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from scaler_adapters.capability_templates import parse_templates
from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.settings import Short
from scaler_protocol.service.worker_settings import WorkerCountSetting


class SlurmAdapterSettings(WebhookSettings):
    """Starts and stops workers as batch jobs of a Slurm cluster when a scheduler asks for it.

    Needs sbatch, squeue and scancel on this machine, and Python with scaler-worker on the nodes.
    """

    command: ClassVar[str] = "scaler_worker_adapter_slurm"
    section: ClassVar[str] = "slurm_worker_adapter"

    max_workers: Annotated[int, Short("mw")] = Field(
        default=-1, ge=-1, description="most workers at one time, waiting jobs included; -1 for no limit"
    )
    workers_per_job: Annotated[WorkerCountSetting, Short("n")] = Field(
        default=1, description="workers of one job, which asks for as many CPUs on one node"
    )
    jobs_per_group: Annotated[int, Short("jpg")] = Field(
        default=1, ge=1, description="jobs that are started and stopped together, as one job array"
    )
    partition: str = Field(default="", description="partition to submit to (default: the cluster's)")
    time_limit: str = Field(
        default="", description="longest a job may run, as sbatch --time understands it (default: the partition's)"
    )
    sbatch_options: str = Field(
        default="", description="further options for sbatch, as on a command line: '--account=a --mem=4G'"
    )
    capability_options: str = Field(
        default="",
        description="capabilities that jobs can be given beside --per-worker-capabilities, with the sbatch option each "
        "needs: 'gpu=--gres=gpu:1 bigmem=--mem=64G'",
    )
    drain_seconds: Annotated[float, Short("ds")] = Field(
        default=60, ge=0, description="so long before its time limit a job is given no more tasks"
    )
    python: str = Field(
        default=sys.executable, min_length=1, description="Python on the nodes, with scaler-worker installed"
    )

    @field_validator("sbatch_options", "capability_options")
    @classmethod
    def _check_words(cls, text: str) -> str:
        shlex.split(text)
        return text

    @field_validator("capability_options")
    @classmethod
    def _check_capabilities(cls, text: str) -> str:
        for name, option in parse_templates(shlex.split(text)).items():
            if not option.startswith("-"):
                raise ValueError(f"'{name}={option}' is not of the form name=--option")
        return text

    def options_by_capability(self) -> dict[str, str]:
        """The sbatch option for each capability that has to be asked for."""
        return parse_templates(shlex.split(self.capability_options))
