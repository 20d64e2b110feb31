"""The folder in which a host keeps objects while its tasks need them: in memory where there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES_MIN = 512 * 1024 * 1024
"""Containers often have 64 MiB there: then an ordinary folder is better."""

CACHE_BYTES_MAX = 4 * 1024**3
CACHE_SHARE = 4
"""The cache takes at most this part (a quarter) of what is free."""

PREFIX = "scaler-objects"


def make_object_folder() -> tuple[str, int]:
    """Make a new folder; return its path and how many bytes it may hold. Removes those of agents that were killed."""
    place = SHARED_MEMORY
    if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < SHARED_MEMORY_BYTES_MIN:
        place = Path(tempfile.gettempdir())
    _sweep(place)
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-", dir=place)
    return folder, min(shutil.disk_usage(place).free // CACHE_SHARE, CACHE_BYTES_MAX)


def _sweep(place: Path) -> None:
    """Remove folders whose agent and whose agent's helper were both killed, so that nobody could clean up."""
    for folder in place.glob(f"{PREFIX}-*-*"):
        pid_text = folder.name.split("-")[2]
        if pid_text.isdecimal() and not Path(f"/proc/{pid_text}").exists():
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
