"""Every flag of every adapter's command: long and short form, TOML key, default."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.slurm.commands import seconds
from scaler_adapters.slurm.settings import SlurmAdapterSettings
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_adapters.webhook_settings import WebhookSettings
from scaler_adapters.worker_command import worker_arguments
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.fence_settings import FenceSettings
from scaler_protocol.testing.settings import (
    WEB_FLAGS,
    WORKER_FLAGS,
    DocumentedFlag,
    check_flag,
    check_table_is_complete,
)

ADDRESS = "tcp://127.0.0.1:2345"

WEBHOOK_FLAGS = (
    DocumentedFlag("host", ("--host", "--adapter-web-host"), "0.0.0.0", "0.0.0.0", "127.0.0.1"),
    DocumentedFlag("port", ("--port", "--adapter-web-port", "-p"), "9000", 9000, 8080),
    *WEB_FLAGS,
)
MAX_WORKERS = DocumentedFlag("max_workers", ("--max-workers", "-mw"), "4", 4, -1)


STARTS_WORKERS = (EcsAdapterSettings, NativeAdapterSettings, SlurmAdapterSettings)


@dataclass(frozen=True)
class Command:
    """One adapter's command: what it needs to start, and the flags that it does not share with the others."""

    settings: type[WebhookSettings]
    own: tuple[DocumentedFlag, ...]
    needed: tuple[str, ...] = ()
    needed_fields: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        return [ADDRESS, *self.needed]

    @property
    def flags(self) -> tuple[DocumentedFlag, ...]:
        return (*self.own, *WEBHOOK_FLAGS, *WORKER_FLAGS)


COMMANDS = {
    "ecs": Command(
        EcsAdapterSettings,
        (
            MAX_WORKERS,
            DocumentedFlag("workers_per_task", ("--workers-per-task", "--ecs-task-cpu", "-n"), "8", 8, 1),
            DocumentedFlag("cluster", ("--cluster", "--ecs-cluster"), "mine", "mine", "default"),
            DocumentedFlag("capability_task_definitions", ("--capability-task-definitions",), "gpu=g:3", "gpu=g:3", ""),
            DocumentedFlag("container_name", ("--container-name",), "main", "main", ""),
            DocumentedFlag("launch_type", ("--launch-type",), "ec2", "EC2", "FARGATE"),
            DocumentedFlag("security_groups", ("--security-groups",), "sg-1,sg-2", ("sg-1", "sg-2"), ()),
            DocumentedFlag("assign_public_ip", ("--assign-public-ip",), None, True, False),
            DocumentedFlag("region", ("--region", "--aws-region"), "eu-west-1", "eu-west-1", ""),
            DocumentedFlag("endpoint_url", ("--endpoint-url",), "http://h:1", "http://h:1", ""),
            DocumentedFlag("python", ("--python",), "python3.11", "python3.11", "python"),
            DocumentedFlag("ecs_task_image", ("--ecs-task-image",), "here/image", "here/image", None),
            DocumentedFlag("ecs_python_requirements", ("--ecs-python-requirements",), "numpy;tqdm", "numpy;tqdm", None),
        ),
        needed=("--task-definition", "workers", "--subnets", "subnet-1"),
        needed_fields=(
            "task_definition",
            "subnets",
            "aws_access_key_id",
            "aws_secret_access_key",
            "ecs_task_memory",
            "ecs_python_version",
        ),
    ),
    "native": Command(
        NativeAdapterSettings,
        (MAX_WORKERS, DocumentedFlag("workers_per_group", ("--workers-per-group", "-wpg"), "4", 4, 1)),
    ),
    "slurm": Command(
        SlurmAdapterSettings,
        (
            MAX_WORKERS,
            DocumentedFlag("workers_per_job", ("--workers-per-job", "-n"), "8", 8, 1),
            DocumentedFlag("jobs_per_group", ("--jobs-per-group", "-jpg"), "3", 3, 1),
            DocumentedFlag("partition", ("--partition",), "long", "long", ""),
            DocumentedFlag("time_limit", ("--time-limit",), "2-00:00:00", "2-00:00:00", ""),
            DocumentedFlag("sbatch_options", ("--sbatch-options",), "--mem=4G -A me", "--mem=4G -A me", ""),
            DocumentedFlag("capability_options", ("--capability-options",), "gpu=--gres=gpu:1", "gpu=--gres=gpu:1", ""),
            DocumentedFlag("drain_seconds", ("--drain-seconds", "-ds"), "5", 5, 60),
            DocumentedFlag("python", ("--python",), "/opt/python", "/opt/python", sys.executable),
        ),
    ),
    "symphony": Command(
        SymphonyAdapterSettings,
        (
            DocumentedFlag("base_concurrency", ("--base-concurrency", "-n"), "6", 6, os.cpu_count()),
            DocumentedFlag("max_workers", ("--max-workers", "-mw"), "6", 6, -1),
        ),
        needed=("--service-name", "ScalerService"),
        needed_fields=("service_name",),
    ),
}


@pytest.mark.parametrize(
    ("command", "flag"),
    [pytest.param(command, flag, id=f"{name}{flag}") for name, command in COMMANDS.items() for flag in command.flags],
)
def test_flag_is_as_documented(command: Command, flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(command.settings, command.arguments, flag, tmp_path)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_setting_is_documented(command: Command) -> None:
    check_table_is_complete(command.settings, command.flags, besides=["address", *command.needed_fields])


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.settings in STARTS_WORKERS])
def test_fences_are_passed_on_to_workers(name: str) -> None:
    command = COMMANDS[name]
    fences = [flag for flag in WORKER_FLAGS if flag.field in FenceSettings.model_fields]
    words = [
        word for flag in fences for word in ((flag.forms[0],) if flag.text is None else (flag.forms[0], flag.text))
    ]
    settings = command.settings.from_command_line([*command.arguments, *words])
    assert isinstance(settings, WebhookSettings)
    passed_on = worker_arguments(settings, 2, {})
    for flag in fences:
        assert any(word.partition("=")[0] == flag.forms[0] for word in passed_on), flag
    assert settings.fences_asked_for() == sorted(flag.forms[0] for flag in fences if flag.value != flag.default)


