"""How far running tasks say that they are, for people and for JSON."""

from __future__ import annotations

from typing import Any

from scaler_protocol.wire.messages import ProgressStatus
from scaler_ui.model.cluster import ClusterModel

Said = dict[tuple[bytes, int], ProgressStatus]
"""By client and task number."""


def said_now(model: ClusterModel) -> Said:
    """Return what running tasks have said, as of the last snapshot."""
    return {(one.client, one.number): one for one in (model.snapshot.progress if model.snapshot is not None else ())}


def progress_data(one: ProgressStatus | None) -> dict[str, Any] | None:
    """Return how far one task is; None where it has not said, or does not run."""
    if one is None:
        return None
    return {
        "done": _whole(one.done),
        "total": None if one.total < 0 else _whole(one.total),
        "note": one.note,
        "age_seconds": round(one.age_seconds, 1),
    }


def amounts_text(one: ProgressStatus) -> str:
    """Return how far a task is, in words: `12 of 200`."""
    return f"{_whole(one.done):,}" if one.total < 0 else f"{_whole(one.done):,} of {_whole(one.total):,}"


def share_text(one: ProgressStatus) -> str:
    """Return how far a task is, as `6 %`; empty where it has not said of how much."""
    return f"{100 * min(1.0, one.done / one.total):.0f} %" if one.total > 0 else ""


def _whole(amount: float) -> float:
    return int(amount) if amount == int(amount) else round(amount, 6)


def running_progress(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the running tasks that have said how far they are."""
    return [
        {
            "client": one.client.hex(),
            "client_name": model.client_name(one.client),
            "number": one.number,
            "function": one.function,
            "agent": one.agent,
            **(progress_data(one) or {}),
        }
        for one in said_now(model).values()
    ]
