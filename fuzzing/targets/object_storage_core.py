"""The object storage server's core: any messages in any order from three peers, with its invariants and its limit checked."""

from __future__ import annotations

from fuzzing.frames import frames_of, golden, joined, messages_of
from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import MemoryStorage, StoreCore, events
from scaler_protocol.errors import WireError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.object_batches import rows_of

PEERS = [bytes([number]) * 16 for number in range(1, 4)]


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    one = golden()
    return [joined([bytes([0]) + message for message in one]), joined([bytes([i % 3]) + x for i, x in enumerate(one)])]


def run(data: bytes) -> None:
    """See `fuzzing`. Before each message stands a byte: its sender."""
    core = StoreCore(bytes(16), MemoryStorage(10_000), KeyedContentHash(b"12345678"))
    now = 0.0
    for peer in PEERS[:2]:
        core.handle(events.Incoming(peer, m.Hello(m.Role.CLIENT, "", peer, to_object_storage=True)), now)
    for piece in messages_of(data):
        if not piece:
            continue
        now += (piece[0] >> 4) * 0.5
        try:
            message = decode(frames_of(piece[1:])[1:])
        except WireError:
            continue
        for row in rows_of(message) if isinstance(message, m.ObjectBatch) else (message,):
            if isinstance(row, m.ObjectPut) and row.place:
                # Its segment is opened before the core sees it.
                continue
            core.handle(events.Incoming(PEERS[piece[0] % len(PEERS)], row), now)
            core.take_effects()
            core.check_invariants()
