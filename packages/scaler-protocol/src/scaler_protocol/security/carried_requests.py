"""What an agent carries to object storage for a client inside a task. Pure.

The agent uses its own key, to which object storage grants more than such a client may have: an agent stores results of anybody's
tasks. So the agent itself holds its tasks to the rules of a client.
"""

from __future__ import annotations

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.rules import TO_OBJECT_STORAGE, violation
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.object_batches import rows_of


class CarriedRequests:
    """The requests of one connection. It speaks for one client, which it names in its first message."""

    def __init__(self, identity_prefix: bytes) -> None:
        """`identity_prefix`: the fingerprint of the agent's key, with which the ids of its tasks' clients begin."""
        self._prefix = identity_prefix
        self._client = b""

    @property
    def is_introduced(self) -> bool:
        """Whether the client has said who it is."""
        return bool(self._client)

    def violation(self, message: m.Message) -> str | None:
        """Return how a message breaks the rules, as what follows "it"; None if it is to be carried."""
        if isinstance(message, m.ObjectBatch):
            return next((reason for row in rows_of(message) if (reason := self.violation(row)) is not None), None)
        reason = violation(KeyRole.CLIENT, TO_OBJECT_STORAGE[KeyRole.CLIENT], self._prefix, message)
        if reason is not None:
            return reason
        if isinstance(message, m.Hello):
            return self._introduce(message)
        if not self._client:
            return f"sends a {type(message).__name__} before it has said who it is"
        if isinstance(message, m.ObjectPut | m.ObjectDelete) and message.owner != self._client:
            return f"names another client in a {type(message).__name__}"
        if isinstance(message, m.ObjectDelete) and not message.ids:
            return "asks to delete objects without saying which"
        # Places are of processes of the server's host. Opened with the agent's rights, they could be anybody's memory.
        if (isinstance(message, m.ObjectPut) and message.place) or (
            isinstance(message, m.ObjectGet) and message.mappable
        ):
            return "names memory instead of sending bytes"
        return None

    def _introduce(self, hello: m.Hello) -> str | None:
        if len(hello.incarnation) != ID_BYTES:
            return f"has an id of {len(hello.incarnation)} bytes"
        if self._client and self._client != hello.incarnation:
            return "introduces itself as another client than before"
        self._client = hello.incarnation
        return None
