"""Where programs written for earlier versions look for serializers. The interface is in `scaler.serialization.serializer`."""

from scaler.client.serializer.default import DefaultSerializer
from scaler.client.serializer.mixins import Serializer

__all__ = ["DefaultSerializer", "Serializer"]
