"""Errors with which a service ends: one line on stderr and an exit status.

ServiceError            exit status 1: the machine, not the person, is at fault
 └─ ConfigurationError  exit status 2: a flag, a TOML key or a file has to be changed
"""

from __future__ import annotations

from typing import ClassVar

from scaler_protocol.errors import TransportError


class ServiceError(Exception):
    """A service cannot start or go on. The message is printed as it is, without a traceback."""

    exit_status: ClassVar[int] = 1


class ConfigurationError(ServiceError):
    """A setting is wrong. Each line of the message names one flag, TOML key or file."""

    exit_status: ClassVar[int] = 2


def cannot_listen(error: TransportError) -> ServiceError:
    """Return the error of a service that cannot listen on its address."""
    return ConfigurationError(str(error)) if error.is_final else ServiceError(str(error))
