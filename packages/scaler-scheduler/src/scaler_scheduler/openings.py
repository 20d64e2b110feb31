"""What a scheduler opens: sockets for peers and monitors, webhooks of worker adapters; and what its log says about that."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from scaler_protocol.address import Address, reached_beside
from scaler_protocol.service.errors import ServiceError, cannot_listen
from scaler_protocol.transport import RouterListener, TransportError
from scaler_protocol.transport.admission import OnRefused
from scaler_protocol.transport.publisher import Publisher
from scaler_scheduler.settings import SchedulerSettings

if TYPE_CHECKING:
    from scaler_protocol.security.authority import Authority
    from scaler_protocol.security.credentials import ServerSecurity
    from scaler_scheduler.core import events
    from scaler_scheduler.lease_link import LeaseLink
    from scaler_scheduler.succession_link import SuccessionLink
    from scaler_scheduler.webhooks import Webhooks


def listen(
    settings: SchedulerSettings, on_received: Callable[[], None], security: ServerSecurity | None, on_refused: OnRefused
) -> RouterListener:
    """Listen for clients and agents. Raises ServiceError."""
    try:
        return RouterListener(str(settings.address), on_received, security=security, on_refused=on_refused)
    except TransportError as error:
        raise cannot_listen(error) from None


def publish_at(
    address: str,
    security: ServerSecurity | None,
    on_monitor: Callable[[str, Authority | None], None],
    on_refused: OnRefused,
) -> Publisher:
    """Listen for monitors. Raises ServiceError."""
    try:
        return Publisher(
            address,
            security=security,
            on_connected=on_monitor,
            on_refused=lambda peer, kind, reason: on_refused(peer, kind, f"at the monitor address: {reason}"),
        )
    except TransportError as error:
        raise ServiceError(f"cannot publish to monitors on {address}: {error}") from None


def succession_for(
    settings: SchedulerSettings, security: ServerSecurity | None, on_change: Callable[[], None]
) -> SuccessionLink | LeaseLink:
    """Return what says whether this scheduler is first. Raises ConfigurationError."""
    lease = settings.read_standby_lease()
    if lease is None:
        from scaler_scheduler.succession_link import SuccessionLink

        return SuccessionLink(settings.standby_of, settings.standby_lease_seconds, security, on_change)
    # Imported late: it needs a library that is installed only where it is used.
    from scaler_scheduler.lease_link import LeaseLink

    return LeaseLink(lease, settings.standby_lease_seconds, on_change)


def webhooks_for(
    settings: SchedulerSettings, on_answer: Callable[[events.WebhookAnswered | events.WebhookFailed], None]
) -> Webhooks | None:
    """Return what calls the worker adapters; None where there are none."""
    if not settings.adapter_webhook_urls:
        return None
    # Imported late: only a scheduler with worker adapters pays for an HTTP client.
    from scaler_scheduler.webhooks import open_webhooks

    return open_webhooks(settings.adapter_webhook_token_file, settings.adapter_webhook_ca_file, on_answer)


def how_to_watch(monitor_address: str, dashboard_url: str, *, keyed: bool) -> str:
    """Return what shows this cluster and what stops it, for the log."""
    address = reached_beside(monitor_address, f"tcp://{socket.gethostname()}:1")
    keys = " --security-dir DIR" if keyed else ""
    commands = f"in a browser with 'scaler_ui {address}{keys}', in a terminal with 'scaler_top {address}{keys}'"
    watch = f"Watch it at {dashboard_url}, or {commands}" if dashboard_url else f"Watch it {commands}"
    return f"{watch}. Stop it with Ctrl-C or 'kill {os.getpid()}'"


def for_others(address: str) -> str:
    """Return an address as people are told it who connect to it."""
    parsed = Address.parse(address)
    everywhere = f" (with a name or address of this machine in place of {parsed.host})" if parsed.is_wildcard else ""
    return f"{address}{everywhere}"
