"""What every command does before anything else. This module, and what it imports, must stay light."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from scaler_protocol.service.interrupts import quiet_interrupts
from scaler_protocol.service.module_path import separate_modules
from scaler_protocol.service.standard_streams import ensure_standard_streams

_OWNER_BITS = 0o700


@contextmanager
def starting() -> Iterator[None]:
    """While a command imports its libraries. Its streams, its files and its modules can be relied on from here on."""
    ensure_standard_streams()
    separate_modules()
    # A service that may not read its own files has none; what others may is not ours to widen.
    mask = os.umask(0o077)
    os.umask(mask & ~_OWNER_BITS)
    with quiet_interrupts():
        yield
