"""A web service's certificate and private key: which file is what, and whether they belong together."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.private_files import require_private
from scaler_protocol.service.errors import ConfigurationError

_CERTIFICATE, _KEY, _ENCRYPTED = b"CERTIFICATE-----", b"PRIVATE KEY-----", b"ENCRYPTED"
"""What PEM files of each kind contain (https://www.rfc-editor.org/rfc/rfc7468)."""

_FILE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and its key, checked."""

    certificate: Path
    key: Path
    key_password: str | None = None


def checked_tls_files(certificate: Path, key: Path, password: str | None) -> TlsFiles:
    """Return these files if a server can use them. One file may hold both. Raises ConfigurationError that names the flag."""
    certificate_pem, key_pem = _read("--tls-cert-file", certificate), _read("--tls-key-file", key)
    # Before the permissions: a certificate given as the key need not be private.
    has_certificate, has_key = _CERTIFICATE in certificate_pem, _KEY in key_pem
    if not has_certificate and not has_key and _KEY in certificate_pem and _CERTIFICATE in key_pem:
        raise ConfigurationError(
            f"--tls-cert-file, --tls-key-file: {certificate} has the private key, and {key} the certificate: swap them"
        )
    if not has_certificate:
        raise ConfigurationError(f"--tls-cert-file: {certificate} has no certificate (PEM)")
    if not has_key:
        raise ConfigurationError(f"--tls-key-file: {key} has no private key (PEM)")
    try:
        require_private(key)
    except SecurityFileError as error:
        raise ConfigurationError(f"--tls-key-file: {error}") from None
    _load(certificate, key, password, is_encrypted=_ENCRYPTED in key_pem)
    return TlsFiles(certificate, key, password)


def _read(flag: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(f"{flag}: cannot read {path}: {error.strerror}") from None


def _load(certificate: Path, key: Path, password: str | None, *, is_encrypted: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password instead of None: OpenSSL would ask for it at the terminal.
        context.load_cert_chain(certificate, key, password or "")
    except (OSError, ValueError) as error:
        both = "--tls-cert-file, --tls-key-file"
        if isinstance(error, ssl.SSLError) and "MISMATCH" in str(error):
            raise ConfigurationError(
                f"{both}: {key} is not the key of the first certificate in {certificate}"
            ) from None
        if is_encrypted and not password:
            raise ConfigurationError(
                f"--tls-key-file: {key} is encrypted; give a file with its password as --tls-key-password-file"
            ) from None
        if is_encrypted:
            raise ConfigurationError(f"--tls-key-password-file: the password does not open {key}: {error}") from None
        raise ConfigurationError(f"{both}: cannot use {certificate}, {key}: {error}") from None
