"""Groups of workers as tasks of AWS ECS: one task for each group, one worker host process in each task.

Which tasks are this adapter's stands in their `startedBy`, whose they are in the environment they were started with. So an
adapter that starts anew finds them, and a task that ends by itself (its image cannot be pulled, AWS takes its machine back)
is seen at the next look.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
from scaler_adapters.ecs.api import EcsApi, EcsTask
from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_protocol.capabilities import format_capabilities, parse_capabilities
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

WORKER_MODULE = "scaler_worker"

GROUP_VARIABLE = "SCALER_WORKER_GROUP"
"""In the environment of each task: which group it is, as JSON."""

STOP_SECONDS = 150.0
"""How long a task may take to end: ECS lets a definition give its processes up to 120 s after SIGTERM."""

LOOK_SECONDS = 1.0

UNSEEN_SECONDS = 30.0
"""ECS may list a task only some seconds after it was started."""


@dataclass(frozen=True, slots=True)
class _Started:
    task: EcsTask
    deadline: float


class EcsAdapter(WorkerAdapter):
    """Starts, stops and finds tasks."""

    settings_class: ClassVar = EcsAdapterSettings

    def __init__(self, settings: EcsAdapterSettings) -> None:
        self._settings = settings
        self._capabilities = parse_capabilities(settings.per_worker_capabilities)
        self._extra_definitions = settings.definitions_by_capability()
        # The same scheduler and port: the same adapter, started again.
        self._place = f"{settings.address} {settings.host}:{settings.port}" if settings.port else uuid.uuid4().hex
        self._started_by = f"scaler-{_digest(self._place)}"
        self._api = EcsApi(settings)
        self._containers = {
            definition: settings.container_name or self._api.container_of(definition)
            for definition in (settings.task_definition, *self._extra_definitions.values())
        }
        self._lock = threading.Lock()
        self._starting: set[str] = set()
        """Groups whose task is being asked for: ECS may list it before it answers."""
        self._closing = False
        self._unseen: dict[str, _Started] = {}
        """Tasks that were started and have not been listed yet, by ARN."""
        self._ends_told: set[str] = set()
        try:
            # Credentials, cluster and rights are tried before anybody relies on them.
            self._tasks()
        except AdapterError as error:
            raise ServiceError(f"the tasks of cluster {settings.cluster!r} cannot be listed: {error}") from None

    def info(self) -> AdapterInfo:
        per_task = self._settings.workers_per_task
        limit = -1 if self._settings.max_workers < 0 else self._settings.max_workers // per_task
        return AdapterInfo(limit, per_task, self._capabilities)

    def list(self) -> Sequence[WorkerGroup]:
        """The groups whose task has not ended; of those that ended by themselves the log says why, once."""
        return [self._described(task) for task in self._tasks().values()]

    def start(self, request: StartRequest) -> WorkerGroup:
        """Start a task and return at once: ECS needs from seconds to minutes to bring it up."""
        definition = self._definition_for(request)
        # The same request gets the same name, and ECS the same token: it starts nothing twice when an answer is lost.
        name = _digest(f"{self._place} {request.request_id}") if request.request_id else uuid.uuid4().hex[:12]
        self._make_room(_group_id(name))
        task: EcsTask | None = None
        try:
            task = self._run(name, definition, request)
        finally:
            with self._lock:
                self._starting.discard(_group_id(name))
                if task is not None:
                    self._unseen[task.arn] = _Started(task, time.monotonic() + UNSEEN_SECONDS)
                closing = self._closing
        if closing:
            self._api.stop(task.arn, "the adapter is stopping")
            raise NoCapacityError("this adapter is stopping")
        if task.is_over:
            # The same request was fulfilled before, and what it brought has ended since.
            raise ProvisioningError(f"task {task.arn} has ended: {task.end or task.status}")
        return self._described(task)

    def _make_room(self, group_id: str) -> None:
        """Count a group that is about to be started. Raises NoCapacityError."""
        with self._lock:
            if self._closing:
                raise NoCapacityError("this adapter is stopping")
            if self._settings.max_workers >= 0:
                groups = {group_id, *self._starting, *self._live_tasks()}
                if len(groups) * self._settings.workers_per_task > self._settings.max_workers:
                    raise NoCapacityError(f"this adapter may have {self._settings.max_workers} workers at one time")
            self._starting.add(group_id)

    def _definition_for(self, request: StartRequest) -> str:
        extra = [name for name in request.capabilities if name not in self._capabilities]
        unknown = [name for name in extra if name not in self._extra_definitions]
        if unknown:
            raise MalformedRequestError(
                f"this adapter brings no {', '.join(unknown)}: see --capability-task-definitions"
            )
        definitions = {self._extra_definitions[name] for name in extra} or {self._settings.task_definition}
        if len(definitions) > 1:
            raise MalformedRequestError(f"no one task definition brings all of {', '.join(extra)}")
        return definitions.pop()

    def _run(self, name: str, definition: str, request: StartRequest) -> EcsTask:
        capabilities = {**self._capabilities, **request.capabilities}
        group = {"group": name, "request_id": request.request_id, "capabilities": capabilities}
        environment = {GROUP_VARIABLE: json.dumps(group, separators=(",", ":"))}
        task = self._api.run(
            definition,
            self._containers[definition],
            self._command(name, capabilities),
            environment,
            self._started_by,
            f"{self._started_by}-{name}",
        )
        logger.info("group %s is task %s", _group_id(name), task.arn)
        return task

    def _command(self, name: str, capabilities: Mapping[str, int]) -> Sequence[str]:
        settings = self._settings
        words = [
            settings.python,
            "-m",
            WORKER_MODULE,
            str(settings.address),
            f"--num-of-workers={settings.workers_per_task}",
            f"--worker-names={','.join(self._worker_names(name))}",
            # The capabilities of each worker are made of the basic ones and those it was asked for.
            *settings.to_command_line(set(WorkerSettings.model_fields) - {"per_worker_capabilities"}),
        ]
        if capabilities:
            words.append(f"--per-worker-capabilities={format_capabilities(capabilities)}")
        return words

    def stop(self, group_id: str) -> None:
        """Ask the task to end, and wait until it has."""
        task = self._tasks().get(group_id)
        if task is None:
            raise UnknownGroupError(f"there is no group {group_id!r} of this adapter")
        self._api.stop(task.arn, "the scheduler needs it no more")
        deadline = time.monotonic() + STOP_SECONDS
        while group_id in self._tasks():
            if time.monotonic() >= deadline:
                raise ProvisioningError(f"task {task.arn} was asked to stop {STOP_SECONDS:g} s ago, and has not ended")
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Ask all tasks to end. ECS sees to it, whether this process waits or not."""
        with self._lock:
            self._closing = True
        for task in self._tasks().values():
            if not task.is_to_stop:
                self._api.stop(task.arn, "the adapter is stopping")

    def _tasks(self) -> Mapping[str, EcsTask]:
        with self._lock:
            return self._live_tasks()

    def _live_tasks(self) -> Mapping[str, EcsTask]:
        """This adapter's tasks that have not ended, by group. Called under the lock."""
        listed = {task.arn: task for task in self._api.tasks(self._started_by)}
        self._tell_ends(listed)
        for arn, started in [*self._unseen.items()]:
            if arn in listed or time.monotonic() >= started.deadline:
                del self._unseen[arn]
        tasks = [*listed.values(), *(started.task for started in self._unseen.values())]
        return {_group_id(_group_of(task)["group"]): task for task in tasks if not task.is_over}

    def _tell_ends(self, listed: Mapping[str, EcsTask]) -> None:
        for arn, task in listed.items():
            if task.is_over and arn not in self._ends_told:
                self._ends_told.add(arn)
                logger.info("task %s has ended: %s", arn, task.end or task.status)
        # What ECS has forgotten is not told of again.
        self._ends_told &= listed.keys()

    def _described(self, task: EcsTask) -> WorkerGroup:
        group = _group_of(task)
        state = GroupState.RUNNING if task.status == "RUNNING" else GroupState.PENDING
        if task.is_to_stop or task.status in ("DEACTIVATING", "STOPPING"):
            state = GroupState.ENDING
        names = self._worker_names(group["group"])
        return WorkerGroup(_group_id(group["group"]), names, group["capabilities"], state, group["request_id"])

    def _worker_names(self, name: str) -> tuple[str, ...]:
        return tuple(f"ecs-{name}-{number}" for number in range(self._settings.workers_per_task))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _group_id(name: str) -> str:
    return f"ecs-{name}"


def _group_of(task: EcsTask) -> Mapping[str, Any]:
    """What we wrote into the task's environment; one that somebody else started in our name can still be seen and stopped."""
    try:
        group = json.loads(task.environment[GROUP_VARIABLE])
        return {name: group[name] for name in ("group", "request_id", "capabilities")}
    except (ValueError, KeyError, TypeError):
        return {"group": task.arn.rpartition("/")[2], "request_id": "", "capabilities": {}}
