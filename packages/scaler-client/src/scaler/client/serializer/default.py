"""`DefaultSerializer`: cloudpickle as a serializer, for programs written for earlier versions and to derive others from."""

from __future__ import annotations

from typing import Any

from scaler.serialization.serializer import Serializer


class DefaultSerializer(Serializer):
    """What a client uses without a serializer. Given to a client, it stands for none, which is faster."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        """Return `obj` as cloudpickle writes it."""
        import cloudpickle

        payload: bytes = cloudpickle.dumps(obj)
        return payload

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        """Return what `serialize` was given."""
        import pickle

        return pickle.loads(payload)
