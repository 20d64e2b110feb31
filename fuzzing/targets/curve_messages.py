"""What somebody with a key sends after CURVE's handshake: frames and flags behind the boxes, and bytes instead of boxes."""

from __future__ import annotations

from fuzzing.targets.curve_handshake import STEPS, ends, said_by
from scaler_protocol.errors import WireError
from scaler_protocol.transport.curve_decoder import CurveClientDecoder, CurveServerDecoder


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    return [
        b"\x00\x01\x05hello",
        b"\x00\x01\x04more\x00\x04last",
        b"\x00\x02\x0a\x04PING\x00\x00abc",
        b"\x01\x00\x08\x07MESSAGE",
    ]


def _connected() -> tuple[CurveClientDecoder, CurveServerDecoder]:
    client, server = ends()
    for step in range(STEPS):
        one, other = (client, server) if step % 2 == 0 else (server, client)
        other.feed(said_by(one))
    return client, server


def run(data: bytes) -> None:
    """See `fuzzing`. The first byte: whether the rest is sealed frames (flags, length, body each) or what is on the wire."""
    if not data:
        return
    client, server = _connected()
    assert client.ready
    assert server.ready
    try:
        if data[0] & 1:
            server.feed(data[1:])
            return
        sealer = client.sealer
        assert sealer is not None
        at = 1
        while at + 2 <= len(data):
            flags, size = data[at], data[at + 1]
            server.feed(bytes(sealer.seal(flags, data[at + 2 : at + 2 + size])))
            at += 2 + size
    except WireError:
        return
