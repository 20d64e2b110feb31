"""The rules that both ends of a link obey: numbered messages, acknowledgement, resending, handshake, heartbeats. Pure."""

from scaler_protocol.session.connection import (
    AddressChanged,
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
from scaler_protocol.session.silence import SilenceWatch

__all__ = [
    "AddressChanged",
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
    "SilenceWatch",
    "message_bytes",
]
