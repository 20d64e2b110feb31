"""A temporary folder for each processor, which is removed with it.

They lie in one folder of the agent, which only the agent's user can change. What is left by an agent that was killed together
with its template is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "scaler-temporary"


def make_place() -> str:
    """Make the agent's folder, and return its path. Removes those of agents that were killed. Raises OSError."""
    return make_own_folder(PREFIX, Path(tempfile.gettempdir()))


def make_own_folder(prefix: str, place: Path) -> str:
    """Make a folder for this process in `place`, and remove those of processes that are gone. Raises OSError."""
    for folder in place.glob(f"{prefix}-*-*"):
        pid_text = folder.name.removeprefix(prefix).split("-")[1]
        if pid_text.isdecimal() and not Path(f"/proc/{pid_text}").exists():
            # Tasks may have left folders too deep to be removed. That must not keep agents from starting.
            with contextlib.suppress(OSError, RecursionError):
                shutil.rmtree(folder)
    return tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-", dir=place)


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
