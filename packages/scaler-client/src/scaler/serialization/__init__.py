"""Values to bytes and back: pickling, the functions worth pickling once, what is too large to travel inline."""

from scaler.serialization.serializer import Serializer

__all__ = ["Serializer"]
