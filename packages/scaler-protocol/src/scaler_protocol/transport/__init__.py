"""ZeroMQ sockets with the rules of this project: never block, never lose silently, bounded everywhere."""

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.transport.publisher import Publisher, Subscriber
from scaler_protocol.transport.router import RouterListener, SendOutcome
from scaler_protocol.transport.wakeup import Wakeup

__all__ = ["DealerLink", "Publisher", "RouterListener", "SendOutcome", "Subscriber", "TransportError", "Wakeup"]
