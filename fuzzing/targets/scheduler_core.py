"""The scheduler's core: any messages in any order from three clients and three agents, with its invariants checked."""

from __future__ import annotations

from fuzzing.frames import frames_of, golden, joined, messages_of
from scaler_protocol.errors import WireError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.envelope import SEQUENCED, Envelope
from scaler_scheduler.config import SchedulerConfig
from scaler_scheduler.core import SchedulerCore, effects, events

PEERS = [bytes([number]) * 16 for number in range(1, 7)]
UNSEQUENCED_KINDS = (m.Hello, m.Heartbeat, m.Goodbye)


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    one = golden()
    return [joined([bytes([0]) + message for message in one]), joined([bytes([i % 6]) + x for i, x in enumerate(one)])]


def run(data: bytes) -> None:
    """See `fuzzing`. Before each message stands a byte: its sender, and how far the clock moves."""
    core = SchedulerCore(SchedulerConfig(incarnation=bytes(16)), 0.0)
    now = 0.0
    epochs = dict.fromkeys(PEERS, 0)
    sequences = dict.fromkeys(PEERS, 0)
    for piece in messages_of(data):
        if not piece:
            continue
        peer = PEERS[piece[0] % len(PEERS)]
        now += (piece[0] >> 4) * 0.5
        try:
            message = decode(frames_of(piece[1:])[1:])
        except WireError:
            continue
        if isinstance(message, m.Hello):
            epochs[peer], sequences[peer] = message.hello_number, 0
            envelope = Envelope(0, 0, 0, 0)
        elif isinstance(message, UNSEQUENCED_KINDS):
            envelope = Envelope(sequences[peer], 0, 0, epochs[peer])
        else:
            sequences[peer] += 1
            envelope = Envelope(sequences[peer], 0, SEQUENCED, epochs[peer])
        core.handle(events.Incoming(peer, envelope, message), now)
        for effect in core.take_effects():
            assert not isinstance(effect, effects.Stop) or isinstance(message, m.Shutdown)
        core.check_invariants()
