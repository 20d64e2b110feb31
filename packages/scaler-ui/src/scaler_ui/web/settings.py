"""The settings of `scaler_ui`."""

from __future__ import annotations

import ipaddress
from typing import ClassVar

from scaler_protocol.address import Address
from scaler_protocol.service.command import CommandSettings
from scaler_protocol.service.setting_types import ADDRESS, SWITCH, TEXTS, integer, number, text
from scaler_protocol.service.settings import positional, setting


class WebSettings(CommandSettings):
    """Shows in a browser what a cluster is doing, at http://HOST:PORT.

    MONITOR_ADDRESS is printed by the scheduler when it starts.
    """

    command: ClassVar[str] = "scaler_ui"
    section: ClassVar[str] = "webui"

    monitor_address: Address = positional(
        ADDRESS, also_key="address", description="monitor address of the scheduler, as in tcp://127.0.0.1:2347"
    )
    host: str = setting(
        text(),
        default="127.0.0.1",
        also=["web_host"],
        description="network interface to listen on; beyond this machine a --token is needed",
    )
    port: int = setting(
        integer(at_least=0, at_most=65_535),
        default=50_001,
        also=["web_port"],
        description="port to listen on; 0 takes a free one",
    )
    token: str = setting(
        text(),
        default="",
        description="secret to be shown by whoever looks: once as http://HOST:PORT/?token=…, or as a bearer token",
    )
    insecure: bool = setting(
        SWITCH, default=False, description="let everybody who reaches --host look, without a token"
    )
    allowed_hosts: tuple[str, ...] = setting(
        TEXTS,
        takes_several=True,
        default=(),
        description="further host names under which the pages may be asked for; this machine's and plain IP addresses may",
    )
    timeout: float = setting(
        number(more_than=0),
        "t",
        default=5,
        description="seconds of silence after which the scheduler is shown as not answering",
    )

    def check(self) -> None:
        if self.token or self.insecure or _is_loopback(self.host):
            return
        raise ValueError(
            f"--host {self.host}: anybody who reaches this machine could look; give a --token, or --insecure to allow it"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
