"""Submit, map, graphs and futures, from any application on Linux or Windows."""

from scaler.client.client import Client
from scaler.client.future import ScalerFuture
from scaler.client.object_reference import ObjectReference
from scaler.serialization.serializer import Serializer

__all__ = ["Client", "ObjectReference", "ScalerFuture", "Serializer"]
