"""The interface of custom serializers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Serializer(ABC):
    """How a client's functions, arguments and results become bytes. Give the class, or an instance, to `Client`.

    It is used for the function, for each argument by itself, and for the result. The class is sent to the workers by
    cloudpickle, so it may be defined anywhere; what it imports must be installed there. Without one, values travel by
    pickle and cloudpickle.
    """

    @staticmethod
    @abstractmethod
    def serialize(obj: Any) -> bytes:
        """Return `obj` as bytes. Called when a task is submitted: changes to `obj` afterwards must not show."""

    @staticmethod
    @abstractmethod
    def deserialize(payload: bytes) -> Any:
        """Return the value that `serialize` made these bytes of."""


AnySerializer = type[Serializer] | Serializer
"""Its methods are static, so that the class will do."""
