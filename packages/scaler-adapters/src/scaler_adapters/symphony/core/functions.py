"""Bodies of the functions that tasks name, as long as a client has defined them."""

from __future__ import annotations

from scaler_protocol.ids import is_named_by_content
from scaler_protocol.payloads.environment_body import unframe_environment
from scaler_protocol.payloads.framing import OBJECT, environment_owner, unframe_function
from scaler_protocol.wire import messages as m


class FunctionTable:
    """Function bodies by id, each with the clients that defined it."""

    def __init__(self) -> None:
        self._bodies: dict[bytes, bytes] = {}
        self._clients: dict[bytes, set[bytes]] = {}

    def __contains__(self, function: bytes) -> bool:
        return function in self._bodies

    def define(self, message: m.FunctionDefine) -> None:
        """Keep the bodies that a client has defined, but for those whose ids are not made from them."""
        for function, body in zip(message.ids, message.bodies.split(), strict=True):
            if is_named_by_content(function, body, message.serializer):
                self._bodies.setdefault(function, body)
                self._clients.setdefault(function, set()).add(message.client)

    def drop_client(self, client: bytes) -> None:
        """Forget the functions that nobody else has defined."""
        for function, clients in list(self._clients.items()):
            clients.discard(client)
            if not clients:
                del self._clients[function], self._bodies[function]

    def body(self, function: bytes) -> bytes:
        """Return the body; empty for a function that is not known, as for the id of no serializer."""
        return self._bodies.get(function, b"")

    def objects_of(self, function: bytes) -> list[bytes]:
        """Return the ids of the objects that hold a function, or parts of an environment."""
        _, payload = unframe_function(self.body(function))
        payloads = [payload]
        if environment_owner(payload):
            parts = unframe_environment(payload)
            payloads = [parts.serializer, *(plugin.payload for plugin in parts.plugins), *parts.modules]
        return [each[1:] for each in payloads if each[:1] == OBJECT]
