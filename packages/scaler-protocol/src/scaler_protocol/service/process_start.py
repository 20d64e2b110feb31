"""The first steps of every command. This module and its imports must stay light."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from scaler_protocol.service.interrupts import quiet_interrupts
from scaler_protocol.service.module_path import separate_modules
from scaler_protocol.service.standard_streams import ensure_standard_streams

_OWNER_BITS = 0o700


@contextmanager
def starting() -> Iterator[None]:
    """Entered while a command imports its libraries. Makes its standard streams, files and module path reliable."""
    ensure_standard_streams()
    separate_modules()
    # The service itself must be able to read its files. This never gives others more rights.
    mask = os.umask(0o077)
    os.umask(mask & ~_OWNER_BITS)
    with quiet_interrupts(), importing():
        yield


@contextmanager
def importing() -> Iterator[None]:
    """Entered while libraries are imported. What they make stays: looking for garbage among it takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
