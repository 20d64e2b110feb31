"""What stands before the core of a scheduler that has keys or an audit log. Without both, nothing does.

message ──Guard──▶ core          what the sender's key allows
             └──▶ audit log      connections, refusals, submits, cancellations, the end
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scaler_protocol.security.doorkeeper import Connections, Doorkeeper, open_audit
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.events import Incoming, Peer, RelayedPeer

if TYPE_CHECKING:
    from scaler_protocol.security.audit import AuditLog
    from scaler_protocol.security.authority import Authority
    from scaler_protocol.security.credentials import ServerSecurity
    from scaler_protocol.transport import RouterListener

logger = logging.getLogger(__name__)


class Core(Protocol):
    """What a guard asks the scheduler's core."""

    def handle(self, event: Incoming, now: float) -> None:
        """Take a message in."""

    def refusal(self, peer: Peer, hello: m.Hello) -> str | None:
        """Return why a peer would not be let in."""

    def is_connected(self, peer: Peer) -> bool:
        """Whether a peer has a session."""

    def has_agent_with(self, prefix: bytes) -> bool:
        """Whether an agent is connected whose id begins like this."""

    def function_names(self, functions: Iterable[bytes]) -> list[str]:
        """Return the names of functions."""

    def note_key(self, peer: Peer, name: str) -> None:
        """Say what the key of a connection is called."""

    def let_operators_end_cluster(self, prefixes: Iterable[bytes]) -> None:
        """Say which clients may end the cluster."""


class Guard:
    """Takes messages in instead of the core, and passes on those that may be sent."""

    def __init__(self, core: Core, connections: Connections, *, keyed: bool, audit: AuditLog | None) -> None:
        """`keyed`: peers have keys, and each may only send what its role allows."""
        self._core = core
        self.doorkeeper = Doorkeeper(connections, logger, keyed=keyed, audit=audit)
        self._is_audited = audit is not None
        self._violation = _violations(core) if keyed else None
        self._operators: set[bytes] = set()
        if keyed:
            core.let_operators_end_cluster(())

    def handle(self, event: Incoming, now: float) -> None:
        """Pass a message on to the core, or refuse it and close its connection."""
        peer, _, message = event
        connection = peer if isinstance(peer, bytes) else peer.agent
        authority = self.doorkeeper.authority_of(connection)
        if self._violation is not None:
            reason = self._violation(authority, peer, message)
            if reason is not None:
                self.doorkeeper.refuse(connection, authority, reason, relayed=_is_by_a_task(peer, authority))
                return
            if authority is not None and authority.role == "operator":
                self._admit_operator(authority)
            if authority is not None and authority.role != "worker" and type(message) is m.Hello:
                self._core.note_key(peer, authority.name)
        if not self._is_audited:
            self._core.handle(event, now)
        elif type(message) is m.Hello:
            self._introduce(event, message, connection, authority, now)
        else:
            self._core.handle(event, now)
            self._note(message, connection, authority)

    def use(self, core: Core) -> None:
        """Go on before another core."""
        self._core = core
        if self._violation is not None:
            self._violation = _violations(core)
            core.let_operators_end_cluster(_fingerprints(self._operators))

    # --- private

    def _admit_operator(self, authority: Authority) -> None:
        if authority.public not in self._operators:
            self._operators.add(authority.public)
            self._core.let_operators_end_cluster(_fingerprints(self._operators))

    def _introduce(
        self, event: Incoming, hello: m.Hello, connection: bytes, authority: Authority | None, now: float
    ) -> None:
        was_connected = self._core.is_connected(event.peer)
        reason = self._core.refusal(event.peer, hello)
        self._core.handle(event, now)
        kind = {"as": hello.role.name.lower()}
        if reason is not None:
            self.doorkeeper.record("refusal", connection, authority, peer=hello.name, reason=reason, **kind)
        elif not was_connected:
            self.doorkeeper.record("connect", connection, authority, peer=hello.name, **kind)

    def _note(self, message: m.Message, connection: bytes, authority: Authority | None) -> None:
        record = self.doorkeeper.record
        if isinstance(message, m.TaskBatch | m.GraphSubmit):
            from scaler_protocol.security.audit import bounded_names

            count = len(message.numbers) if isinstance(message, m.TaskBatch) else len(message.payloads.lengths)
            functions = bounded_names(self._core.function_names(message.functions))
            capabilities = bounded_names([name for name, _ in message.capabilities])
            client = message.client.hex()
            record(
                "submit",
                connection,
                authority,
                client=client,
                tasks=count,
                functions=functions,
                capabilities=capabilities,
            )
        elif isinstance(message, m.TaskCancel):
            record("cancel", connection, authority, client=message.client.hex(), tasks=len(message.numbers))
        elif isinstance(message, m.CancelRequest):
            from scaler_protocol.security.audit import bounded_names

            function, label = bounded_names([message.function, message.label])
            named = {"client": message.owner.hex(), "function": function, "label": label}
            record("cancel", connection, authority, tasks=len(message.numbers), **named)
        elif isinstance(message, m.Shutdown):
            record("shutdown", connection, authority, reason=message.text)


def open_guard(
    core: Core,
    router: RouterListener,
    security: ServerSecurity | None,
    audit_log: Path | None,
    stack: contextlib.ExitStack,
) -> Guard | None:
    """Return the guard of a scheduler with keys or an audit log, which `stack` closes; None without both."""
    audit = open_audit(audit_log, "scheduler", stack)
    if audit is None and security is None:
        return None
    guard = Guard(core, router, keyed=security is not None, audit=audit)
    stack.callback(guard.doorkeeper.write_repeated, math.inf)
    return guard


def _is_by_a_task(peer: Peer, authority: Authority | None) -> bool:
    """Whether a message is of a client inside a task of the worker that relays it: it has to, so the fault is the task's."""
    return (
        isinstance(peer, RelayedPeer)
        and authority is not None
        and authority.role == "worker"
        and peer.client.startswith(authority.fingerprint)
    )


def _fingerprints(publics: Iterable[bytes]) -> list[bytes]:
    from scaler_protocol.security.keys import fingerprint

    return [fingerprint(public) for public in publics]


def _violations(core: Core) -> Callable[[Authority | None, Peer, m.Message], str | None]:
    """Return the function that says how a message breaks the rules. Only with keys: what it imports needs PyNaCl."""
    from scaler_protocol.security.authority import KeyRole
    from scaler_protocol.security.rules import RELAYED, TO_SCHEDULER, is_relayed_by, violation

    def found(authority: Authority | None, peer: Peer, message: m.Message) -> str | None:
        if authority is None:
            return "has no key"
        role = authority.role
        if isinstance(peer, RelayedPeer):
            if role is not KeyRole.WORKER or not is_relayed_by(peer.agent, peer.client):
                return "relays for a client that is not inside one of its tasks"
            return violation(KeyRole.CLIENT, RELAYED, peer.client, message)
        reason = violation(role, TO_SCHEDULER[role], peer, message)
        if reason is None and role is KeyRole.WORKER and type(message) is m.Hello and message.role is m.Role.CLIENT:
            # A worker's key is a client's only for clients inside tasks. Agents relay for those, or they connect beside one.
            return (
                None
                if core.has_agent_with(authority.fingerprint)
                else "introduces itself as client with a worker's key"
            )
        return reason

    return found
