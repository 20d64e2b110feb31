"""Asking the object storage server: the requesting end's rules, for clients, agents and the scheduler. Pure."""

from scaler_protocol.objects.storage.requests import (
    CHECK_SECONDS,
    Completion,
    Done,
    Missing,
    Refused,
    StoreChanged,
    StoreRequests,
    TimedOut,
    TooManyRequestsError,
)

__all__ = [
    "CHECK_SECONDS",
    "Completion",
    "Done",
    "Missing",
    "Refused",
    "StoreChanged",
    "StoreRequests",
    "TimedOut",
    "TooManyRequestsError",
]
