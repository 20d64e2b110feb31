"""`Serializer`, where programs written for earlier versions look for it."""

from scaler.serialization.serializer import Serializer

__all__ = ["Serializer"]
