"""How many cores this process may use: those it may run on, or less in a container or a systemd unit with a quota."""

from __future__ import annotations

import contextlib
import os

from scaler_protocol.runtime.control_groups import GROUPS, MEMBERSHIP, limit_files


def cpu_limit_cores(groups: str = GROUPS, membership: str = MEMBERSHIP) -> float:
    """Return the number of cores this process may run on, or the smallest quota of the control groups that it is in."""
    limit = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for path, is_unified in limit_files(groups, membership, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            # Version 2 says "max" for no quota, version 1 -1; both count microseconds of a period.
            quota, _, period = file.read().strip().partition(" ")
            if not is_unified:
                with open(path.replace("cfs_quota_us", "cfs_period_us"), encoding="ascii") as other:
                    period = other.read()
            if int(quota) > 0:
                limit = min(limit, int(quota) / int(period))
    return limit
