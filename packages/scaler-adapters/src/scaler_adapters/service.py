"""Runs an adapter from a command line. All adapters share it: `python -m scaler_adapters NAME ADDRESS …`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.service.command import run_command

if TYPE_CHECKING:
    from scaler_adapters.adapter import WorkerAdapter

ROLE = "webhook"
"""The name under which the webhook's address is reported to the parent process."""


def run_adapter_command(
    settings_class: type[WebhookSettings], load: Callable[[], type[WorkerAdapter]], arguments: Sequence[str] | None
) -> int:
    """Run an adapter with these arguments. Returns the exit status. `load` is called after the flags were read."""
    return run_command(settings_class, lambda settings: serve(load(), settings), arguments)


def serve(adapter_class: type[WorkerAdapter], settings: WebhookSettings) -> int:
    """Serve the webhook of an adapter until it is asked to stop. Returns the exit status."""
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler_adapters.application import create_application
    from scaler_protocol.service.web import run_application
    from scaler_protocol.service.web_access import HostNames

    token = settings.read_token(settings.host)
    tls = settings.read_tls()
    hosts = HostNames((settings.host, *settings.allowed_hosts))
    application = create_application(adapter_class(settings), token=token, hosts=hosts)
    return run_application(
        application,
        settings.host,
        settings.port,
        role=ROLE,
        event_loop=settings.event_loop,
        tls=tls,
        limits=settings.connection_limits(),
    )
