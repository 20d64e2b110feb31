"""How much memory this process may use at most: the machine's, or less in a container or a systemd unit with a limit."""

from __future__ import annotations

import contextlib
import os

from scaler_protocol.runtime.control_groups import GROUPS, MEMBERSHIP, limit_files

_UNKNOWN_BYTES = 4 * 1024**3
"""Assumed where the system does not tell."""


def memory_limit_bytes(groups: str = GROUPS, membership: str = MEMBERSHIP) -> int:
    """Return the machine's memory, or the smallest limit of the control groups (version 1 or 2) that this process is in.

    `groups` is where control groups are mounted, `membership` the file that says in which of them this process is.
    """
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else _UNKNOWN_BYTES
    for path, _ in limit_files(groups, membership, "memory", "memory.max", "memory.limit_in_bytes"):
        # Version 2 says "max" for no limit, version 1 a number that is larger than any memory.
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            limit = min(limit, int(file.read()))
    return limit
