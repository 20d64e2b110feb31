"""The settings of `scaler_dump`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from scaler_protocol.address import Address
from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.setting_types import ADDRESS, PATH, TEXTS, integer, number, several
from scaler_protocol.service.settings import positional, setting


class DumpSettings(CommandSettings):
    """Writes the scheduler's state to a file, and what is known of chosen tasks, also while it is under load.

    MONITOR_ADDRESS is printed by the scheduler when it starts.
    """

    command: ClassVar[str] = "scaler_dump"
    section: ClassVar[str] = "dump"

    monitor_address: Address = positional(
        ADDRESS, also_key="address", description="monitor address of the scheduler, as in tcp://127.0.0.1:2347"
    )
    output: Path = setting(
        PATH, "o", default=Path("scaler-dump.json"), description="file to write, as JSON; - for standard output"
    )
    tasks: tuple[int, ...] = setting(
        several(integer(), at_most=8, blanks_separate=True),
        "t",
        takes_several=True,
        default=(),
        description="numbers of up to eight tasks that are told in full",
    )
    timeout: float = setting(number(more_than=0), default=30, description="seconds to wait for the scheduler's answer")
    # The dump may go to standard output, where log lines would spoil it.
    logging_paths: tuple[str, ...] = setting(
        TEXTS,
        "lp",
        takes_several=True,
        default=(),
        description="files to log to, several words or separated by commas; missing folders are created",
    )
