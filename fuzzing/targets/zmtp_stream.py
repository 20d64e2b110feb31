"""ZMTP without keys, at both ends, in pieces of any size."""

from __future__ import annotations

from scaler_protocol.errors import WireError
from scaler_protocol.transport.zmtp import Decoder, SocketType, frame_message


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    client, server = Decoder(SocketType.DEALER, b"i" * 16), Decoder(SocketType.ROUTER)
    said = b""
    while not (client.ready and server.ready):
        for one, other in ((client, server), (server, client)):
            data = b"".join(one.replies)
            one.replies.clear()
            other.feed(data)
            said += data if one is client else b""
    pieces, _ = frame_message([b"e" * 48, b"header", b"p" * 300])
    message = b"".join(map(bytes, pieces))
    return [
        b"\x00" + said + message,
        b"\x07" + said + message + b"\x04\x08\x04PING\x00\x0a!",
        b"\x00GET / HTTP/1.1\r\n\r\n",
    ]


def run(data: bytes) -> None:
    """See `fuzzing`. The first byte says which end, and how large the pieces are."""
    if not data:
        return
    decoder = Decoder(SocketType.ROUTER if data[0] & 1 == 0 else SocketType.DEALER, b"me")
    size = 1 + (data[0] >> 1) * 7
    try:
        at = 1
        while at < len(data):
            if decoder.large is not None:
                room = decoder.room()
                piece = data[at : at + min(size, len(room))]
                room[: len(piece)] = piece
                decoder.filled(len(piece))
            else:
                piece = data[at : at + size]
                decoder.feed(piece)
            at += len(piece)
    except WireError:
        return
    assert sum(map(len, decoder.replies)) <= 64 * 1024 + 2 * len(data)
