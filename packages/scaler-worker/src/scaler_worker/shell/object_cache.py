"""The folder in which a host keeps objects while its tasks need them: in memory where there is room."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from scaler_worker.fences.plan import Account
from scaler_worker.fences.private_folders import let_through, make_folder, make_own_folder

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES_MIN = 512 * 1024 * 1024
"""Containers often have 64 MiB there: then an ordinary folder is better."""

CACHE_BYTES_MAX = 4 * 1024**3
CACHE_SHARE = 4
"""The cache takes at most this part (a quarter) of what is free."""

PREFIX = "scaler-objects"


def make_object_folder(account: Account | None = None) -> tuple[str, str, int]:
    """Make a new folder for this host; return its path, that of its folder for objects, and how many bytes that may hold.

    Removes those of agents that were killed. If processors are of another user (`account`), the objects have a folder of
    that user inside one that only this process can change: so nobody can put another in its place.
    """
    place = SHARED_MEMORY
    if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < SHARED_MEMORY_BYTES_MIN:
        place = Path(tempfile.gettempdir())
    folder = make_own_folder(PREFIX, place)
    size = min(shutil.disk_usage(place).free // CACHE_SHARE, CACHE_BYTES_MAX)
    return folder, _object_folder(folder, account), size


def remake_object_folder(folder: str, account: Account | None) -> None:
    """Make what was removed of the folder of this host again, with the same paths. Raises OSError.

    Its name is known, and it may lie where all users can make folders and links: what another one has put there is not used.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise
    # From here on nobody else can change what is inside.
    if account is not None and not os.path.isdir(f"{folder}/objects"):
        _object_folder(folder, account)


def _object_folder(folder: str, account: Account | None) -> str:
    if account is None:
        return folder
    let_through(folder)
    inner = f"{folder}/objects"
    make_folder(inner, account.uid, account.gid)
    return inner
