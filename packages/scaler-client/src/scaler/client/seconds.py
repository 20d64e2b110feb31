"""Checks of times that users hand over. Apart from other checks, because futures need no more than this."""

from __future__ import annotations

import math
from typing import Any

from scaler_protocol.runtime.names import shown

SECONDS_MAX = 1_000_000_000.0
"""Some thirty years. Waiting functions of the system refuse a few times as much."""


def checked_seconds(name: str, value: Any) -> float:
    """Return a setting in seconds. Raises TypeError for what is no number, ValueError unless it is above 0 and finite."""
    seconds = _number(name, value)
    if not 0 < seconds <= SECONDS_MAX:
        raise ValueError(f"{name} must be greater than 0 and at most {SECONDS_MAX:,.0f} seconds, not {shown(value)}")
    return seconds


def checked_timeout(value: Any) -> float | None:
    """Return how long to wait: None for without end, as for an infinite or enormous number.

    Raises TypeError for what is no number, ValueError for NaN.
    """
    if value is None:
        return None
    seconds = _number("timeout", value)
    if math.isnan(seconds):
        raise ValueError("timeout must be a number of seconds or None, not nan")
    return seconds if seconds <= SECONDS_MAX else None


def _number(name: str, value: Any) -> float:
    # Text that reads as a number is refused as well: it comes from a setting that nobody has parsed.
    if isinstance(value, str | bytes | bytearray | bool):
        raise TypeError(f"{name} must be a number of seconds, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number of seconds, not {shown(value)}") from None
