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
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_worker_adapter_slurm tcp://scheduler:2345 --port 8080 --partition batch --workers-per-job 8",
            "jobs of eight workers in one partition",
        ),
    )

    max_workers: Annotated[int, Short("mw")] = Field(
        default=-1,
        ge=-1,
        description="largest number of workers at one time, including those of waiting jobs; -1: no limit",
    )
    workers_per_job: Annotated[WorkerCountSetting, Short("n")] = Field(
        default=1, description="workers of one job; the job requests one CPU for each, all on one node"
    )
    jobs_per_group: Annotated[int, Short("jpg")] = Field(
        default=1, ge=1, description="jobs in one group, which is one job array; they start and stop together"
    )
    partition: str = Field(default="", description="partition to submit to (default: the cluster's)")
    time_limit: str = Field(
        default="",
        description="longest time that a job may run, in the form of sbatch --time (default: the partition's)",
    )
    sbatch_options: str = Field(default="", description="further options for sbatch, as in '--account=a --mem=4G'")
    capability_options: str = Field(
        default="",
        description="further capabilities that jobs can have beside --per-worker-capabilities, each with its sbatch "
        "option: 'gpu=--gres=gpu:1 bigmem=--mem=64G'",
    )
    drain_seconds: Annotated[float, Short("ds")] = Field(
        default=60, ge=0, description="seconds before its time limit in which a job gets no new tasks"
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
        """Return the sbatch option for each capability of `--capability-options`."""
        return parse_templates(shlex.split(self.capability_options))
