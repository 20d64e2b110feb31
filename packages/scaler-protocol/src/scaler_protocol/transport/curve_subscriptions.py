"""As `subscriptions`, with keys: only some roles may read what is published."""

from __future__ import annotations

from scaler_protocol.errors import RefusedError, UnknownKeyError, WrongServerKeyError
from scaler_protocol.transport.curve_decoder import CurveServerDecoder
from scaler_protocol.transport.curve_stream import CurveStream
from scaler_protocol.transport.subscriptions import READERS, SubscriberStream, SubscriptionDecoder, too_large


class CurveSubscriptionDecoder(SubscriptionDecoder, CurveServerDecoder):
    """As `SubscriptionDecoder`."""

    def _get_ready(self, data: bytes) -> None:
        super()._get_ready(data)
        # Subscribers need no identity, and those that have one must not displace each other.
        self.peer_identity = b""
        authority = self._security.authority(self._handshake.client)
        if authority is None or authority.role not in READERS:
            self.ready = False
            role = authority.role if authority is not None else "stranger"
            raise UnknownKeyError(f"a {role}'s key may not read what is published to monitors")

    def _say_refused(self, error: RefusedError) -> None:
        # libzmq's subscribers know no such ERROR and would never try again. If a connection just ends, they do, and count.
        if not isinstance(error, WrongServerKeyError):
            super()._say_refused(error)

    def _heed(self, body: bytes) -> None:
        self._take_command(body)
        super()._heed(body)

    def _begin_large_message(self, size: int, beginning: bytes) -> None:
        del beginning
        raise too_large(size)


class CurveSubscriberStream(SubscriberStream, CurveStream):
    """As `SubscriberStream`."""
