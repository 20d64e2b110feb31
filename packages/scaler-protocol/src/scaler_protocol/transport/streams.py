"""Chooses what speaks on a new connection: with keys CURVE, without them NULL. Only with keys PyNaCl is imported."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.subscriptions import plain_subscriber_stream
from scaler_protocol.transport.zmtp import Decoder, SocketType

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity


def dealer_stream(connecting: socket.socket, identity: bytes, security: PeerSecurity | None) -> Stream:
    """Return the stream of a connecting DEALER."""
    return _connecting_stream(connecting, SocketType.DEALER, identity, security)


def probing_stream(connecting: socket.socket, security: PeerSecurity | None) -> Stream:
    """Return the stream of a connecting SUB that subscribes to nothing."""
    return _connecting_stream(connecting, SocketType.SUB, b"", security)


def _connecting_stream(
    connecting: socket.socket, socket_type: SocketType, identity: bytes, security: PeerSecurity | None
) -> Stream:
    decoder = connecting_decoder(socket_type, identity, security)
    if security is None:
        return Stream(connecting, decoder)
    from scaler_protocol.transport.curve_decoder import CurveDecoder
    from scaler_protocol.transport.curve_stream import CurveStream

    assert isinstance(decoder, CurveDecoder)
    return CurveStream(connecting, decoder)


def connecting_decoder(socket_type: SocketType, identity: bytes, security: PeerSecurity | None) -> Decoder:
    """Return the receiving half of a connecting socket."""
    if security is None:
        return Decoder(socket_type, identity)
    from scaler_protocol.transport.curve_decoder import CurveClientDecoder

    return CurveClientDecoder(socket_type, identity, security)


def router_streams(security: ServerSecurity | None) -> Callable[[socket.socket], Stream]:
    """Return what makes the stream of a connection that a ROUTER has accepted."""
    if security is None:
        return _plain_router_stream
    from scaler_protocol.transport.curve_decoder import CurveServerDecoder
    from scaler_protocol.transport.curve_stream import CurveStream

    return lambda connected: CurveStream(connected, CurveServerDecoder(SocketType.ROUTER, security))


def publisher_streams(security: ServerSecurity | None) -> Callable[[socket.socket], Stream]:
    """Return what makes the stream of a connection that a publisher has accepted."""
    if security is None:
        return plain_subscriber_stream
    from scaler_protocol.transport.curve_subscriptions import CurveSubscriberStream, CurveSubscriptionDecoder

    return lambda connected: CurveSubscriberStream(connected, CurveSubscriptionDecoder(SocketType.XPUB, security))


def _plain_router_stream(connected: socket.socket) -> Stream:
    return Stream(connected, Decoder(SocketType.ROUTER))
