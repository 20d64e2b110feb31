"""A Python that processes of every user can run, for tests of processes that are not of the tests' own user."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

_READABLE = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags, data):
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")
MS_BIND, MS_REC, MS_PRIVATE, CLONE_NEWNS = 4096, 16384, 1 << 18, 0x20000
if libc.unshare(CLONE_NEWNS):
    raise OSError(ctypes.get_errno(), "cannot make a mount namespace")
mount("none", "/", "", MS_REC | MS_PRIVATE, "")
closed = json.loads(sys.argv[1])
kept = {path: os.open(path, os.O_PATH) for paths in closed.values() for path in paths}
for folder, paths in closed.items():
    mount("none", folder, "tmpfs", 0, "mode=755")
    for path in paths:
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{kept[path]}", path, "", MS_BIND | MS_REC, "")
for descriptor in kept.values():
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Shows a program a file system in which every user may read Python and what it imports."""


def readable_python() -> list[str]:
    """Return the command of a Python that every user can read, also where this one lies in folders of root's."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), *(Path(entry) for entry in sys.path if Path(entry).is_dir())}
    closed: dict[str, list[str]] = {}
    for path in sorted(path.absolute() for path in needed):
        folder = _closed_folder(path)
        if folder is not None:
            # Sorted, so that what lies inside another one comes after it, and is there already.
            others = closed.setdefault(str(folder), [])
            if not any(path.is_relative_to(other) for other in others):
                others.append(str(path))
    return [sys.executable, "-c", _READABLE, json.dumps(closed)] if closed else [sys.executable]


def _closed_folder(path: Path) -> Path | None:
    """Return the outermost folder on the way to a path that others cannot enter."""
    for folder in (*reversed(path.parents), path):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None
