"""Slurm through its commands: submit, list, cancel. Only this module interprets their output."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from scaler_adapters.adapter import AdapterError, MalformedRequestError, NoCapacityError, ProvisioningError
from scaler_protocol.service.errors import ServiceError

COMMAND_SECONDS = 30.0
"""How long one command may take. slurmctld answers late while it is busy or restarts."""

IMPOSSIBLE_REASONS = frozenset(
    {
        "AccountingPolicy",
        "AccountNotAllowed",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
    }
)
"""Reasons of squeue for jobs that wait forever: no node that becomes free can help them."""

_NEVER = (
    "requested node configuration is not available",
    "invalid partition",
    "requested time limit",
    "invalid account",
    "invalid qos",
    "invalid generic resource",
    "invalid feature specification",
    "memory specification can not be satisfied",
    "unrecognized option",
    "more processors requested than permitted",
    "node count specification invalid",
)
_LATER = ("job violates accounting/qos policy", "too many", "limit")

_FORMAT = "%F|%K|%T|%L|%l|%r|%k"


@dataclass(frozen=True, slots=True)
class Job:
    """One element of a job array, as squeue shows it."""

    job_id: str
    """The number of the job array."""
    index: str
    state: str
    """The state in Slurm's long form: PENDING, RUNNING, COMPLETING, …"""
    seconds_left: float
    seconds_limit: float
    reason: str
    comment: str

    @property
    def is_ending(self) -> bool:
        """Whether no process of it runs any more."""
        return self.state in ("COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


def check_installed() -> None:
    """Raise ServiceError unless Slurm's commands are installed."""
    missing = [command for command in ("sbatch", "squeue", "scancel") if shutil.which(command) is None]
    if missing:
        raise ServiceError(f"{', '.join(missing)} is not on the PATH: run this adapter where jobs can be submitted")


def submit(options: Sequence[str], script: str) -> str:
    """Submit a batch script. Returns the job's id. Raises AdapterError."""
    printed = _run(["sbatch", "--parsable", *options], script)
    # JOBID, or JOBID;CLUSTER.
    return printed.strip().splitlines()[-1].partition(";")[0]


def jobs(job_name: str) -> list[Job]:
    """Return all jobs of this user with this name that Slurm still lists, one for each array element."""
    printed = _run(["squeue", "--me", "--array", "--noheader", f"--name={job_name}", f"--format={_FORMAT}"])
    found = []
    for line in printed.splitlines():
        fields = line.split("|", 6)
        if len(fields) == 7:
            job_id, index, state, left, limit, reason, comment = (field.strip() for field in fields)
            found.append(Job(job_id, index, state, seconds(left), seconds(limit), reason, comment))
    return found


def signal_workers(job_id: str) -> None:
    """Ask the workers of a running job to stop. A waiting job is not affected."""
    _cancel(["--signal=TERM", "--batch", job_id])


def cancel(job_id: str) -> None:
    """Cancel a job, waiting or running."""
    _cancel([job_id])


def seconds(text: str) -> float:
    """Return the seconds of a time like `[days-][[hours:]minutes:]seconds`; inf for `UNLIMITED`, `INVALID` and the like."""
    days_text, dash, clock = text.rpartition("-")
    try:
        days = int(days_text) if dash else 0
        total = 0
        for part in clock.split(":"):
            total = 60 * total + int(part)
    except ValueError:
        return inf
    return 86_400.0 * days + total


def _cancel(words: Sequence[str]) -> None:
    try:
        _run(["scancel", *words])
    except ProvisioningError as error:
        # The job has ended in the meantime, as wanted.
        if "invalid job id" not in str(error).lower() and "already completing" not in str(error).lower():
            raise


def _run(words: Sequence[str], standard_input: str | None = None) -> str:
    try:
        done = subprocess.run(words, input=standard_input, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise ProvisioningError(f"{words[0]} did not answer within {COMMAND_SECONDS:g} s") from None
    except OSError as error:
        raise ProvisioningError(f"{words[0]} cannot be run: {error}") from None
    if done.returncode == 0:
        return done.stdout
    text = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    raise _refusal(words[0], text)


def _refusal(command: str, text: str) -> AdapterError:
    lower = text.lower()
    kind: type[AdapterError] = ProvisioningError
    if command == "sbatch" and any(words in lower for words in _NEVER):
        kind = MalformedRequestError
    elif command == "sbatch" and any(words in lower for words in _LATER):
        kind = NoCapacityError
    return kind(f"{command}: {text}")
