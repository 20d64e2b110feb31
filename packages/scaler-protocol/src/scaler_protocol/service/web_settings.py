"""The settings that every web service has: its token, its host names, its TLS certificate."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AliasChoices, Field

from scaler_protocol.address import is_loopback_host
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.secret_files import read_secret
from scaler_protocol.service.security_settings import InsecureSettings
from scaler_protocol.service.settings import Protective, Short, TakesSeveral, TextListSetting
from scaler_protocol.service.tls_files import TlsFiles, checked_tls_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """What the connections of a web service may cost."""

    connections: int = 500
    """Most connections at once."""

    per_address: int = 200
    """Most connections at once from one IPv4 address, or one /64 network of IPv6."""

    head_s: float = 10.0
    """Seconds in which a TLS handshake must be done, and in which the request line and headers must have come."""


class WebServiceSettings(InsecureSettings):
    """Adds the token, the host names and the TLS files of a web service to a command."""

    token_variable: ClassVar[str]
    """The environment variable that may hold the token."""

    token_file: Annotated[Path | None, Short("atf"), Protective()] = Field(
        default=None,
        validation_alias=AliasChoices("token_file", "auth_token_file"),
        description="file with the token that every caller must send; only its owner may be able to read it",
    )
    allowed_hosts: Annotated[TextListSetting, TakesSeveral()] = Field(
        default=(),
        description="further host names that requests may use; this machine's names and IP addresses are always allowed",
    )
    tls_cert_file: Path | None = Field(default=None, description="certificate (PEM, with its chain), for https")
    tls_key_file: Path | None = Field(default=None, description="private key of --tls-cert-file (PEM)")
    tls_key_password_file: Path | None = Field(default=None, description="file with the password of --tls-key-file")
    max_connections: int = Field(
        default=ConnectionLimits.connections, ge=1, description="most connections at once; further ones get status 503"
    )
    max_connections_per_address: int = Field(
        default=ConnectionLimits.per_address,
        ge=1,
        description="most connections at once from one address; further ones get status 429. All callers behind a proxy "
        "have one address",
    )
    request_header_timeout_seconds: float = Field(
        default=ConnectionLimits.head_s,
        gt=0,
        le=600,
        description="seconds in which a caller must have sent the headers of its request, or done its TLS handshake",
    )

    def connection_limits(self) -> ConnectionLimits:
        """Return how many connections there may be, and how slow."""
        return ConnectionLimits(
            self.max_connections, self.max_connections_per_address, self.request_header_timeout_seconds
        )

    def read_token(self, host: str, given: str = "") -> str | None:
        """Return the token: of the file, of the flag (`given`), or of the environment; None if none is set.

        Raises ConfigurationError if it cannot be read, or if `host` is reachable from other machines and there is none.
        """
        token: str | None
        variable = type(self).token_variable
        # Taken out of the environment, also where another one counts: the processes started here would inherit it.
        inherited = os.environ.pop(variable, "")
        if self.token_file is not None:
            token = read_secret(self.token_file, "--token-file")
        elif given or inherited:
            token = given or inherited
            if not token.isascii() or not token.isprintable():
                raise ConfigurationError(f"{'--token' if given else variable}: not one line of ASCII characters")
        else:
            token = None
        if token is None and not self.insecure and not is_loopback_host(host):
            raise ConfigurationError(
                f"--host {host}: anybody who reaches this machine could use this service; give --token-file, or --insecure "
                "to allow that"
            )
        if not is_loopback_host(host):
            self._warn(host, token)
        return token

    def _warn(self, host: str, token: str | None) -> None:
        if token is None:
            logger.warning("--insecure: everybody who reaches %s can use this service", host)
        elif self.tls_cert_file is None:
            logger.warning(
                "the token crosses the network to %s in the clear, unless a proxy adds TLS: give --tls-cert-file", host
            )

    def read_tls(self) -> TlsFiles | None:
        """Return the certificate and its key; None without them. Raises ConfigurationError if they are of no use."""
        if self.tls_cert_file is None and self.tls_key_file is None:
            if self.tls_key_password_file is not None:
                raise ConfigurationError("--tls-key-password-file: needs --tls-cert-file and --tls-key-file")
            return None
        if self.tls_cert_file is None or self.tls_key_file is None:
            missing = "--tls-cert-file" if self.tls_cert_file is None else "--tls-key-file"
            raise ConfigurationError(f"{missing}: a certificate and its key are needed together")
        password_file = self.tls_key_password_file
        password = None if password_file is None else read_secret(password_file, "--tls-key-password-file")
        return checked_tls_files(self.tls_cert_file, self.tls_key_file, password)
