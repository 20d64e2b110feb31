"""AWS ECS through boto3: run, list and stop tasks. Only this module interprets ECS's answers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaler_adapters.adapter import AdapterError, MalformedRequestError, NoCapacityError, ProvisioningError
from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.ecs.task_size import Definition, TaskSize, size_overrides
from scaler_protocol.service.errors import ServiceError

CONNECT_SECONDS = 5
READ_SECONDS = 20
TRIES = 3
"""How boto3 repeats calls after passing failures (throttling, a lost connection): with growing pauses."""

DESCRIBED_AT_ONCE = 100
"""The most tasks that ECS describes in one call."""

_NEVER = frozenset(
    {
        "AccessDeniedException",
        "BlockedException",
        "ClusterNotFoundException",
        "InvalidParameterException",
        "PlatformTaskDefinitionIncompatibilityException",
        "PlatformUnknownException",
        "UnsupportedFeatureException",
    }
)
_NEVER_TEXTS = ("task definition", "taskdefinition")
_LATER = frozenset({"LimitExceededException", "ServiceQuotaExceededException"})
_LATER_TEXTS = ("capacity is unavailable", "reached the limit", "limit on the number of", "no container instances")
_NO_ROOM = ("RESOURCE", "CAPACITY", "AGENT", "ATTRIBUTE")
"""How ECS's reasons begin when a task finds no machine now, and may find one later."""


@dataclass(frozen=True, slots=True)
class EcsTask:
    """One task, as ECS describes it."""

    arn: str
    status: str
    """The status in ECS's words: PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING, STOPPED."""
    is_to_stop: bool
    """Whether somebody has asked ECS to stop it: this adapter, a person, or AWS, which takes its machine back."""
    environment: Mapping[str, str]
    """The environment it was started with, beside the task definition's."""
    end: str
    """Why it has stopped or is about to; empty if ECS gives no reason."""

    @property
    def is_over(self) -> bool:
        """Whether no process of it runs any more."""
        return self.status in ("DEPROVISIONING", "STOPPED", "DELETED")


