"""By what an adapter that is started again knows what it had started: names and marks on that itself.

Nothing else is kept anywhere.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from scaler_adapters.webhook_settings import WebhookSettings

GROUP_VARIABLE = "SCALER_WORKER_GROUP"
"""In the environment of workers: which group they are and whose, as JSON."""


def adapter_name(settings: WebhookSettings) -> str:
    """Return the name of this adapter: the same scheduler, host and port are the same adapter, started again.

    At a port of the system's choice nobody could find it again, nor it its workers; then every process has its own.
    """
    at_a_port = f"{settings.address} {settings.host}:{settings.port}"
    return f"scaler-{digest(at_a_port if settings.port else uuid.uuid4().hex)}"


def digest(text: str) -> str:
    """Twelve characters that are the same for the same text, and hardly ever for another."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class GroupMark:
    """What an adapter writes onto a group's job or task."""

    name: str
    request_id: str
    capabilities: Mapping[str, int]

    def to_json(self) -> str:
        """In one line, as short as may be."""
        words = {"name": self.name, "request_id": self.request_id, "capabilities": dict(self.capabilities)}
        return json.dumps(words, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, otherwise: str) -> Self:
        """Read it again. Where somebody has changed it the group is named `otherwise`: it can still be seen and stopped."""
        try:
            words = json.loads(text)
            return cls(words["name"], words["request_id"], words["capabilities"])
        except (ValueError, KeyError, TypeError):
            return cls(otherwise, "", {})
