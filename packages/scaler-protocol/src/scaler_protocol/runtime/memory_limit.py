"""How much memory this process may use at most: the machine's, or less in a container or a systemd unit with a limit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_UNKNOWN_BYTES = 4 * 1024**3
"""Assumed where the system does not tell."""


def memory_limit_bytes(groups: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> int:
    """Return the machine's memory, or the smallest limit of the control groups (version 1 or 2) that this process is in.

    `groups` is where control groups are mounted, `membership` the file that says in which of them this process is.
    """
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else _UNKNOWN_BYTES
    for path in _limit_files(groups, membership):
        # Version 2 says "max" for no limit, version 1 a number that is larger than any memory.
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            limit = min(limit, int(file.read()))
    return limit


def _limit_files(groups: str, membership: str) -> Iterator[str]:
    """Yield the files with the limits of all groups around this process, which need not exist."""
    try:
        with open(membership, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = f"{groups}/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container, the path may be one of the host that is not mounted. Then the mounted root is the container's group.
        parts = path.strip("/").split("/")
        for count in range(len(parts), -1, -1):
            yield "/".join((root, *parts[:count], name))
