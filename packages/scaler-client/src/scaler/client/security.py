"""The keys of a client, from the directory or file that names them."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity


def checked_security(value: Any) -> str | None:
    """Return where keys are, as a path that stays right if the current folder changes. Raises TypeError for what is none."""
    if value is None:
        return None
    if not isinstance(value, str | PathLike):
        raise TypeError(f"security must be the path of a security directory, not {value!r}")
    path = fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"security must be the path of a security directory, not {value!r}")
    return str(Path(path).expanduser().absolute())


def read_keys(path: str | None, *roles: str) -> PeerSecurity | None:
    """Return the keys that one of these roles has in a security directory, for the first that has any; None for no path.

    Raises ValueError that names the file and says what is wrong with it.
    """
    if path is None:
        return None
    # Imported late: without keys nobody pays for them.
    from scaler_protocol.security.authority import KeyRole
    from scaler_protocol.security.directory import load_peer
    from scaler_protocol.security.errors import SecurityError

    try:
        return load_peer(Path(path), *map(KeyRole, roles))
    except SecurityError as error:
        raise ValueError(f"security: {error}") from None
