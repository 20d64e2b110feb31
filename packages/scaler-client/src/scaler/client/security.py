"""The keys of a client, from the directory or file that names them."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

CONNECTION_SUFFIX = ".scaler"
"""The end of the names of connection files."""


def checked_security(value: Any) -> str | None:
    """Return where keys are, as a path that stays right if the current folder changes. Raises TypeError for what is none."""
    if value is None:
        return None
    if not isinstance(value, str | PathLike):
        raise TypeError(f"security must be the path of a security directory or of one of its files, not {value!r}")
    path = fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"security must be the path of a security directory or of one of its files, not {value!r}")
    # Imported late, here and below: it brings urllib, and `import scaler` needs neither.
    from pathlib import Path

    return str(Path(path).expanduser().absolute())


def resolved(address: str | PathLike[str] | None, security: Any) -> tuple[Any, str | None]:
    """Return the address to connect to and where its keys are. The address may be the name of a connection file.

    Raises ValueError that names the file and says what is wrong with it, TypeError for what is no path.
    """
    keys = checked_security(security)
    if not isinstance(address, str | PathLike) or not fspath(address).endswith(CONNECTION_SUFFIX):
        return address, keys
    path = fspath(address)
    if isinstance(path, bytes) or "://" in path:
        return address, keys
    if keys is not None:
        raise ValueError(f"{path} has the keys already: leave security out, or give the scheduler's address")
    from pathlib import Path

    from scaler_protocol.security.connection_file import read_connection
    from scaler_protocol.security.errors import SecurityError

    try:
        return read_connection(Path(path).expanduser()).address, checked_security(path)
    except SecurityError as error:
        raise ValueError(str(error)) from None


def read_keys(path: str | None, *roles: str) -> PeerSecurity | None:
    """Return the keys that one of these roles has in a security directory or one of its files; None for no path.

    Those of the first role that has any. Raises ValueError that names the file and says what is wrong with it.
    """
    if path is None:
        return None
    # Imported late: without keys nobody pays for them.
    from pathlib import Path

    from scaler_protocol.security.authority import KeyRole
    from scaler_protocol.security.directory import load_peer
    from scaler_protocol.security.errors import SecurityError

    try:
        return load_peer(Path(path), *map(KeyRole, roles))
    except SecurityError as error:
        raise ValueError(f"security: {error}") from None
