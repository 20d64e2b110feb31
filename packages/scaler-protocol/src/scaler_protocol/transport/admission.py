"""Who may have a connection to a listener, by address: how many, and what became of those that were refused."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from scaler_protocol.address import is_loopback_host
from scaler_protocol.errors import (
    MessageTooLargeError,
    UnfinishedMessagesError,
    UnknownKeyError,
    WireError,
    WrongIdentityError,
    WrongMechanismError,
    WrongServerKeyError,
    WrongSocketError,
)
from scaler_protocol.transport.limits import ListenerLimits

REMEMBERED_MAX = 1024
"""Most addresses and kinds of refusal that are remembered."""

REASON_CHARACTERS_MAX = 300
"""Longest reason; more is cut."""

LOCAL = "a local socket"

_logger = logging.getLogger(__name__)


class RefusalKind(StrEnum):
    """Why a connection was refused or closed: what refusals are counted by. The reason says more, and may repeat the peer."""

    TOO_MANY_CONNECTIONS = "too many connections"
    HANDSHAKE_TIME = "handshake too slow"
    NO_KEYS = "only one end uses keys"
    UNKNOWN_KEY = "unknown key"
    SERVER_KEY = "another server's key expected"
    IDENTITY = "identity of another key"
    REVOKED = "key revoked"
    SOCKET_TYPE = "wrong type of socket"
    TOO_LARGE = "message too large"
    TOO_MANY_SUBSCRIPTIONS = "too many subscriptions"
    STALLED = "reads nothing"
    UNFINISHED = "unfinished messages fill the memory"
    UNREAD = "messages that are not read fill the memory"
    MALFORMED = "malformed bytes"


_KINDS: tuple[tuple[type[WireError], RefusalKind], ...] = (
    (WrongMechanismError, RefusalKind.NO_KEYS),
    (UnknownKeyError, RefusalKind.UNKNOWN_KEY),
    (WrongServerKeyError, RefusalKind.SERVER_KEY),
    (WrongIdentityError, RefusalKind.IDENTITY),
    (WrongSocketError, RefusalKind.SOCKET_TYPE),
    (UnfinishedMessagesError, RefusalKind.UNFINISHED),
    (MessageTooLargeError, RefusalKind.TOO_LARGE),
)


def kind_of(error: WireError) -> RefusalKind:
    """Return the kind of refusal for what a peer has sent."""
    return next((kind for type_, kind in _KINDS if isinstance(error, type_)), RefusalKind.MALFORMED)


class Origin:
    """Where a connection comes from."""

    __slots__ = ("host", "text")

    def __init__(self, place: Any) -> None:
        """`place` is what `accept` returns beside the socket."""
        by_network = isinstance(place, tuple)
        self.host: str = place[0] if by_network else LOCAL
        self.text = f"{self.host}:{place[1]}" if by_network else LOCAL

    @property
    def is_local(self) -> bool:
        """Whether it is this machine: then its connections are not limited by address."""
        return self.host == LOCAL or is_loopback_host(self.host)


OnRefused = Callable[[str, RefusalKind, str], None]
"""Is told the peer's address, the kind of refusal, and the reason."""


class Admission:
    """Counts connections by address. Refusals are counted too; of each address and kind, one is logged, but not of thousands."""

    def __init__(self, limits: ListenerLimits, on_refused: OnRefused | None) -> None:
        self._limits = limits
        self._on_refused = on_refused
        self._connections: Counter[str] = Counter()
        self._refusals: OrderedDict[tuple[str, RefusalKind], int] = OrderedDict()
        self._new = 0
        """How many refusals were the first of their address and kind, as far as is remembered."""
        self._exhausted = 0
        """How often there was no descriptor for a connection."""
        self.refused = 0
        """How many connections were refused in all."""

    def enter(self, origin: Origin) -> bool:
        """Count a new connection; return whether it may stay."""
        in_all, by_address = self._limits.connections, self._limits.connections_per_address
        if not origin.is_local and self._connections[origin.host] >= by_address:
            reason = f"{by_address} connections from this address already; more are not permitted"
        elif in_all is not None and self._connections.total() >= in_all:
            reason = f"{in_all} connections already; more are not permitted"
        else:
            reason = ""
        if reason:
            self.refuse(origin, RefusalKind.TOO_MANY_CONNECTIONS, reason)
            return False
        self._connections[origin.host] += 1
        return True

    def leave(self, origin: Origin) -> None:
        """A connection that had entered has ended."""
        left = self._connections[origin.host] - 1
        if left:
            self._connections[origin.host] = left
        else:
            del self._connections[origin.host]

    def note_exhausted(self, error: OSError, connections: int) -> None:
        """The system gives this process no descriptor for one more connection. Logged the 1st, 2nd, 4th … time."""
        self._exhausted += 1
        if self._exhausted & (self._exhausted - 1) == 0:
            _logger.error(
                "no further connections are accepted until others end: %s (%d are open); raise the limit of open files "
                "(ulimit -n, or LimitNOFILE= of systemd) and start again",
                error.strerror,
                connections,
            )

    def refuse(self, origin: Origin, kind: RefusalKind, reason: str) -> None:
        """A connection was refused or closed for what it sent."""
        # The reason may repeat what the other end has sent.
        reason = "".join(character if character.isprintable() else "?" for character in reason[:REASON_CHARACTERS_MAX])
        self.refused += 1
        key = (origin.host, kind)
        count = self._refusals.pop(key, 0) + 1
        self._refusals[key] = count
        if count == 1:
            self._log_new(origin, reason)
        if len(self._refusals) > REMEMBERED_MAX:
            self._refusals.popitem(last=False)
        if self._on_refused is not None:
            self._on_refused(origin.text, kind, reason)

    def _log_new(self, origin: Origin, reason: str) -> None:
        """Log a refusal that is the first of its kind from this address. Somebody may have more addresses than there is disk."""
        self._new += 1
        if self._new <= REMEMBERED_MAX:
            more = "further ones of this kind from this address are not logged"
        elif self._new & (self._new - 1) == 0:
            more = f"{self._new} addresses and kinds so far; most further ones are not logged"
        else:
            return
        _logger.warning("closed the connection from %s: %s (%s)", origin.text, reason, more)

    def refused_from(self, host: str) -> int:
        """Return how many connections from an address were refused, as far as is remembered."""
        return sum(self._refusals.get((host, kind), 0) for kind in RefusalKind)
