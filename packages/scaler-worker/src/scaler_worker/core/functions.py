"""Function bodies an agent has been given, and which processor has had which of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from scaler_protocol.ids import is_named_by_content
from scaler_protocol.payloads.framing import environment_owner
from scaler_protocol.wire import messages as m

FUNCTIONS_PER_PROCESSOR_MAX = 2048
"""Loaded functions a processor keeps, as many as a client remembers; the least recently used one goes first."""

LEFT_MAX = 10_000
"""Clients that have left which an agent remembers."""


class FunctionTable:
    """Bodies by id. A body lives as long as one of the clients that defined it."""

    __slots__ = ("_environments", "_left", "_of_client", "_users", "bodies")

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self._users: dict[bytes, set[bytes]] = {}
        self._of_client: dict[bytes, set[bytes]] = {}
        self._environments: set[bytes] = set()
        """Clients whose environments processors may have been sent."""
        self._left: dict[bytes, None] = {}
        """Clients that have left: those inside their tasks may outlive them, and their tasks have their environment."""

    def define(self, message: m.FunctionDefine) -> None:
        """Keep the bodies of functions that a client needs.

        One whose id is not made from its content stays unknown, and so do not run the tasks that name it: it would run as
        another client's function.
        """
        client = message.client
        # It is here again.
        self._left.pop(client, None)
        for function, body in zip(message.ids, message.bodies.split(), strict=True):
            if is_named_by_content(function, body, message.serializer):
                self.bodies.setdefault(function, body)
                self._users.setdefault(function, set()).add(client)
                self._of_client.setdefault(client, set()).add(function)
                owner = environment_owner(body)
                if owner:
                    self._environments.add(owner)

    def end_environments(self, client: bytes) -> bool:
        """A client has left: return whether processors may have an environment of it."""
        had = client in self._environments
        self._environments.discard(client)
        self._left[client] = None
        if len(self._left) > LEFT_MAX:
            del self._left[next(iter(self._left))]
        return had

    def left_owner(self, serializer: bytes) -> bytes:
        """Return the client whose environment this is, if it has left: tasks have set it up again. Empty if not."""
        if not self._left or not serializer:
            return b""
        owner = environment_owner(self.bodies.get(serializer, b""))
        return owner if owner in self._left else b""

    def drop_client(self, client: bytes) -> list[bytes]:
        """Forget what only this client needed; return those ids."""
        dropped = []
        for function in self._of_client.pop(client, ()):
            users = self._users[function]
            users.discard(client)
            if not users:
                del self._users[function], self.bodies[function]
                dropped.append(function)
        return dropped


class KnownFunctions:
    """What one processor has been sent and still keeps. The agent decides what it forgets, so both always agree."""

    __slots__ = ("_forgotten", "_known")

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._forgotten: list[bytes] = []

    def update(self, functions: Iterable[bytes]) -> list[bytes]:
        """Note that these are about to be used; return those the processor has to be sent."""
        missing = []
        for function in functions:
            if function in self._known:
                self._known.move_to_end(function)
            else:
                self._known[function] = None
                missing.append(function)
        return missing

    def forget(self, functions: Iterable[bytes]) -> None:
        """Have the processor forget these functions with the next tasks."""
        for function in functions:
            if function in self._known:
                del self._known[function]
                self._forgotten.append(function)

    def take_forgotten(self, in_use: int) -> tuple[bytes, ...]:
        """Return what the processor is to forget now. The `in_use` most recent ones stay in any case."""
        if not self._forgotten and len(self._known) <= FUNCTIONS_PER_PROCESSOR_MAX:
            return ()
        while len(self._known) > max(FUNCTIONS_PER_PROCESSOR_MAX, in_use):
            self._forgotten.append(self._known.popitem(last=False)[0])
        forgotten = tuple(function for function in self._forgotten if function not in self._known)
        self._forgotten.clear()
        return forgotten
