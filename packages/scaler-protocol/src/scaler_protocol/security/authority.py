"""Whom a key belongs to."""

from __future__ import annotations

from enum import StrEnum

from scaler_protocol.runtime.values import value
from scaler_protocol.security.keys import fingerprint


class KeyRole(StrEnum):
    """What the owner of a key is to a cluster."""

    CLIENT = "client"
    """Submits tasks, cancels its own, stores and reads objects."""
    WORKER = "worker"
    """Runs tasks; and is a client, for the tasks that its tasks submit."""
    ADAPTER = "adapter"
    """Asks the scheduler what it needs to start and stop workers."""
    MONITOR = "monitor"
    """Reads what schedulers and object storage servers publish."""
    OPERATOR = "operator"
    """As MONITOR and CLIENT, and may end the cluster."""
    SCHEDULER = "scheduler"
    """The scheduler itself, at an object storage server: it has the server's own key, which nobody can add."""


@value
class Authority:
    """A key that a cluster knows: its owner's name and role."""

    name: str
    role: KeyRole
    public: bytes

    @property
    def fingerprint(self) -> bytes:
        """The first bytes of its routing identities."""
        return fingerprint(self.public)