class EcsApi:
    """The ECS API for one cluster. Thread-safe."""

    def __init__(self, settings: EcsAdapterSettings) -> None:
        try:
            boto3 = importlib.import_module("boto3")
        except ImportError:
            raise ServiceError("the Python package boto3 is not installed: pip install scaler-adapters[ecs]") from None
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        self._errors = (BotoCoreError, ClientError)
        self._settings = settings
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
        )
        try:
            session = boto3.session.Session(
                aws_access_key_id=settings.aws_access_key_id or None,
                aws_secret_access_key=settings.aws_secret_access_key or None,
            )
            self._ecs: Any = session.client(
                "ecs",
                region_name=settings.region or None,
                endpoint_url=settings.endpoint_url or None,
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            raise ServiceError(f"ECS cannot be used: {error} (see --region, --endpoint-url)") from None

    def definition(self, task_definition: str, container_name: str) -> Definition:
        """Return what a task definition says of the container that runs the workers, by its name or the first essential one.

        Raises ServiceError.
        """
        try:
            answer = self._ecs.describe_task_definition(taskDefinition=task_definition)
        except self._errors as error:
            raise ServiceError(f"task definition {task_definition!r} cannot be read: {error}") from None
        described = answer["taskDefinition"]
        containers = described["containerDefinitions"]
        essential = [container for container in containers if container.get("essential", True)]
        name = container_name or (essential or containers)[0]["name"]
        memories = {container["name"]: int(container.get("memory", 0)) for container in containers}
        return Definition(
            name,
            int(described.get("cpu") or 0),
            int(described.get("memory") or 0),
            memories.pop(name, 0),
            sum(memories.values()),
        )

    def run(
        self,
        task_definition: str,
        definition: Definition,
        command: Sequence[str],
        environment: Mapping[str, str],
        started_by: str,
        token: str,
        size: TaskSize,
    ) -> EcsTask:
        """Start one task of this size. Repeated calls with the same token start it once. Raises AdapterError."""
        settings = self._settings
        words: dict[str, Any] = {}
        if settings.launch_type:
            words["launchType"] = settings.launch_type
        if settings.subnets:
            network: dict[str, Any] = {
                "subnets": [*settings.subnets],
                "securityGroups": [*settings.security_groups],
                "assignPublicIp": "ENABLED" if settings.assign_public_ip else "DISABLED",
            }
            words["networkConfiguration"] = {"awsvpcConfiguration": network}
        whole, of_container = size_overrides(size, definition)
        override = {
            "name": definition.container,
            "command": [*command],
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
            **of_container,
        }
        answer = self._call(
            "run_task",
            cluster=settings.cluster,
            taskDefinition=task_definition,
            count=1,
            overrides={"containerOverrides": [override], **whole},
            startedBy=started_by,
            clientToken=token,
            **words,
        )
        if answer["tasks"]:
            return _task(answer["tasks"][0])
        failure: Mapping[str, str] = next(iter(answer.get("failures", [])), {})
        reason = failure.get("reason", "ECS answered with neither a task nor a failure")
        kind = NoCapacityError if reason.upper().startswith(_NO_ROOM) else ProvisioningError
        raise kind(f"ECS did not place the task: {' '.join([reason, failure.get('detail', '')]).strip()}")

    def tasks(self, started_by: str) -> list[EcsTask]:
        """Return all tasks of this name that ECS still lists, including those that stopped within the last hour."""
        arns: list[str] = []
        # ECS lists a task under STOPPED as soon as it is asked to stop, although it still runs.
        for status in ("RUNNING", "STOPPED"):
            arns += self._list(startedBy=started_by, desiredStatus=status)
        found = []
        for first in range(0, len(arns), DESCRIBED_AT_ONCE):
            part = arns[first : first + DESCRIBED_AT_ONCE]
            found += self._call("describe_tasks", cluster=self._settings.cluster, tasks=part)["tasks"]
        # A task that was asked to stop between the two calls is in both lists.
        return [*{task.arn: task for task in map(_task, found)}.values()]

    def stop(self, arn: str, reason: str) -> None:
        """Ask ECS to stop a task. Its processes get SIGTERM, and SIGKILL after the definition's stopTimeout."""
        self._call("stop_task", cluster=self._settings.cluster, task=arn, reason=reason)

    def _list(self, **words: str) -> Iterator[str]:
        token: dict[str, str] = {}
        while True:
            answer = self._call("list_tasks", cluster=self._settings.cluster, **words, **token)
            yield from answer["taskArns"]
            if not answer.get("nextToken"):
                return
            token = {"nextToken": answer["nextToken"]}

    def _call(self, action: str, **words: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._ecs, action)(**words)
        except self._errors as error:
            raise _refusal(error) from None
        return answer


def _refusal(error: Exception) -> AdapterError:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    text = str(error).lower()
    kind: type[AdapterError] = ProvisioningError
    if code in _LATER or any(words in text for words in _LATER_TEXTS):
        kind = NoCapacityError
    elif code in _NEVER or (code == "ClientException" and any(words in text for words in _NEVER_TEXTS)):
        kind = MalformedRequestError
    return kind(f"ECS: {error}")


def _task(described: Mapping[str, Any]) -> EcsTask:
    environment = {
        pair["name"]: pair["value"]
        for container in described.get("overrides", {}).get("containerOverrides", [])
        for pair in container.get("environment", [])
    }
    containers = described.get("containers", [])
    words = [described.get("stopCode", ""), described.get("stoppedReason", "")]
    words += [container["reason"] for container in containers if container.get("reason")]
    words += [f"exit code {container['exitCode']}" for container in containers if container.get("exitCode")]
    return EcsTask(
        described["taskArn"],
        described["lastStatus"],
        described.get("desiredStatus") == "STOPPED",
        environment,
        "; ".join(word for word in words if word),
    )
