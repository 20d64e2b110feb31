"""ZeroMQ's protocol with the rules of this project: never block, never lose silently, bounded everywhere.

Requests and answers (DEALER, ROUTER) go over sockets of our own that speak ZMTP, see `zmtp`. What is published to monitors
goes through libzmq: `publisher`, a module that only those import who need it.
"""

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.transport.router import RouterListener, SendOutcome
from scaler_protocol.transport.wakeup import Wakeup

__all__ = ["DealerLink", "RouterListener", "SendOutcome", "TransportError", "Wakeup"]