ECS = ("--ecs-task-definition", "workers", "--ecs-subnets", "subnet-1")


def test_command_lines_of_older_adapters_are_taken(tmp_path: Path) -> None:
    words = ["--ecs-task-memory", "30", "--ecs-python-version", "3.12", "--aws-region", "eu-west-1"]
    given = EcsAdapterSettings.from_command_line([ADDRESS, *ECS, *words])
    assert (given.task_definition, given.subnets, given.region) == ("workers", ("subnet-1",), "eu-west-1")
    file = tmp_path / "scaler.toml"
    file.write_text(
        '[ecs_worker_adapter]\necs_task_definition = "workers"\necs_subnets = "subnet-1"\n'
        'ecs_task_memory = 30\necs_python_version = "3.12"\naws_region = "eu-west-1"\n'
    )
    read = EcsAdapterSettings.from_command_line([ADDRESS, "-c", str(file)])
    assert (read.task_definition, read.subnets, read.region) == ("workers", ("subnet-1",), "eu-west-1")
    assert read.without_effect() == given.without_effect()
    assert [line.partition(" has no effect: ")[0] for line in read.without_effect()] == [
        "--ecs-task-memory",
        "--ecs-python-version",
    ]
    symphony = SymphonyAdapterSettings.from_command_line([ADDRESS, "-sn", "s", "--max-workers", "-1"])
    assert symphony.without_effect() == [
        "--max-workers has no effect: this adapter runs one agent, whose workers --base-concurrency counts"
    ]


def test_keys_of_aws_come_in_pairs_and_from_a_private_file(tmp_path: Path) -> None:
    pair = ["--aws-access-key-id", "id", "--aws-secret-access-key", "secret"]
    settings = EcsAdapterSettings.from_command_line([ADDRESS, *ECS, *pair])
    assert (settings.aws_access_key_id, settings.aws_secret_access_key) == ("id", "secret")
    assert not {word for word in worker_arguments(settings, 1, {}) if "aws" in word or "secret" in word}
    for one in (pair[:2], pair[2:]):
        with pytest.raises(ConfigurationError, match="--aws-secret-access-key are needed together"):
            EcsAdapterSettings.from_command_line([ADDRESS, *ECS, *one])
    file = tmp_path / "scaler.toml"
    file.write_text('[ecs_worker_adapter]\naws_access_key_id = "id"\naws_secret_access_key = "secret"\n')
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="aws_secret_access_key: "):
        EcsAdapterSettings.from_command_line([ADDRESS, *ECS, "-c", str(file)])
    file.chmod(0o600)
    assert EcsAdapterSettings.from_command_line([ADDRESS, *ECS, "-c", str(file)]) == settings.model_copy(
        update={"config": file}
    )


def test_the_short_forms_of_an_adapter_are_its_own() -> None:
    """-ds is an older form of --death-timeout-seconds, which all workers have."""
    slurm = SlurmAdapterSettings.from_command_line([ADDRESS, "-ds", "7"])
    assert (slurm.drain_seconds, slurm.death_timeout_seconds) == (7, 300)
    native = NativeAdapterSettings.from_command_line([ADDRESS, "-ds", "7", "-hi", "1"])
    assert (native.death_timeout_seconds, native.heartbeat_interval_seconds) == (7, 1)


def test_the_task_definition_and_the_subnets_of_ecs_have_to_be_given() -> None:
    with pytest.raises(ConfigurationError, match="--task-definition is missing"):
        EcsAdapterSettings.from_command_line([ADDRESS])
    with pytest.raises(ConfigurationError, match="--subnets is missing"):
        EcsAdapterSettings.from_command_line([ADDRESS, "-td", "workers"])
    for text in ("subnet-1,subnet-2", "subnet-1 subnet-2"):
        settings = EcsAdapterSettings.from_command_line([ADDRESS, "-td", "workers:3", "--subnets", *text.split()])
        assert (settings.task_definition, settings.subnets) == ("workers:3", ("subnet-1", "subnet-2"))
    assert EcsAdapterSettings.from_command_line([ADDRESS, "-td=workers", "--launch-type=EC2"]).subnets == ()


@pytest.mark.parametrize("text", ["gpu", "=workers", "gpu="])
def test_capability_task_definitions_are_checked(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--capability-task-definitions"):
        EcsAdapterSettings.from_command_line([ADDRESS, "-td", "workers", "--capability-task-definitions", text])


@pytest.mark.parametrize("text", ["gpu", "gpu=gres", "=--gres=gpu", "'open"])
def test_capability_options_are_checked(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--capability-options"):
        SlurmAdapterSettings.from_command_line([ADDRESS, "--capability-options", text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("59", 59), ("1:00", 60), ("1:00:01", 3601), ("2-00:00:00", 172_800), ("UNLIMITED", float("inf"))],
)
def test_slurms_times_are_understood(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_the_service_name_of_symphony_has_to_be_given() -> None:
    with pytest.raises(ConfigurationError, match="--service-name is missing"):
        SymphonyAdapterSettings.from_command_line([ADDRESS])
    assert SymphonyAdapterSettings.from_command_line([ADDRESS, "-sn", "app"]).service_name == "app"
