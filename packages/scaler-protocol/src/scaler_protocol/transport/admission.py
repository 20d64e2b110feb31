"""Who may have a connection to a listener, by address: how many, and what became of those that were refused."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from scaler_protocol.address import is_loopback_host

CONNECTIONS_PER_ADDRESS_MAX = 4096
"""By default. Many workers may share one address behind network address translation."""

HALF_OPEN_MAX = 4096
"""Most connections whose handshake is not over: after a restart, all peers connect at once."""

ADDRESSES_MAX = 1024
"""Most addresses whose refusals are remembered."""

LOCAL = "a local socket"

_logger = logging.getLogger(__name__)


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


class Admission:
    """Counts connections by address. Refusals are counted too, and logged once for each address that is remembered."""

    def __init__(self, per_address: int, on_refused: Callable[[str, str], None] | None) -> None:
        self._per_address = per_address
        self._on_refused = on_refused
        self._connections: Counter[str] = Counter()
        self._refusals: OrderedDict[str, int] = OrderedDict()
        self.refused = 0
        """How many connections were refused in all."""

    def enter(self, origin: Origin) -> bool:
        """Count a new connection; return whether it may stay."""
        if not origin.is_local and self._connections[origin.host] >= self._per_address:
            self.refuse(origin, f"{self._per_address} connections from this address already; more are not permitted")
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

    def refuse(self, origin: Origin, reason: str) -> None:
        """A connection was refused or closed for what it sent."""
        # The reason may repeat what the other end has sent.
        reason = "".join(character if character.isprintable() else "?" for character in reason)
        self.refused += 1
        count = self._refusals.pop(origin.host, 0) + 1
        self._refusals[origin.host] = count
        if count == 1:
            _logger.warning(
                "closed the connection from %s: %s (further ones from this address are not logged)", origin.text, reason
            )
        if len(self._refusals) > ADDRESSES_MAX:
            self._refusals.popitem(last=False)
        if self._on_refused is not None:
            self._on_refused(origin.text, reason)

    def refused_from(self, host: str) -> int:
        """Return how many connections from an address were refused, as far as is remembered."""
        return self._refusals.get(host, 0)
