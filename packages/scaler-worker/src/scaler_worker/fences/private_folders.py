"""A temporary folder for each processor, which is removed with it.

They lie in one folder of the agent, which only the agent's user can change. What is left by an agent that was killed together
with its template is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
import time
from pathlib import Path
from time import monotonic

from scaler_worker.fences.removal import remove_folder

logger = logging.getLogger(__name__)

PREFIX = "scaler-temporary"


LEFT_SECONDS_MAX = 10.0
"""How long an agent's start may take to remove what others have left. What is not gone then is left for the next one."""

MAKING_SECONDS = 60.0
"""A younger folder that nobody holds may be one that a living process is just making."""

_held: list[int] = []
"""Descriptors of this process's folders, locked as long as it lives."""


def make_place() -> str:
    """Make the agent's folder, and return its path. Removes those of agents that were killed. Raises OSError."""
    return make_own_folder(PREFIX, Path(tempfile.gettempdir()))


def make_own_folder(prefix: str, place: Path) -> str:
    """Make a folder for this process in `place`, and remove those of processes that are gone. Raises OSError."""
    until = monotonic() + LEFT_SECONDS_MAX
    for folder in place.glob(f"{prefix}-*-*"):
        pid_text = folder.name.removeprefix(prefix).split("-")[1]
        if not pid_text.isdecimal() or not _is_own(folder) or _is_held(folder):
            continue
        # Another process may have the number now: in a container the agent is always process 1.
        if Path(f"/proc/{pid_text}").exists() and _age_seconds(folder) < MAKING_SECONDS:
            continue
        # What cannot be removed keeps no agent from starting.
        try:
            trouble = remove_folder(folder, until - monotonic())
        except OSError as error:
            trouble = str(error.strerror)
        if trouble:
            logger.warning("cannot remove %s, which an agent has left that was killed: %s", folder, trouble)
    made = tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-", dir=place)
    held = os.open(made, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    _held.append(held)
    return made


def _is_own(folder: Path) -> bool:
    """Whether this user made the folder. In a place that all users share, others can give theirs any name."""
    try:
        return folder.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _age_seconds(folder: Path) -> float:
    try:
        return time.time() - folder.lstat().st_ctime
    except OSError:
        return 0.0


def _is_held(folder: Path) -> bool:
    """Whether a living agent has this folder, which may be one of another container: process ids say nothing of those."""
    with contextlib.suppress(OSError):
        looked = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(looked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(looked)
    return False


def folder_of(place: str, number: int) -> str:
    """Return the path of a processor's folder."""
    return f"{place}/{number}"


def let_through(folder: str) -> None:
    """Let others pass through a folder of this user to those inside it, of which they must know the names."""
    os.chmod(folder, 0o711)


def make_folder(path: str, uid: int | None, gid: int | None) -> None:
    """Make a folder that only this user, or the given one, can look into. Raises OSError."""
    os.mkdir(path, 0o700)
    if uid is not None and gid is not None:
        os.chown(path, uid, gid)
