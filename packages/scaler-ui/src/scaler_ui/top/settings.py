"""The settings of `scaler_top`."""

from __future__ import annotations

from typing import ClassVar

from scaler_protocol.address import Address
from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.setting_types import ADDRESS, SWITCH, TEXTS, number
from scaler_protocol.service.settings import positional, setting


class TopSettings(CommandSettings):
    """Shows in a terminal what a cluster is doing, like top.

    MONITOR_ADDRESS is printed by the scheduler when it starts.
    """

    command: ClassVar[str] = "scaler_top"
    section: ClassVar[str] = "top"

    monitor_address: Address = positional(
        ADDRESS, also_key="address", description="monitor address of the scheduler, as in tcp://127.0.0.1:2347"
    )
    # It draws on the whole terminal, where log lines would be in the way.
    logging_paths: tuple[str, ...] = setting(
        TEXTS,
        "lp",
        takes_several=True,
        default=(),
        description="files to log to, several words or separated by commas; missing folders are created",
    )
    timeout: float = setting(
        number(more_than=0),
        "t",
        default=5,
        description="seconds of silence after which the scheduler is shown as not answering",
    )
    once: bool = setting(
        SWITCH, default=False, description="print what there is once and end, with status 1 where nothing came"
    )
    # In code, `json` alone would read like the module.
    as_json: bool = setting(
        SWITCH, "j", default=False, also=["json"], description="with --once: print one JSON object, for scripts"
    )

    def check(self) -> None:
        if self.as_json and not self.once:
            raise ValueError("--json goes with --once: it prints one object and ends")
