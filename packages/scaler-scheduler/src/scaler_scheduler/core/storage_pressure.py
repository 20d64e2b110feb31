"""Whether objects run over the limit of object storage: then rows that free more objects than they make go first."""

from __future__ import annotations

from scaler_protocol.wire.messages import StoreStatus

HIGH_PART = 0.8
"""With such a part of its limit in use, storage is nearly full: what runs now may still make as much again."""


class StoragePressure:
    """What is known of storage. It is asked only while results of graphs are objects there, or while it is nearly full."""

    __slots__ = ("is_high", "made_objects")

    def __init__(self) -> None:
        self.is_high = False
        self.made_objects = False
        """Whether a row has made objects since storage was last asked."""

    def on_report(self, status: StoreStatus) -> None:
        """Storage has answered."""
        self.is_high = status.limit_bytes > 0 and status.used_bytes >= HIGH_PART * status.limit_bytes

    def should_ask(self) -> bool:
        """Whether storage is to be asked now; asked from time to time."""
        due = self.made_objects or self.is_high
        self.made_objects = False
        return due
