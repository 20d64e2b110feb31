"""Runs an adapter from a command line. All adapters share it: `python -m scaler_adapters NAME ADDRESS …`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaler_adapters.webhook_settings import WebhookSettings
from scaler_protocol.address import is_loopback_host
from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.private_files import require_private
from scaler_protocol.service.command import run_command
from scaler_protocol.service.errors import ConfigurationError

if TYPE_CHECKING:
    from scaler_adapters.adapter import WorkerAdapter

ROLE = "webhook"
"""The name under which the webhook's address is reported to the parent process."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


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

    token = _read_token(settings.auth_token_file)
    loopback = is_loopback_host(settings.host)
    if not loopback and token is None and not settings.insecure:
        raise ConfigurationError(
            f"--host: anybody who reaches port {settings.port} on {settings.host} could start processes here; give "
            "--auth-token-file, or --insecure to allow that"
        )
    hosts = _LOOPBACK_NAMES | {settings.host} if loopback else None
    application = create_application(adapter_class(settings), token=token, hosts=hosts)
    return run_application(application, settings.host, settings.port, role=ROLE, event_loop=settings.event_loop)


def _read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        require_private(path)
        token = path.read_text(encoding="utf-8").strip()
    except SecurityFileError as error:
        raise ConfigurationError(f"--auth-token-file: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--auth-token-file: cannot read {path}: {error}") from None
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigurationError(f"--auth-token-file: {path} contains no token (one line of ASCII characters)")
    return token
