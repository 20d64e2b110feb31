"""What a subscriber sends to a publisher after its handshake, without keys and with them."""

from __future__ import annotations

import random

from fuzzing.targets.curve_handshake import CLIENT, SERVER, STEPS, said_by
from scaler_protocol.errors import WireError
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.transport.curve_decoder import CurveClientDecoder
from scaler_protocol.transport.curve_subscriptions import CurveSubscriptionDecoder
from scaler_protocol.transport.subscriptions import (
    CANCEL,
    COMMANDS_PER_SECOND_MAX,
    SUBSCRIBE,
    TOPIC_BYTES_MAX,
    SubscriptionDecoder,
)
from scaler_protocol.transport.zmtp import Decoder, SocketType, command_frame
from scaler_protocol.wire.envelope import Frame


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    return [
        b"\x00" + command_frame(b"\x09SUBSCRIBEtopic") + command_frame(b"\x06CANCELtopic"),
        b"\x00\x00\x06\x01topic\x00\x06\x00topic\x00\x05hello",
        b"\x00" + command_frame(b"\x04PING\x00\x00abc") + b"\x01\x01a\x00\x01b",
        b"\x01\x02\x0f\x09SUBSCRIBEtopic\x02\x0c\x06CANCELtopic",
        b"\x01\x00\x06\x01topic\x01\x04more\x00\x04last",
    ]


def run(data: bytes) -> None:
    """See `fuzzing`. The first byte: whether the rest is on the wire, or sealed frames (flags, length, body each)."""
    if not data:
        return
    try:
        if data[0] & 1:
            _run_sealed(data[1:])
        else:
            _run_plain(data[1:])
    except WireError:
        return


def _run_plain(data: bytes) -> None:
    publisher, subscriber = SubscriptionDecoder(SocketType.XPUB), Decoder(SocketType.SUB)
    while not publisher.ready:
        for one, other in ((subscriber, publisher), (publisher, subscriber)):
            said = b"".join(one.replies)
            one.replies.clear()
            other.feed(said)
    half = len(data) // 2
    for piece in (data[:half], data[half:]):
        _check(publisher.feed(piece))


def _run_sealed(data: bytes) -> None:
    security = ServerSecurity(SERVER, [Authority("monitor", KeyRole.MONITOR, CLIENT.public)])
    subscriber = CurveClientDecoder(
        SocketType.SUB, b"", PeerSecurity(CLIENT, SERVER.public), random.Random(1).randbytes
    )
    publisher = CurveSubscriptionDecoder(SocketType.XPUB, security, random.Random(2).randbytes)
    for step in range(STEPS):
        if step % 2:
            subscriber.feed(said_by(publisher))
        else:
            publisher.feed(said_by(subscriber))
    sealer = subscriber.sealer
    assert sealer is not None
    at = 0
    while at + 2 <= len(data):
        flags, size = data[at], data[at + 1]
        _check(publisher.feed(bytes(sealer.seal(flags, data[at + 2 : at + 2 + size]))))
        at += 2 + size


def _check(changes: list[list[Frame]]) -> None:
    assert len(changes) <= COMMANDS_PER_SECOND_MAX
    for (change,) in changes:
        assert change[:1] in (SUBSCRIBE, CANCEL)
        assert len(change) <= 1 + TOPIC_BYTES_MAX
