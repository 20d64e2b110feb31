"""What stands before the core of an object storage server that has keys or an audit log. Without both, nothing does."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scaler_objstore.core.events import Incoming
from scaler_protocol.security.doorkeeper import Connections, Doorkeeper, open_audit
from scaler_protocol.wire import messages as m

if TYPE_CHECKING:
    from scaler_protocol.security.audit import AuditLog
    from scaler_protocol.security.authority import Authority
    from scaler_protocol.security.credentials import ServerSecurity
    from scaler_protocol.transport import RouterListener

logger = logging.getLogger(__name__)


class Core(Protocol):
    """What a guard asks the core of an object storage server."""

    def handle(self, event: Incoming, now: float) -> None:
        """Take a message in."""

    def is_connected(self, peer: bytes) -> bool:
        """Whether a peer has said hello."""


class Guard:
    """Takes messages in instead of the core, and passes on those that may be sent."""

    def __init__(self, core: Core, connections: Connections, *, keyed: bool, audit: AuditLog | None) -> None:
        """`keyed`: peers have keys, and each may only send what its role allows."""
        self._core = core
        self.doorkeeper = Doorkeeper(connections, logger, keyed=keyed, audit=audit)
        self._violation = _violations() if keyed else None

    def handle(self, event: Incoming, now: float) -> None:
        """Pass a message on to the core, or refuse it and close its connection."""
        peer, message = event.peer, event.message
        authority = self.doorkeeper.authority_of(peer)
        if self._violation is not None:
            reason = self._violation(authority, peer, message)
            if reason is not None:
                self.doorkeeper.refuse(peer, authority, reason)
                return
        if isinstance(message, m.Hello):
            self._introduce(event, message, authority, now)
            return
        self._core.handle(event, now)
        if isinstance(message, m.Shutdown):
            self.doorkeeper.record("shutdown", peer, authority, reason=message.text)

    def _introduce(self, event: Incoming, hello: m.Hello, authority: Authority | None, now: float) -> None:
        was_connected = self._core.is_connected(event.peer)
        self._core.handle(event, now)
        is_connected = self._core.is_connected(event.peer)
        if was_connected and is_connected:
            return
        what = "connect" if is_connected else "refusal"
        reason = {} if is_connected else {"reason": "it speaks another protocol, or wants a scheduler"}
        self.doorkeeper.record(
            what, event.peer, authority, peer=hello.name, **{"as": hello.role.name.lower()}, **reason
        )


def open_guard(
    core: Core,
    listener: RouterListener,
    security: ServerSecurity | None,
    audit_log: Path | None,
    stack: contextlib.ExitStack,
) -> Guard | None:
    """Return the guard of a server with keys or an audit log, which `stack` closes; None without both."""
    audit = open_audit(audit_log, "object_storage", stack)
    if audit is None and security is None:
        return None
    guard = Guard(core, listener, keyed=security is not None, audit=audit)
    stack.callback(guard.doorkeeper.write_repeated, math.inf)
    return guard


def _violations() -> Callable[[Authority | None, bytes, m.Message], str | None]:
    """Return the function that says how a message breaks the rules. Only with keys: what it imports needs PyNaCl."""
    from scaler_protocol.security.rules import TO_OBJECT_STORAGE, violation

    def found(authority: Authority | None, peer: bytes, message: m.Message) -> str | None:
        if authority is None:
            return "has no key"
        return violation(authority.role, TO_OBJECT_STORAGE[authority.role], peer, message)

    return found
