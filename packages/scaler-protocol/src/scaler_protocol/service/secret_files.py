"""Files with one secret, a token or a password: command lines show theirs to every user of the machine."""

from __future__ import annotations

from pathlib import Path

from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.private_files import require_private
from scaler_protocol.service.errors import ConfigurationError


def read_secret(path: Path, flag: str) -> str:
    """Return the secret. Raises ConfigurationError, which names `flag`, unless only its owner can read the file."""
    try:
        require_private(path)
        secret = path.read_text(encoding="utf-8").strip()
    except SecurityFileError as error:
        raise ConfigurationError(f"{flag}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{flag}: cannot read {path}: {error}") from None
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ConfigurationError(f"{flag}: {path} contains no token or password (one line of ASCII characters)")
    return secret
