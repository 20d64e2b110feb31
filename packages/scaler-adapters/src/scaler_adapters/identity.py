"""Names and marks by which a restarted adapter recognises the workers it has started.

They are written onto jobs, tasks and processes. Nothing else is stored anywhere.
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
"""Environment variable of workers with their group and adapter, as JSON."""


def adapter_name(settings: WebhookSettings) -> str:
    """Return the name of this adapter. An adapter restarted for the same scheduler, host and port has the same name.

    With port 0 the address changes at each start, so each process then has a name of its own.
    """
    at_a_port = f"{settings.address} {settings.host}:{settings.port}"
    return f"scaler-{digest(at_a_port if settings.port else uuid.uuid4().hex)}"


def digest(text: str) -> str:
    """Return twelve characters of a hash of `text`."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class GroupMark:
    """The mark that an adapter writes onto the job or task of a group."""

    name: str
    request_id: str
    capabilities: Mapping[str, int]

    def to_json(self) -> str:
        """Return the mark as one short line."""
        words = {"name": self.name, "request_id": self.request_id, "capabilities": dict(self.capabilities)}
        return json.dumps(words, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, otherwise: str) -> Self:
        """Parse a mark. If somebody has changed it, the group is named `otherwise` and can still be stopped."""
        try:
            words = json.loads(text)
            return cls(words["name"], words["request_id"], words["capabilities"])
        except (ValueError, KeyError, TypeError):
            return cls(otherwise, "", {})
