"""A Python that processes of every user can run, for tests of processes that are not of the tests' own user."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

_READABLE = """
import ctypes, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags, data):
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")
MS_BIND, MS_REC, MS_PRIVATE, CLONE_NEWNS = 4096, 16384, 1 << 18, 0x20000
if libc.unshare(CLONE_NEWNS):
    raise OSError(ctypes.get_errno(), "cannot make a mount namespace")
mount("none", "/", "", MS_REC | MS_PRIVATE, "")
closed, library = sys.argv[1:3]
kept = os.open(library, os.O_PATH)
mount("none", closed, "tmpfs", 0, "mode=755")
os.makedirs(library)
mount(f"/proc/self/fd/{kept}", library, "", MS_BIND | MS_REC, "")
os.close(kept)
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
"""Shows a program a file system in which every user may read Python's library."""


def readable_python() -> list[str]:
    """Return the command of a Python that every user can read, also where this one lies in a folder of root's."""
    library = Path(sys.base_prefix)
    for folder in (*reversed(library.parents), library):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return [sys.executable, "-c", _READABLE, str(folder), str(library)]
    return [sys.executable]
