"""What the two ends of a connection need to know of each other."""

from __future__ import annotations

from collections.abc import Iterable

from scaler_protocol.runtime.values import value
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.keys import KeyPair, fingerprint


@value
class PeerSecurity:
    """What a connecting end has: its own keys, and the public key of the server it expects."""

    own: KeyPair
    server: bytes

    @property
    def identity_prefix(self) -> bytes:
        """How the routing identities of this end begin."""
        return fingerprint(self.own.public)


class ServerSecurity:
    """What a listening end has: its own keys, and the keys it lets in.

    Its own key is let in as well, as the scheduler's: scheduler and object storage server share one.
    """

    def __init__(self, own: KeyPair, allowed: Iterable[Authority] = ()) -> None:
        self.own = own
        self._allowed: dict[bytes, Authority] = {}
        self.allow(allowed)

    def authority(self, public: bytes) -> Authority | None:
        """Return whom the key belongs to; None: nobody who may connect."""
        return self._allowed.get(public)

    @property
    def allowed(self) -> tuple[Authority, ...]:
        """Everybody who may connect."""
        return tuple(self._allowed.values())

    def as_peer(self) -> PeerSecurity:
        """Return what the scheduler has at its object storage server, which has the same key."""
        return PeerSecurity(self.own, self.own.public)

    def allow(self, allowed: Iterable[Authority]) -> None:
        """Let in these keys from now on, and no others."""
        new = {authority.public: authority for authority in allowed}
        new[self.own.public] = Authority("scheduler", KeyRole.SCHEDULER, self.own.public)
        self._allowed = new
