"""The settings of `scaler_dump`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from scaler_protocol.monitoring.profile_tree import PROFILE_SECONDS_MAX
from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.settings import (
    AddressSetting,
    AlsoKey,
    CliPositionalArg,
    Short,
    TakesSeveral,
    TextListSetting,
)


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part for part in value.replace(",", " ").split() if part]
    if isinstance(value, list | tuple):
        return [part for item in value for part in (str(item).replace(",", " ").split())]
    return value


_TaskNumber = Annotated[int, Field(ge=1, lt=1 << 64)]


class DumpSettings(CommandSettings):
    """Writes the scheduler's state to a file, with the whole records of chosen tasks. It works under load.

    The scheduler logs MONITOR_ADDRESS when it starts.
    """

    command: ClassVar[str] = "scaler_dump"
    section: ClassVar[str] = "dump"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("scaler_dump tcp://127.0.0.1:2347 --output -", "print the scheduler's tables"),
        ("scaler_dump tcp://127.0.0.1:2347 --output - --tasks 17,18", "also all about two tasks, by their numbers"),
        ("scaler_dump tcp://127.0.0.1:2347 --profile 10", "what workers run, for speedscope"),
    )

    monitor_address: Annotated[CliPositionalArg[AddressSetting], AlsoKey("address")] = Field(
        description="monitor address of the scheduler, as in tcp://127.0.0.1:2347",
    )
    output: Annotated[Path, Short("o")] = Field(
        default=Path("scaler-dump.json"),
        description="JSON file to write, or with --profile the file for the stacks; - is standard output",
    )
    tasks: Annotated[tuple[_TaskNumber, ...], NoDecode, BeforeValidator(_split), Short("t"), TakesSeveral()] = Field(
        default=(), max_length=8, description="numbers of up to eight tasks whose whole records are added"
    )
    profile: int = Field(
        default=0,
        ge=0,
        le=PROFILE_SECONDS_MAX,
        description="sample what workers run for so many seconds, and print that as collapsed stacks instead; at most 60",
    )
    timeout: float = Field(default=30, gt=0, description="seconds to wait for the scheduler's answer")
    # The dump may go to standard output, so log lines need another place.
    logging_paths: Annotated[TextListSetting, Short("lp"), TakesSeveral()] = Field(
        default=(), description="files to log to, as several words or separated by commas; missing folders are created"
    )

    @model_validator(mode="after")
    def _check_profile(self) -> Self:
        if self.profile and self.tasks:
            raise ValueError("--profile and --tasks are both given: a profile has no records of tasks")
        return self

    @property
    def profile_output(self) -> Path | None:
        """The file for the stacks of a profile; None: they are printed."""
        return self.output if "output" in self.model_fields_set and str(self.output) != "-" else None
