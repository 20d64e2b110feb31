"""How much memory the process of a task and its children have taken since the task began, read from /proc.

What counts is memory of their own: not what they have mapped from files or from /dev/shm, as arguments from object storage are.
"""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

DESCENDANTS_MAX = 1000
"""Processes looked at for one task."""


def used_bytes(pid: int, base_bytes: int, process: Path = Path("/proc")) -> int:
    """Return the bytes taken since process `pid` had `base_bytes` of its own; 0 if it is gone.

    Children share most of their memory with the process that they were forked from. It is counted once, which takes longer to
    find out, so that is done only where it could matter.
    """
    own = private_bytes(pid, process)
    if own is None:
        return 0
    grown = own - base_bytes
    children = [found for child in _descendants(pid, process) if (found := private_bytes(child, process)) is not None]
    if not children:
        return max(grown, 0)
    shares = [_shared_out_bytes(member, process) for member in (pid, *_descendants(pid, process))]
    if None in shares[:1]:
        # The agent may not look so closely at processes of another user: what one alone has taken is certain.
        return max(grown, max(children) - base_bytes, 0)
    return max(grown, sum(share for share in shares if share is not None) - base_bytes, 0)


def private_bytes(pid: int | str, process: Path = Path("/proc")) -> int | None:
    """Return the resident memory of a process that is in no file; None if the process is gone."""
    try:
        with open(f"{process}/{pid}/statm", "rb") as statm:
            fields = statm.read(256).split(None, 3)
        return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None


def _shared_out_bytes(pid: int, process: Path) -> int | None:
    """Return the same with memory that several processes share divided among them; None if that cannot be read."""
    try:
        with open(f"{process}/{pid}/smaps_rollup", "rb") as rollup:
            for line in rollup:
                if line.startswith(b"Pss_Anon:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _descendants(pid: int, process: Path) -> list[int]:
    """Return all processes that this one has started, and those that they have."""
    found: list[int] = []
    parents = [pid]
    while parents and len(found) < DESCENDANTS_MAX:
        children = _children(parents.pop(), process)
        found += children
        parents += children
    return found


def _children(pid: int, process: Path) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"{process}/{pid}/task"):
            with open(f"{process}/{pid}/task/{thread}/children", "rb") as file:
                children += map(int, file.read().split())
    except (OSError, ValueError):
        # It has just ended, or the kernel does not tell.
        pass
    return children
