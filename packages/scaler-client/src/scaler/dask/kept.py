"""Nodes of Dask's graphs whose values stay on the cluster: what `persist` puts in place of values."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from dask._task_spec import DataNode

from scaler.client.client import Client
from scaler.client.object_reference import ObjectReference


class KeptNode(DataNode):  # type: ignore[misc]
    """A value that is an object in storage. It is there for as long as a collection has this node."""

    __slots__ = ("client",)

    def __init__(self, key: Hashable, reference: ObjectReference, client: Client | None = None) -> None:
        """`client`: the one that has persisted it; None in other processes than its own."""
        super().__init__(key, reference)
        self.client = client

    @property
    def block_fusion(self) -> bool:
        """True: inside another task nobody would turn the reference into the value."""
        return True

    def copy(self) -> KeptNode:
        """Return an equal node."""
        return self.renamed(self.key)

    def renamed(self, key: Hashable) -> KeptNode:
        """Return the same value's node under another key."""
        return KeptNode(key, self.value, self.client)

    def result(self) -> Any:
        """Return the value, which comes here. What is persisted elsewhere is a future, and is asked in the same way."""
        if self.client is None:
            return self()
        return self.client.get({"value": self.value}, ["value"])["value"]

    def substitute(self, subs: dict[Any, Any], key: Hashable | None = None) -> KeptNode:
        """Return the node under another key, if one is given."""
        return self if key is None or key == self.key else self.renamed(key)

    def __call__(self, values: Any = ()) -> Any:
        """Raise: only the scheduler function of the client gets at the value."""
        raise RuntimeError(
            f"the value of {self.key!r} was persisted on a Scaler cluster: compute with scheduler=scaler.dask.get(client), "
            "with the client that persisted it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptNode, (self.key, self.value)

    def __dask_tokenize__(self) -> tuple[str, bytes]:
        return type(self).__name__, self.value.object_id
