"""Groups of workers as Slurm jobs: one job array for each group, with one agent in each of its elements.

The name of a job names the adapter, and its comment names the group. So a restarted adapter finds its jobs, and nothing has
to be stored. What Slurm does by itself (ending jobs at their time limit, running them again when a node is lost) is noticed at
the next listing.
"""

from __future__ import annotations

import logging
import shlex
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import ClassVar

from scaler_adapters.adapter import (
    AdapterInfo,
    GroupState,
    MalformedRequestError,
    NoCapacityError,
    ProvisioningError,
    StartRequest,
    UnknownGroupError,
    WorkerAdapter,
    WorkerGroup,
)
from scaler_adapters.capability_templates import needed_templates
from scaler_adapters.host_size import SIZED, HostSize
from scaler_adapters.identity import GroupMark, adapter_name
from scaler_adapters.room import Room
from scaler_adapters.slurm import commands
from scaler_adapters.slurm.commands import Job
from scaler_adapters.slurm.job_size import job_size, size_options
from scaler_adapters.slurm.settings import SlurmAdapterSettings
from scaler_adapters.worker_command import WORKER_MODULE, worker_arguments
from scaler_protocol.capabilities import parse_capabilities

logger = logging.getLogger(__name__)

JUDGE_SECONDS = 3.0
"""How long to watch a new job, in case Slurm reports that it can never run."""

STOP_SECONDS = 20.0
"""How long workers may take to end after they were asked to, and jobs after they were cancelled."""

LOOK_SECONDS = 0.25


