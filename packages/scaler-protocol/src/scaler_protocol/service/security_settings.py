"""The setting that names a security directory, and the keys that a service reads from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import ServiceSettings, Short

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity
    from scaler_protocol.security.directory import DirectorySecurity


class SecuritySettings(ServiceSettings):
    """Adds `--security-dir` to a command."""

    security_dir: Annotated[Path | None, Short("sd")] = Field(
        default=None,
        description="directory with the keys of this cluster, as scaler_keys makes it (default: no keys, all may connect)",
    )


def peer_security(settings: SecuritySettings, *roles: str) -> PeerSecurity | None:
    """Return the keys with which this command connects: of the first of these roles that has any; None without keys.

    Raises ConfigurationError.
    """
    path = settings.security_dir
    if path is None:
        return None
    # Imported late: only with keys is PyNaCl needed.
    from scaler_protocol.security.authority import KeyRole
    from scaler_protocol.security.directory import load_peer
    from scaler_protocol.security.errors import SecurityError

    try:
        return load_peer(path, *map(KeyRole, roles))
    except SecurityError as error:
        raise ConfigurationError(f"--security-dir: {error}") from None


def server_security(settings: SecuritySettings) -> DirectorySecurity | None:
    """Return the keys of a server, and those it lets in; None without keys. Raises ConfigurationError."""
    path = settings.security_dir
    if path is None:
        return None
    # Imported late: only with keys is PyNaCl needed.
    from scaler_protocol.security.directory import load_server
    from scaler_protocol.security.errors import SecurityError

    try:
        return load_server(path)
    except SecurityError as error:
        raise ConfigurationError(f"--security-dir: {error}") from None
