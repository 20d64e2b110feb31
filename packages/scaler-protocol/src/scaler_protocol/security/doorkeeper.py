"""What the guards of all servers share: refusing a message, and writing the audit log. Needs no PyNaCl."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scaler_protocol.security.errors import SecurityError
from scaler_protocol.security.repeated_refusals import RepeatedRefusals
from scaler_protocol.service.occurrences import Occurrences

if TYPE_CHECKING:
    from scaler_protocol.security.audit import AuditLog
    from scaler_protocol.security.authority import Authority


def open_audit(path: Path | None, service: str, stack: contextlib.ExitStack) -> AuditLog | None:
    """Return the audit log of a service at a path, which `stack` closes; None for no path."""
    if path is None:
        return None
    # Imported late: most servers write none.
    from scaler_protocol.service.audit_settings import open_audit_log

    return stack.enter_context(open_audit_log(path, service))


RELAYED_SECONDS = 1.0
"""So long, refusals of what tasks of one worker's key have sent are counted by reason and not written."""

_WORKER = "worker"
"""The role of a key whose messages are relayed."""


class Connections(Protocol):
    """What a guard asks the listener of a server."""

    def authority_of(self, identity: bytes) -> Authority | None:
        """Return whose key a connection has."""

    def address_of(self, identity: bytes) -> str:
        """Return where a connection comes from."""

    def disconnect(self, identity: bytes) -> None:
        """Close a connection."""

    def refresh_authorities(self) -> None:
        """Close the connections whose keys are no longer let in."""


class Keys(Protocol):
    """The keys that a server lets in, read from a directory."""

    @property
    def allowed(self) -> tuple[Authority, ...]:
        """Everybody who may connect."""

    def refresh(self) -> bool:
        """Read the list again if it has changed; return whether it had. Raises SecurityError."""


class Doorkeeper:
    """Refuses messages, and records what happens to connections."""

    def __init__(
        self, connections: Connections, logger: logging.Logger, *, keyed: bool, audit: AuditLog | None
    ) -> None:
        """`keyed`: every connection has a key."""
        self._connections = connections
        self._logger = logger
        self._keyed = keyed
        self._audit = audit
        self._repeated = RepeatedRefusals()
        self._relayed = RepeatedRefusals(RELAYED_SECONDS)
        self._refusals = Occurrences(logger, "messages refused because of the sender's key; the last")

    @property
    def refused_count(self) -> int:
        """How many messages were refused."""
        return self._refusals.count

    def authority_of(self, connection: bytes) -> Authority | None:
        """Return whose key a connection has; None without keys, and if the connection has ended."""
        return self._connections.authority_of(connection) if self._keyed else None

    def refuse(self, connection: bytes, authority: Authority | None, reason: str, *, relayed: bool = False) -> None:
        """Refuse a message because its sender's key does not allow it, and close the connection. `reason` follows "it".

        `relayed`: a task has sent it, through its agent. Others' messages come the same way, so the connection stays.
        """
        if authority is not None:
            address = self._connections.address_of(connection)
            self._refusals.note(f"{authority.name} ({authority.role}) at {address}: it {reason}")
            if relayed:
                self._record_relayed(authority, address, f"it {reason}")
            else:
                self.record("refusal", connection, authority, reason=f"it {reason}")
        # Otherwise the connection has ended already, and these are the last messages that came through it.
        if not relayed:
            self._connections.disconnect(connection)

    def record(
        self, event: str, connection: bytes, authority: Authority | None, **details: str | int | list[str]
    ) -> None:
        """Write what happened at a connection to the audit log, if there is one."""
        if self._audit is not None:
            self._write(event, self._connections.address_of(connection), authority, **details)

    def _record_relayed(self, authority: Authority, address: str, reason: str) -> None:
        """A task goes on as it likes after a refusal, so repetitions are counted."""
        if self._audit is None:
            return
        written = self._relayed.note(authority.name, reason, reason, time.monotonic())
        if written is not None:
            self._audit.record(
                "refusal", name=written[0], role=_WORKER, address=address, reason=reason, repeated=written[1]
            )

    def note_refused(self, connection: bytes, reason: str) -> None:
        """A connection is closed because its peer broke the rules."""
        self.record("refusal", connection, self.authority_of(connection), reason=reason)

    def note_refused_connection(self, address: str, kind: str, reason: str) -> None:
        """A listener has refused or closed a connection. Anybody can cause this, so repetitions of a kind are counted."""
        if self._audit is None:
            return
        written = self._repeated.note(address, kind, reason, time.monotonic())
        if written is not None:
            address, left_out = written
            self._audit.record("refusal", address=address, reason=reason, repeated=left_out)

    def note_monitor(self, address: str, authority: Authority | None) -> None:
        """A monitor has connected at the address for monitors."""
        self._write("connect", address, authority, **{"as": "monitor"})

    def note_shutdown(self, reason: str) -> None:
        """The server stops."""
        if self._audit is not None:
            self._audit.record("shutdown", reason=reason)

    def write_repeated(self, now: float | None = None) -> None:
        """Write how often refusals were repeated that were not written. To be called often; at the end with infinity."""
        if self._audit is None:
            return
        now = time.monotonic() if now is None else now
        for host, reason, count in self._repeated.take_due(now):
            self._audit.record("refusal", address=host, reason=reason, repeated=count - 1)
        for name, reason, count in self._relayed.take_due(now):
            self._audit.record("refusal", name=name, role=_WORKER, reason=reason, repeated=count - 1)

    def refresh(self, keys: Keys) -> None:
        """Let in whom the list of keys names now. Who is no longer in it loses its connection. To be called often."""
        try:
            before = {authority.public: authority.name for authority in keys.allowed}
            if not keys.refresh():
                return
            after = {authority.public: authority.name for authority in keys.allowed}
            added = sorted(after[public] for public in after.keys() - before.keys())
            revoked = sorted(before[public] for public in before.keys() - after.keys())
            reason = (
                f"the list of allowed keys was read again: added {', '.join(added) or 'none'}, "
                f"revoked {', '.join(revoked) or 'none'}"
            )
            self._logger.info("%s", reason)
        except SecurityError as error:
            reason = f"the earlier list of allowed keys stays in force: {error}"
            self._logger.error("%s", reason)
        if self._audit is not None:
            self._audit.record("keys", reason=reason)
        self._connections.refresh_authorities()

    def _write(self, event: str, address: str, authority: Authority | None, **details: str | int | list[str]) -> None:
        if self._audit is not None:
            name, role = (authority.name, str(authority.role)) if authority is not None else ("", "")
            self._audit.record(event, name=name, role=role, address=address, **details)
