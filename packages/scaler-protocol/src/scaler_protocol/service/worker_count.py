"""How many workers one agent may have."""

from __future__ import annotations

from scaler_protocol.wire.messages import NO_SLOT

WORKERS_MAX = NO_SLOT
"""Results name the worker that ran a task by a number of 16 bits; the highest number means no worker."""


def check_worker_count(count: int, least: int = 1) -> int:
    """Return the number of workers of one agent. Raises ValueError for a number out of bounds."""
    if not least <= count <= WORKERS_MAX:
        raise ValueError(
            f"must be from {least} to {WORKERS_MAX:,}, as one process numbers its workers with 16 bits, not {count}"
        )
    return count
