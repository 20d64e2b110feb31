"""Groups of workers as tasks of AWS ECS: one task for each group, with one agent in it.

The `startedBy` of a task names the adapter, and the environment it was started with names the group. So a restarted adapter
finds its tasks. A task that ends by itself, because its image cannot be pulled or AWS takes its machine back, is noticed at
the next listing.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scaler_adapters.adapter import (
    AdapterError,
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
from scaler_adapters.ecs.api import EcsApi, EcsTask
from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.ecs.task_size import task_size
from scaler_adapters.host_size import SIZED, HostSize
from scaler_adapters.identity import GROUP_VARIABLE, GroupMark, adapter_name, digest
from scaler_adapters.room import Room
from scaler_adapters.worker_command import WORKER_MODULE, worker_arguments
from scaler_protocol.capabilities import parse_capabilities
from scaler_protocol.runtime.resources import GPU
from scaler_protocol.service.errors import ServiceError

logger = logging.getLogger(__name__)

STOP_SECONDS = 150.0
"""How long a task may take to end. ECS allows up to 120 s between SIGTERM and SIGKILL."""

LOOK_SECONDS = 1.0

UNSEEN_SECONDS = 30.0
"""How long ECS may take to list a task that was started."""


@dataclass(frozen=True, slots=True)
class _Started:
    task: EcsTask
    deadline: float


class EcsAdapter(WorkerAdapter):
    """Starts, stops and lists ECS tasks."""

    settings_class: ClassVar = EcsAdapterSettings

    def __init__(self, settings: EcsAdapterSettings) -> None:
        self._settings = settings
        self._capabilities = parse_capabilities(settings.per_worker_capabilities)
        self._extra_definitions = settings.definitions_by_capability()
        self._started_by = adapter_name(settings)
        self._api = EcsApi(settings)
        self._definitions = {
            definition: self._api.definition(definition, settings.container_name)
            for definition in (settings.task_definition, *self._extra_definitions.values())
        }
        self._is_fargate = settings.launch_type == "FARGATE"
        self._room = Room(settings.max_workers, settings.workers_per_task)
        self._lock = threading.Lock()
        self._unseen: dict[str, _Started] = {}
        """Tasks that were started and have not been listed yet, by ARN."""
        self._ends_told: set[str] = set()
        try:
            # This tries credentials, cluster and rights, so that mistakes are reported at the start.
            self._tasks()
        except AdapterError as error:
            raise ServiceError(f"the tasks of cluster {settings.cluster!r} cannot be listed: {error}") from None

    def info(self) -> AdapterInfo:
        """Return the limit, the size of a group, the capabilities that every worker has, and what tasks can be asked for."""
        # Fargate has no GPUs.
        sized = tuple(name for name in SIZED if not (self._is_fargate and name == GPU))
        return AdapterInfo(self._room.groups_max, self._room.workers_per_group, self._capabilities, sized)

    def list(self) -> Sequence[WorkerGroup]:
        """Return the groups whose task has not ended. Log once why a task has ended by itself."""
        return [self._described(task) for task in self._tasks().values()]

    def start(self, request: StartRequest) -> WorkerGroup:
        """Start a task and return at once, because ECS needs seconds to minutes to run it."""
        definition = self._definition_for(request)
        # The same request has the same name and the same token, so ECS starts nothing twice when an answer is lost.
        name = digest(f"{self._started_by} {request.request_id}") if request.request_id else uuid.uuid4().hex[:12]
        with self._room.for_group(_group_id(name), self._tasks):
            task = self._run(name, definition, request)
            with self._lock:
                self._unseen[task.arn] = _Started(task, time.monotonic() + UNSEEN_SECONDS)
        if self._room.closed:
            self._api.stop(task.arn, "the adapter is stopping")
            raise NoCapacityError("this adapter is stopping")
        if task.is_over:
            # The same request was performed before, and its task has ended since.
            raise ProvisioningError(f"task {task.arn} has ended: {task.end or task.status}")
        return self._described(task)

    def _definition_for(self, request: StartRequest) -> str:
        flag = "--capability-task-definitions"
        needed = needed_templates(request.capabilities, self._capabilities, self._extra_definitions, flag)
        definition, *others = {*needed.values()} or {self._settings.task_definition}
        if others:
            raise MalformedRequestError(f"no single template has all of {', '.join(needed)}: see {flag}")
        return definition

    def _run(self, name: str, definition: str, request: StartRequest) -> EcsTask:
        settings = self._settings
        capabilities = {**self._capabilities, **request.capabilities}
        size = task_size(HostSize.of(request.resources), self._definitions[definition], is_fargate=self._is_fargate)
        environment = {GROUP_VARIABLE: GroupMark(name, request.request_id, capabilities).to_json()}
        task = self._api.run(
            definition,
            self._definitions[definition],
            [
                settings.python,
                "-m",
                WORKER_MODULE,
                *worker_arguments(settings, settings.workers_per_task, capabilities, size.host),
                f"--worker-names={','.join(self._worker_names(name))}",
            ],
            environment,
            self._started_by,
            f"{self._started_by}-{name}",
            size,
        )
        logger.info("group %s is task %s", _group_id(name), task.arn)
        return task

    def stop(self, group_id: str) -> None:
        """Ask the task to end, and wait until it has ended."""
        task = self._tasks().get(group_id)
        if task is None:
            raise UnknownGroupError(f"there is no group {group_id!r} of this adapter")
        self._api.stop(task.arn, "the scheduler no longer needs it")
        deadline = time.monotonic() + STOP_SECONDS
        while group_id in self._tasks():
            if time.monotonic() >= deadline:
                raise ProvisioningError(f"task {task.arn} was asked to stop {STOP_SECONDS:g} s ago, and has not ended")
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Ask all tasks to end. ECS ends them, so this process need not wait."""
        self._room.close()
        for task in self._tasks().values():
            if not task.is_to_stop:
                self._api.stop(task.arn, "the adapter is stopping")

    def _tasks(self) -> Mapping[str, EcsTask]:
        """Return this adapter's tasks that have not ended, by group."""
        with self._lock:
            unseen = {*self._unseen}
        listed = {task.arn: task for task in self._api.tasks(self._started_by)}
        with self._lock:
            self._tell_ends(listed)
            # Tasks that were started during the call may be missing in its answer.
            for arn in unseen & self._unseen.keys():
                if arn in listed or time.monotonic() >= self._unseen[arn].deadline:
                    del self._unseen[arn]
            tasks = [*listed.values(), *(started.task for started in self._unseen.values())]
        return {_group_id(_mark(task).name): task for task in tasks if not task.is_over}

    def _tell_ends(self, listed: Mapping[str, EcsTask]) -> None:
        for arn, task in listed.items():
            if task.is_over and arn not in self._ends_told:
                self._ends_told.add(arn)
                logger.info("task %s has ended: %s", arn, task.end or task.status)
        # ECS no longer lists these, so they need not be remembered as reported.
        self._ends_told &= listed.keys()

    def _described(self, task: EcsTask) -> WorkerGroup:
        mark = _mark(task)
        state = GroupState.RUNNING if task.status == "RUNNING" else GroupState.PENDING
        if task.is_to_stop or task.status in ("DEACTIVATING", "STOPPING"):
            state = GroupState.ENDING
        return WorkerGroup(
            _group_id(mark.name), self._worker_names(mark.name), mark.capabilities, state, mark.request_id
        )

    def _worker_names(self, name: str) -> tuple[str, ...]:
        return tuple(f"ecs-{name}-{number}" for number in range(self._settings.workers_per_task))


def _group_id(name: str) -> str:
    return f"ecs-{name}"


def _mark(task: EcsTask) -> GroupMark:
    return GroupMark.from_json(task.environment.get(GROUP_VARIABLE, ""), task.arn.rpartition("/")[2])
