"""What stands for an object that was sent to object storage by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """An object in storage; made by `Client.send_object`.

    Passed as an argument of a task, an item of `map` or a node of a graph, it stands for the object. It can be pickled, and
    is valid until its client calls `clear` or disconnects.
    """

    object_id: bytes
    """16 bytes."""
    owner: bytes
    """Identity of the client that sent it."""
    name: str = ""
    """For people."""
    size_bytes: int = 0
