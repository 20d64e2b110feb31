"""Function bodies: defined once by a client, sent once to each agent that needs them, dropped with their last client."""

from __future__ import annotations

from collections import Counter

from scaler_protocol.errors import SessionError
from scaler_protocol.ids import is_named_by_content, short
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.limits import FUNCTION_BYTES_MAX, FUNCTION_NAME_CHARACTERS_MAX, FUNCTIONS_MAX

FORMER_NAMES_MAX = 1_000
"""So many names of dropped functions are kept: monitors are told of a task's end when its client may have left already."""


class _Body:
    __slots__ = ("clients", "data", "name")

    @property
    def size(self) -> int:
        """Bytes that count against its clients' limits."""
        return len(self.data) + len(self.name)

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.clients: set[bytes] = set()


class _Holding:
    """What one client has defined."""

    __slots__ = ("ids", "size")

    def __init__(self) -> None:
        self.ids: set[bytes] = set()
        self.size = 0


class FunctionRegistry:
    """Bodies by content id, with the clients that defined each."""

    def __init__(self) -> None:
        self._bodies: dict[bytes, _Body] = {}
        self._of_client: dict[bytes, _Holding] = {}
        self._former_names: dict[bytes, str] = {}
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

    def define(self, client_id: bytes, message: m.FunctionDefine) -> None:
        """Keep functions' bodies while this client is connected.

        Raises SessionError if an id is not made from its content, as such a client means to have its code run as another
        one's, or to keep that one from defining its own; and if the client has defined too much.
        """
        names = message.names or ("",) * len(message.ids)
        for function_id, data, name in zip(message.ids, message.bodies.split(), names, strict=False):
            if not is_named_by_content(function_id, data, message.serializer):
                raise SessionError(f"the id of function {short(function_id)} is not the hash of its content")
            self._keep(client_id, function_id, data, name[:FUNCTION_NAME_CHARACTERS_MAX])

    def _keep(self, client_id: bytes, function_id: bytes, data: bytes, name: str) -> None:
        holding = self._of_client.setdefault(client_id, _Holding())
        if function_id in holding.ids:
            return
        body = self._bodies.get(function_id) or _Body(data, name)
        if len(holding.ids) >= FUNCTIONS_MAX:
            raise SessionError(f"it has defined more than {FUNCTIONS_MAX} functions")
        if holding.size + body.size > FUNCTION_BYTES_MAX:
            raise SessionError(f"the functions that it has defined have more than {FUNCTION_BYTES_MAX >> 20} MiB")
        self._bodies[function_id] = body
        body.clients.add(client_id)
        holding.ids.add(function_id)
        holding.size += body.size

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
        name = body.name if body is not None else self._former_names.get(function_id)
        return name or function_id[:4].hex()

    def described(self, number: int, function_id: bytes) -> str:
        """Return a task's number and its function's name, which tells people which of theirs it is."""
        return f"task {number} ({self.name(function_id)})"

    def drop_client(self, client_id: bytes) -> None:
        """A client is gone: drop the bodies that no other client has defined."""
        holding = self._of_client.pop(client_id, None)
        if holding is None:
            return
        for function_id in holding.ids:
            body = self._bodies[function_id]
            body.clients.discard(client_id)
            if not body.clients:
                del self._bodies[function_id]
                self.unfinished.pop(function_id, None)
                self._keep_name(function_id, body.name)

    def _keep_name(self, function_id: bytes, name: str) -> None:
        # Again at the end: the one dropped first is forgotten first.
        self._former_names.pop(function_id, None)
        self._former_names[function_id] = name
        if len(self._former_names) > FORMER_NAMES_MAX:
            del self._former_names[next(iter(self._former_names))]

    def __len__(self) -> int:
        return len(self._bodies)
