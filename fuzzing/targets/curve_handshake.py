"""CURVE's handshake at both ends: an honest conversation in which one command is what the fuzzer says."""

from __future__ import annotations

import random

from scaler_protocol.errors import WireError
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, fingerprint, public_of
from scaler_protocol.transport.curve_decoder import CurveClientDecoder, CurveDecoder, CurveServerDecoder
from scaler_protocol.transport.zmtp import SocketType

SERVER, CLIENT = (KeyPair(public_of(bytes([number]) * 32), bytes([number]) * 32) for number in (1, 2))
IDENTITY = fingerprint(CLIENT.public) + b"12345678"
STEPS = 6


def ends() -> tuple[CurveClientDecoder, CurveServerDecoder]:
    """Return both ends, whose random bytes are always the same."""
    security = ServerSecurity(SERVER, [Authority("client", KeyRole.CLIENT, CLIENT.public)])
    return (
        CurveClientDecoder(
            SocketType.DEALER, IDENTITY, PeerSecurity(CLIENT, SERVER.public), random.Random(1).randbytes
        ),
        CurveServerDecoder(SocketType.ROUTER, security, random.Random(2).randbytes),
    )


def said_by(one: CurveDecoder) -> bytes:
    """Return what an end wants to send, and forget it."""
    data = b"".join(one.replies)
    one.replies.clear()
    return data


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    client, server = ends()
    found = []
    for step in range(STEPS):
        one, other = (client, server) if step % 2 == 0 else (server, client)
        data = said_by(one)
        found.append(bytes([step]) + data)
        other.feed(data)
    return found


def run(data: bytes) -> None:
    """See `fuzzing`. The first byte says which turn is replaced."""
    if not data:
        return
    client, server = ends()
    try:
        for step in range(STEPS):
            one, other = (client, server) if step % 2 == 0 else (server, client)
            honest = said_by(one)
            other.feed(data[1:] if step == data[0] % STEPS else honest)
    except WireError:
        return
    # Whoever is let in is the owner of the key.
    assert not server.ready or server.peer_identity == IDENTITY
