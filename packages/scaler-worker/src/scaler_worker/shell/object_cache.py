"""The folders in which a host keeps objects while its tasks need them: in memory where there is room, otherwise on disk."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from scaler_worker.fences.plan import Account
from scaler_worker.fences.private_folders import let_through, make_folder, make_own_folder
from scaler_worker.processor.object_folders import ObjectFolders

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES_MIN = 512 * 1024 * 1024
"""Containers often have 64 MiB there: then an ordinary folder is better."""

CACHE_BYTES_MAX = 4 * 1024**3
CACHE_SHARE = 4
"""The cache takes at most this part (a quarter) of what is free."""

PREFIX = "scaler-objects"


def make_object_folders(account: Account | None = None) -> tuple[tuple[str, ...], ObjectFolders, int]:
    """Make new folders for this host; return their paths, the folders for objects in them, and how many bytes these may hold.

    Removes those of agents that were killed. If processors are of another user (`account`), the objects have a folder of
    that user inside one that only this process can change: so nobody can put another in its place. Raises OSError if there
    is no place for any.
    """
    temporary = Path(tempfile.gettempdir())
    spare = make_own_folder(PREFIX, temporary)
    try:
        first = _in_memory()
    except OSError as error:
        logger.info("large values of tasks are kept in files in %s, because %s", spare, error)
        made: tuple[str, ...] = (spare,)
    else:
        made = (first, spare)
    folders = ObjectFolders(*(_object_folder(folder, account) for folder in made))
    size = min(shutil.disk_usage(made[0]).free // CACHE_SHARE, CACHE_BYTES_MAX)
    return made, folders, size


def _in_memory() -> str:
    """Make a folder in memory. Raises OSError, with a text that says why none can be made."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
        if free >= SHARED_MEMORY_BYTES_MIN:
            return make_own_folder(PREFIX, SHARED_MEMORY)
    except OSError as error:
        raise OSError(f"{SHARED_MEMORY} cannot be used: {error.strerror}") from None
    raise OSError(
        f"{SHARED_MEMORY} has {free >> 20} MiB free, less than {SHARED_MEMORY_BYTES_MIN >> 20} MiB "
        "(in a container, --shm-size gives it more)"
    )


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
