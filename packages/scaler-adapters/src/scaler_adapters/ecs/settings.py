"""The settings of `scaler_worker_adapter_ecs`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from scaler_adapters.capability_templates import parse_templates
from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.settings import NoEffect, Secret, Short, TakesSeveral, TextListSetting
from scaler_protocol.service.worker_settings import WorkerCountSetting


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_IN_THE_DEFINITION = NoEffect("what ECS tasks have is said by --task-definition and its image")


def _older(what: str) -> Any:
    return Field(
        default=None,
        description=f"accepted for older command lines, without effect: the task definition says which {what} tasks have",
    )


class EcsAdapterSettings(WebhookSettings):
    """Starts and stops workers as tasks of an AWS ECS cluster when a scheduler asks for it.

    Needs boto3 (`pip install scaler-adapters[ecs]`), AWS credentials where boto3 looks for them, and a task definition whose
    image has Python with scaler-worker and no entry point of its own.
    """

    command: ClassVar[str] = "scaler_worker_adapter_ecs"
    section: ClassVar[str] = "ecs_worker_adapter"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "scaler_worker_adapter_ecs tcp://scheduler:2345 --port 8080 --cluster batch --task-definition w --subnets subnet-1",
            "tasks of one definition on Fargate",
        ),
    )

    max_workers: Annotated[int, Short("mw")] = Field(
        default=-1,
        ge=-1,
        description="largest number of workers at one time, including those of waiting ECS tasks; -1: no limit",
    )
    workers_per_task: Annotated[WorkerCountSetting, Short("n")] = Field(
        default=1,
        validation_alias=AliasChoices("workers_per_task", "ecs_task_cpu"),
        description="workers of one ECS task; give as many as the task definition has CPUs",
    )
    cluster: str = Field(
        default="default",
        min_length=1,
        validation_alias=AliasChoices("cluster", "ecs_cluster"),
        description="name or ARN of the ECS cluster",
    )
    task_definition: Annotated[str, Short("td")] = Field(
        min_length=1,
        validation_alias=AliasChoices("task_definition", "ecs_task_definition"),
        description="task definition of the workers, as family or family:revision (required)",
    )
    capability_task_definitions: str = Field(
        default="",
        description="further capabilities that ECS tasks can have beside --per-worker-capabilities, each with its task "
        "definition: 'gpu=workers-gpu bigmem=workers-big:3'",
    )
    container_name: str = Field(
        default="", description="container that runs the workers (default: the definition's first essential one)"
    )
    launch_type: Annotated[Literal["FARGATE", "EC2", "EXTERNAL", ""], BeforeValidator(_upper)] = Field(
        default="FARGATE",
        description="FARGATE, EC2 or EXTERNAL; empty for the cluster's default capacity provider strategy",
    )
    subnets: Annotated[TextListSetting, TakesSeveral()] = Field(
        default=(),
        validation_alias=AliasChoices("subnets", "ecs_subnets"),
        description="subnets of the ECS tasks, as several words or separated by commas; needed for FARGATE",
    )
    security_groups: Annotated[TextListSetting, TakesSeveral()] = Field(
        default=(), description="security groups of the ECS tasks (default: the network's)"
    )
    assign_public_ip: bool = Field(default=False, description="give each ECS task a public IP address")
    region: str = Field(
        default="",
        validation_alias=AliasChoices("region", "aws_region"),
        description="AWS region (default: the one that boto3 finds)",
    )
    aws_access_key_id: str = Field(default="", description="AWS access key, with --aws-secret-access-key")
    aws_secret_access_key: Annotated[str, Secret()] = Field(
        default="",
        repr=False,
        description="secret of --aws-access-key-id; other users of this machine can see it, so prefer the places where boto3 "
        "looks for credentials",
    )
    endpoint_url: str = Field(default="", description="address of the ECS API, if it is not AWS's own")
    python: str = Field(default="python", min_length=1, description="Python in the image, with scaler-worker installed")

    ecs_task_image: Annotated[Any, _IN_THE_DEFINITION] = _older("image")
    ecs_task_memory: Annotated[Any, _IN_THE_DEFINITION] = _older("memory")
    ecs_python_requirements: Annotated[Any, _IN_THE_DEFINITION] = _older("packages")
    ecs_python_version: Annotated[Any, _IN_THE_DEFINITION] = _older("Python")

    @field_validator("capability_task_definitions")
    @classmethod
    def _check_capabilities(cls, text: str) -> str:
        parse_templates(text.split())
        return text

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.launch_type == "FARGATE" and not self.subnets:
            raise ValueError("--subnets is missing: ECS tasks of launch type FARGATE need it")
        return self

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            raise ValueError("--aws-access-key-id and --aws-secret-access-key are needed together")
        return self

    def definitions_by_capability(self) -> dict[str, str]:
        """Return the task definition for each capability of `--capability-task-definitions`."""
        return parse_templates(self.capability_task_definitions.split())
