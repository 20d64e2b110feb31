"""Requests to the object storage server: the rules of the requesting end, for clients, agents and the scheduler. Pure."""

from scaler_protocol.objects.storage.requests import (
    CHECK_SECONDS,
    AtHomes,
    Completion,
    Done,
    Layout,
    Missing,
    Refused,
    StoreChanged,
    StoreRequests,
    TimedOut,
    TooManyRequestsError,
)

__all__ = [
    "CHECK_SECONDS",
    "AtHomes",
    "Completion",
    "Done",
    "Layout",
    "Missing",
    "Refused",
    "StoreChanged",
    "StoreRequests",
    "TimedOut",
    "TooManyRequestsError",
]
