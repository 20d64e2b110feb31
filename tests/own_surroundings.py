"""What each of several processes that run tests at the same time (`pytest -n 2`) has for itself.

So a test that looks for what is left behind does not find what another process's test is using, and no agent removes what a
killed agent has left for another process's test to look at.
"""

from __future__ import annotations

import ctypes
import os
import tempfile

SHARED_MEMORY = "/dev/shm"

_CLONE_NEWNS, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 0x20000, 2, 4, 0x4000, 1 << 18


_others_use_shared_memory = False


def take_own_surroundings(temporary_folder: str) -> None:
    """Take what this process can have for itself, and use this temporary folder."""
    global _others_use_shared_memory
    _others_use_shared_memory = not _take_shared_memory()
    # Like /tmp: tests also start processes of other users.
    os.chmod(temporary_folder, 0o1777)
    os.environ["TMPDIR"] = temporary_folder
    tempfile.tempdir = None


def others_use_shared_memory() -> bool:
    """Whether other processes of this run make files in this process's `/dev/shm`."""
    return _others_use_shared_memory


def _take_shared_memory() -> bool:
    """Give this thread and what it starts from now on a `/dev/shm` that nobody else sees; return whether it could be had.

    Only root on Linux can, and not in every container. It is empty, and as large as the machine's.
    """
    try:
        found = os.statvfs(SHARED_MEMORY)
        libc = ctypes.CDLL(None)
        if libc.unshare(_CLONE_NEWNS):
            return False
    except (OSError, AttributeError):
        return False
    options = f"mode=1777,size={found.f_blocks * found.f_frsize}"
    return not (
        libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        or libc.mount(b"tmpfs", SHARED_MEMORY.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode())
    )
