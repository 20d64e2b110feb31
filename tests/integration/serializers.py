"""A serializer as users write them, for the tests that need one."""

from __future__ import annotations

from typing import Any

import cloudpickle

from scaler import Serializer


class Reversed(Serializer):
    """Bytes that nobody else can read."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        return bytes(reversed(cloudpickle.dumps(obj)))

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return cloudpickle.loads(bytes(reversed(payload)))
