"""The pages of a local cluster: `scaler_ui` as a child process."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from typing import Any

from scaler.local.services import ON_INPUT, WEB, Service, command_line, require

HOST = "127.0.0.1"


LOCAL_SITES = ("http://localhost:*", "http://127.0.0.1:*")


def _frames() -> dict[str, tuple[str, ...]]:
    """In a notebook, its page on this machine may show the dashboard in a frame. Elsewhere no page may."""
    return {"allowed_frames": LOCAL_SITES} if "ipykernel" in sys.modules else {}


class Dashboard:
    """Its port is open before its process runs. So everybody can be told the URL, and a browser that comes early waits."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Start the process; it waits for the monitor address. `settings`: those that all services of the cluster have.

        Raises ImportError where scaler-ui is not installed.
        """
        require([WEB])
        with socket.create_server((HOST, 0)) as listener:
            self.url = f"http://{HOST}:{listener.getsockname()[1]}"
            """Where browsers of this machine find it."""
            self._service = Service(
                WEB,
                [ON_INPUT, *command_line({"host": HOST, "port": listener.getsockname()[1], **_frames(), **settings})],
                name="scaler_ui",
            )
            self._service.start(listener=listener.fileno())

    def watch(self, monitor_address: str) -> None:
        """Tell the process which scheduler to show, and wait until it answers. Raises `ServiceError` if it does not."""
        self._service.give_address(monitor_address)
        self._service.wait_ready()

    def terminate(self) -> None:
        """End the process. Idempotent."""
        self._service.terminate()
