"""Lowers the priority of monitors: on a busy machine the watched cluster goes first."""

from __future__ import annotations

import os

PRIORITY = 10
"""The niceness of monitors: a tenth of the weight of other processes. A monitor needs 2 % of a core, so it stays prompt."""


def give_way() -> None:
    """Lower this process's priority, unless the user has chosen one. Call it before starting threads."""
    if os.getpriority(os.PRIO_PROCESS, 0) == 0:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
