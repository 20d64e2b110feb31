"""Monitors give way: on a machine whose cores are all busy, what is watched goes before who watches."""

from __future__ import annotations

import os

PRIORITY = 10
"""As by `nice -n 10`: a tenth of the weight of other processes. Still prompt on a full machine: a monitor needs 2 % of a core."""


def give_way() -> None:
    """Lower this process's priority, unless somebody has chosen one. To be called before it has further threads."""
    if os.getpriority(os.PRIO_PROCESS, 0) == 0:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
