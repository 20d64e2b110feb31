"""The rules that both ends of a link obey: numbered messages, acknowledgement, resending, handshake, heartbeats. Pure."""

from scaler_protocol.session.connection import (
    Connection,
    ConnectionEvent,
    ConnectionState,
    Established,
    HeartbeatDue,
    Lost,
    Received,
    RefusedByPeer,
)
from scaler_protocol.session.sequencing import Outgoing, Session, message_bytes

__all__ = [
    "Connection",
    "ConnectionEvent",
    "ConnectionState",
    "Established",
    "HeartbeatDue",
    "Lost",
    "Outgoing",
    "Received",
    "RefusedByPeer",
    "Session",
    "message_bytes",
]
