"""Options every libzmq socket of the project shares, and why."""

from __future__ import annotations

from typing import Any

import zmq

from scaler_protocol.errors import TransportError
from scaler_protocol.wire.envelope import MESSAGE_BYTES_MAX, Frame

COPY_THRESHOLD_BYTES = 64 * 1024
"""Smaller frames are copied, which is cheaper than tracking their buffers. Larger ones are passed on without copying."""

LINGER_MILLISECONDS = 500
HIGH_WATER_MARK_MESSAGES = 100_000


def configure(socket: zmq.Socket[Any], address: str, high_water_mark: int = HIGH_WATER_MARK_MESSAGES) -> None:
    """Set the options of all sockets: linger and queues have bounds, and dead connections are noticed within half a minute.

    `high_water_mark` counts messages per peer and direction.
    """
    socket.setsockopt(zmq.LINGER, LINGER_MILLISECONDS)
    socket.setsockopt(zmq.SNDHWM, high_water_mark)
    socket.setsockopt(zmq.RCVHWM, high_water_mark)
    socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
    # Linux' own keep-alive takes two hours to notice a peer whose host went away.
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 20_000)
    socket.setsockopt(zmq.HEARTBEAT_TTL, 30_000)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
    # Only for IPv6 addresses: with this option ZeroMQ looks names up as IPv6 first, also on hosts without IPv6.
    socket.setsockopt(zmq.IPV6, 1 if "[" in address else 0)


def connect(socket: zmq.Socket[Any], address: str) -> None:
    """Begin to connect. Whether anybody answers is seen later. Raises TransportError if the address cannot be used."""
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise TransportError(f"cannot connect to {address}: {_reason(error)}") from None


def _reason(error: zmq.ZMQError) -> str:
    # pyzmq repeats the address after the reason.
    return str(error.strerror).partition(" (addr=")[0]


# Plain integers and the low-level binding, because enums cost more than these calls, which each message makes.
NOBLOCK = int(zmq.NOBLOCK)
_receive: Any = zmq.backend.Socket.recv


def descriptor(socket: zmq.Socket[Any]) -> int:
    """Return the descriptor that becomes readable when the socket's events may have changed. Edge-triggered."""
    fd = socket.getsockopt(zmq.FD)
    assert isinstance(fd, int)
    return fd


def receive_frames(socket: zmq.Socket[Any]) -> list[Frame]:
    """Receive one message without blocking; large frames as views of ZeroMQ's own buffer. Raises zmq.Again."""
    frames: list[Frame] = []
    more = True
    while more:
        part = _receive(socket, NOBLOCK, False)
        frames.append(part.buffer if len(part) >= COPY_THRESHOLD_BYTES else part.bytes)
        more = part.more
    return frames
