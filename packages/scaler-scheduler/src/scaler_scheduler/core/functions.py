"""Function bodies: defined once by a client, sent once to each agent that needs them, dropped with their last client."""

from __future__ import annotations

from collections import Counter

from scaler_protocol.errors import SessionError
from scaler_protocol.ids import short
from scaler_scheduler.core.limits import FUNCTION_NAME_CHARACTERS_MAX


class _Body:
    __slots__ = ("clients", "data", "name")

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.clients: set[bytes] = set()


class FunctionRegistry:
    """Bodies by content id, with the clients that defined each."""

    def __init__(self) -> None:
        self._bodies: dict[bytes, _Body] = {}
        self.unfinished: Counter[bytes] = Counter()
        """Unfinished tasks by function. Graph rows that wait are no tasks yet."""

    def counts_by_name(self) -> dict[str, int]:
        """Return the numbers of unfinished tasks by the functions' names."""
        counts: dict[str, int] = {}
        for function_id, count in self.unfinished.items():
            if count > 0:
                name = self.name(function_id)
                counts[name] = counts.get(name, 0) + count
        return counts

    def define(self, client_id: bytes, function_id: bytes, data: bytes, name: str) -> None:
        """Keep a function's body while this client is connected.

        Raises SessionError if another client has defined this id as something else: ids are made from contents, so one of the
        two means to have its code run as the other's.
        """
        body = self._bodies.get(function_id)
        if body is None:
            body = self._bodies[function_id] = _Body(data, name[:FUNCTION_NAME_CHARACTERS_MAX])
        elif body.data != data:
            raise SessionError(f"function {short(function_id)} has another content at another client")
        body.clients.add(client_id)

    def knows(self, client_id: bytes, function_id: bytes) -> bool:
        """Whether this client has defined this function."""
        body = self._bodies.get(function_id)
        return body is not None and client_id in body.clients

    def body(self, function_id: bytes) -> bytes:
        """Return the bytes of a defined function."""
        return self._bodies[function_id].data

    def name(self, function_id: bytes) -> str:
        """Return the function's name for people, or the beginning of its id if it has none."""
        body = self._bodies.get(function_id)
        return body.name if body is not None and body.name else function_id[:4].hex()

    def drop_client(self, client_id: bytes) -> None:
        """A client is gone: drop the bodies that no other client has defined."""
        for function_id in [f for f, body in self._bodies.items() if client_id in body.clients]:
            body = self._bodies[function_id]
            body.clients.discard(client_id)
            if not body.clients:
                del self._bodies[function_id]
                self.unfinished.pop(function_id, None)

    def __len__(self) -> int:
        return len(self._bodies)
