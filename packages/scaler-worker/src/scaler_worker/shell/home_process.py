"""The store of this host: an object storage server that the agent starts beside itself, and that ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService, describe_exit
from scaler_protocol.service.errors import ConfigurationError, ServiceError
from scaler_worker.settings import ClusterSettings

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

MODULE = "scaler_objstore"

LOOK_SECONDS = 0.5
"""How often is looked whether it has ended."""

STOP_SECONDS = 3.0
"""How long it may take to stop, before it is killed."""


class HomeProcess:
    """Starts the store, says when it answers and when it has ended."""

    def __init__(self, settings: ClusterSettings, scheduler: Address) -> None:
        """`scheduler`: unless settings say more, other hosts reach this one where it reaches the scheduler from."""
        self._settings = settings
        self._bind = settings.object_storage_bind_address or _address_towards(scheduler)
        self._child: ChildService | None = None
        self._security = _load_scheduler_security(settings)
        self._starting: asyncio.Task[None] | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self.address = ""
        """Where other hosts reach it, once it answers."""

    def scheduler_security(self) -> PeerSecurity | None:
        """Return the keys with which the agent tells the store what to delete."""
        return self._security

    def start(self, on_ready: Callable[[str], None], on_ended: Callable[[str], None]) -> None:
        """Start it. One of the functions is called when it answers, the other once it has ended, or cannot start."""
        self._starting = asyncio.get_running_loop().create_task(self._start(on_ready, on_ended))

    def close(self) -> None:
        """End it."""
        if self._starting is not None:
            self._starting.cancel()
        if self._look_timer is not None:
            self._look_timer.cancel()
        if self._child is not None:
            self._child.terminate(STOP_SECONDS)

    async def _start(self, on_ready: Callable[[str], None], on_ended: Callable[[str], None]) -> None:
        try:
            self._child = ChildService.start(MODULE, [str(self._bind), *_arguments(self._settings)])
            addresses = await asyncio.to_thread(self._child.wait_ready)
        except (ServiceError, OSError) as error:
            on_ended(f"the store of this host cannot start: {error}")
            return
        self.address = str(addresses["object_storage"])
        on_ready(self.address)
        self._look(on_ended)

    def _look(self, on_ended: Callable[[str], None]) -> None:
        child = self._child
        assert child is not None
        if child.is_running:
            self._look_timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, on_ended)
        else:
            on_ended(f"the store of this host has ended: {describe_exit(child.process.wait())}")


def _address_towards(scheduler: Address) -> Address:
    host = "127.0.0.1"
    if not scheduler.is_loopback:
        # Nothing is sent: only the system's choice of an address is asked for.
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((scheduler.host, scheduler.port or 1))
            host = str(probe.getsockname()[0])
    return Address.parse(f"tcp://{host}:0")


def _load_scheduler_security(settings: ClusterSettings) -> PeerSecurity | None:
    """Return the keys of a scheduler, with which the agent ends and deletes objects; None without keys."""
    folder = _security_dir(settings)
    if folder is None:
        return None
    # Imported late: only with keys is PyNaCl needed.
    from scaler_protocol.security.credentials import PeerSecurity
    from scaler_protocol.security.directory import load_server
    from scaler_protocol.security.errors import SecurityError

    try:
        own = load_server(folder).own
    except SecurityError as error:
        raise ConfigurationError(
            f"--object-storage-security-dir: {error}. With --security-dir the store of this host needs the keys of a server: "
            "`scaler_keys export DIR server OUT` makes a folder with them"
        ) from None
    return PeerSecurity(own, own.public)


def _security_dir(settings: ClusterSettings) -> Path | None:
    return settings.object_storage_security_dir or settings.security_dir


def _arguments(settings: ClusterSettings) -> list[str]:
    memory, security = settings.object_storage_memory_bytes, _security_dir(settings)
    return [
        "--event-loop",
        settings.event_loop,
        "--logging-level",
        settings.logging_level,
        "--logging-format",
        settings.logging_format,
        "--logging-paths",
        *settings.logging_paths,
        *(() if memory is None else ("--memory-limit-bytes", str(memory))),
        *(() if security is None else ("--security-dir", str(security))),
        *(("--insecure",) if settings.insecure else ()),
    ]