class SlurmAdapter(WorkerAdapter):
    """Starts, stops and lists Slurm jobs."""

    settings_class: ClassVar = SlurmAdapterSettings

    def __init__(self, settings: SlurmAdapterSettings) -> None:
        commands.check_installed()
        self._settings = settings
        self._capabilities = parse_capabilities(settings.per_worker_capabilities)
        self._extra_options = settings.options_by_capability()
        self._room = Room(settings.max_workers, settings.workers_per_job * settings.jobs_per_group)
        self._job_name = adapter_name(settings)

    def info(self) -> AdapterInfo:
        """Return the limit, the size of a group, the capabilities that every worker has, and what jobs can be asked for."""
        return AdapterInfo(self._room.groups_max, self._room.workers_per_group, self._capabilities, SIZED)

    def list(self) -> Sequence[WorkerGroup]:
        """Return the groups whose jobs run or wait. Jobs that can never run are cancelled."""
        groups = []
        for group_id, elements in self._by_group().items():
            impossible = next((job.reason for job in elements if job.reason in commands.IMPOSSIBLE_REASONS), None)
            if impossible is not None:
                logger.warning("the job of %s can never run (%s): cancelled", group_id, impossible)
                commands.cancel(elements[0].job_id)
                continue
            groups.append(self._described(group_id, elements))
        return groups

    def start(self, request: StartRequest) -> WorkerGroup:
        """Submit a job array, and return its group as soon as it waits or runs."""
        options = needed_templates(
            request.capabilities, self._capabilities, self._extra_options, "--capability-options"
        )
        token = uuid.uuid4().hex[:12]
        group_id = _group_id(token)
        with self._room.for_group(group_id, self._by_group):
            self._submit(token, request, [*options.values()])
        if self._room.closed:
            self._end([group_id])
            raise NoCapacityError("this adapter is stopping")
        return self._judge(group_id)

    def _submit(self, token: str, request: StartRequest, options: Sequence[str]) -> None:
        """Submit the job array of a group. The group has its own id, because Slurm reuses the numbers of jobs."""
        settings = self._settings
        capabilities = {**self._capabilities, **request.capabilities}
        further = [*shlex.split(settings.sbatch_options), *options]
        size = job_size(HostSize.of(request.resources), settings.workers_per_job, further)
        words = [
            f"--job-name={self._job_name}",
            f"--comment={GroupMark(token, request.request_id, capabilities).to_json()}",
            f"--array=0-{settings.jobs_per_group - 1}",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={settings.workers_per_job}",
            # If a job's node is lost, Slurm runs it elsewhere, with the same names of workers.
            "--requeue",
        ]
        if settings.partition:
            words.append(f"--partition={settings.partition}")
        if settings.time_limit:
            words.append(f"--time={settings.time_limit}")
        # Behind those of the settings: of one that is given twice, sbatch takes the last.
        job_id = commands.submit(
            [*words, *further, *size_options(size, further)], self._script(token, capabilities, size)
        )
        logger.info("group %s is job %s", _group_id(token), job_id)

    def _judge(self, group_id: str) -> WorkerGroup:
        """Watch a new job for a while, or until it runs. Raises MalformedRequestError if it can never run."""
        deadline = time.monotonic() + JUDGE_SECONDS
        while True:
            elements = self._by_group().get(group_id)
            if elements is None:
                raise ProvisioningError(f"the job of {group_id} ended as soon as it had begun; see its output file")
            for job in elements:
                if job.reason in commands.IMPOSSIBLE_REASONS:
                    commands.cancel(job.job_id)
                    raise MalformedRequestError(f"Slurm can never run such a job: {job.reason}")
            group = self._described(group_id, elements)
            if group.state is GroupState.RUNNING or time.monotonic() >= deadline:
                return group
            time.sleep(LOOK_SECONDS)

    def _script(self, token: str, capabilities: dict[str, int], size: HostSize) -> str:
        settings = self._settings
        words = [
            settings.python,
            "-m",
            WORKER_MODULE,
            *worker_arguments(settings, settings.workers_per_job, capabilities, size),
        ]
        names = ",".join(_worker_name(token, "${SLURM_ARRAY_TASK_ID}", i) for i in range(settings.workers_per_job))
        # With exec, the signals that Slurm sends to the batch process reach the agent.
        return f'#!/bin/sh\nexec {shlex.join(words)} --worker-names="{names}"\n'

    def stop(self, group_id: str) -> None:
        """Ask the workers to finish, then cancel the jobs that have not ended."""
        if group_id not in self._by_group():
            raise UnknownGroupError(f"there is no group {group_id!r} of this adapter")
        self._end([group_id])

    def close(self) -> None:
        """Cancel the jobs of all groups and wait until they have left the queue."""
        self._room.close()
        self._end([*self._by_group()])

    def _end(self, group_ids: Sequence[str]) -> None:
        for group_id, elements in self._by_group().items():
            if group_id in group_ids:
                # Otherwise waiting elements would start while the running ones finish.
                waiting = any(job.state == "PENDING" for job in elements)
                (commands.cancel if waiting else commands.signal_workers)(elements[0].job_id)
        if self._wait_gone(group_ids):
            return
        for group_id, elements in self._by_group().items():
            if group_id in group_ids:
                commands.cancel(elements[0].job_id)
        if not self._wait_gone(group_ids):
            raise ProvisioningError(f"{', '.join(group_ids)} have not ended after they were cancelled")

    def _wait_gone(self, group_ids: Sequence[str]) -> bool:
        deadline = time.monotonic() + STOP_SECONDS
        while not self._by_group().keys().isdisjoint(group_ids):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _by_group(self) -> Mapping[str, Sequence[Job]]:
        groups: dict[str, list[Job]] = {}
        for job in commands.jobs(self._job_name):
            if not job.is_ending:
                groups.setdefault(_group_id(_mark(job).name), []).append(job)
        return groups

    def _described(self, group_id: str, elements: Sequence[Job]) -> WorkerGroup:
        mark = _mark(elements[0])
        names = [
            _worker_name(mark.name, job.index, number)
            for job in elements
            for number in range(self._settings.workers_per_job)
        ]
        running = [job for job in elements if job.state == "RUNNING"]
        state = GroupState.PENDING
        if running:
            ending = any(job.seconds_left <= self._drain_seconds(job) for job in running)
            state = GroupState.ENDING if ending else GroupState.RUNNING
        return WorkerGroup(group_id, tuple(names), mark.capabilities, state, mark.request_id)

    def _drain_seconds(self, job: Job) -> float:
        # Otherwise a job with a shorter time limit would get no tasks at all.
        return min(self._settings.drain_seconds, job.seconds_limit / 4)


def _mark(job: Job) -> GroupMark:
    return GroupMark.from_json(job.comment, f"job-{job.job_id}")


def _group_id(token: str) -> str:
    return f"slurm-{token}"


def _worker_name(token: str, index: str, number: int) -> str:
    return f"slurm-{token}-{index}-{number}"
