"""Runs samples in turn, each in a fresh process with a time limit, and sees that nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.environments import Environment
from benchmarks.system import System
from benchmarks.workload import Workload

ROOT = Path(__file__).parent.parent

LEFT_BEHIND_GRACE_SECONDS = 3.0
"""After its client has ended, so long may a system take to end its other processes. What is left then is counted and killed."""

LOG_TAIL_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Settings:
    rounds: int
    seconds: float
    """What one sample should take, where a workload can choose its size."""
    workers: int
    quick: bool


Sample = dict[str, Any]
"""workload, system, round, status, metrics, message, wall_s, load_average, left_behind: as the results file has it."""


def run(
    workloads: Sequence[Workload],
    systems: Sequence[System],
    environments: Mapping[str, Environment],
    settings: Settings,
) -> Iterator[Sample]:
    """Yield samples as they are done: round by round, workload by workload, the systems in turn.

    So what else the machine does meanwhile meets all systems alike. A system that timed out or does not offer something
    is not asked again in later rounds.
    """
    processes.adopt_orphans()
    given_up: dict[tuple[str, str], Sample] = {}
    for number in range(1, settings.rounds + 1):
        for workload in workloads:
            for system in systems:
                if workload.systems is not None and system.name not in workload.systems:
                    continue
                key = (workload.name, system.name)
                if key in given_up or system.name not in environments:
                    continue
                outcome = _sample(workload, system, environments[system.name], settings)
                sample = {"workload": workload.name, "system": system.name, "round": number, **outcome}
                if sample["status"] in ("unsupported", "timeout"):
                    given_up[key] = sample
                yield sample


def _sample(workload: Workload, system: System, environment: Environment, settings: Settings) -> Sample:
    mark = secrets.token_hex(8)
    # Some systems keep their sockets there, whose paths may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    output, log = folder / "sample.json", folder / "sample.log"
    command = [str(environment.python), "-m", "benchmarks.sample"]
    command += ["--system", system.name, "--workload", workload.name, "--output", str(output)]
    command += ["--seconds", str(settings.seconds), "--workers", str(settings.workers)]
    command += ["--quick"] if settings.quick else []
    variables = {**os.environ, **system.environment}
    # One thread for numerical libraries: two workers on two cores are what is compared.
    variables |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    variables |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), processes.MARK: mark}
    load_average = os.getloadavg()[0]
    ended = False
    begin = time.monotonic()
    try:
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            ended = _wait(process, workload.limit_s)
        wall_s = time.monotonic() - begin
        outcome: Sample = {"status": "timeout", "message": f"not done after {workload.limit_s:g} s"}
        if ended:
            outcome = {"status": "failed", "message": f"it ended with status {process.returncode} and no result"}
            with contextlib.suppress(FileNotFoundError):
                outcome = json.loads(output.read_text(encoding="utf-8"))
        if outcome["status"] not in ("ok", "unsupported"):
            # Results are published: no paths of this machine.
            text = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:]
            outcome["log"] = text.replace(str(ROOT), "…").replace(sys.base_prefix, "…/python")
    finally:
        # Nothing else that the runner starts is alive now.
        left_behind = processes.kill(
            lambda: processes.descendants() + processes.marked(mark), LEFT_BEHIND_GRACE_SECONDS if ended else 0.0
        )
        shutil.rmtree(folder, ignore_errors=True)
    return {
        **outcome,
        "wall_s": round(wall_s, 2),
        "load_average": load_average,
        "left_behind": left_behind if ended else 0,
    }


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Return whether the process ended in time; one that did not is killed, after it wrote where it was."""
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
        process.wait()
        return False
    return True
