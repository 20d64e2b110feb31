"""ZeroMQ's protocol with the rules of this project: never block, never lose silently, bounded everywhere.

Connections are sockets of our own that speak ZMTP, see `zmtp`. Only monitors use libzmq: `subscriber`, a module that nobody
else imports.
"""

from scaler_protocol.errors import TransportError
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.transport.router import RouterListener, SendOutcome
from scaler_protocol.transport.wakeup import Wakeup

__all__ = ["DealerLink", "RouterListener", "SendOutcome", "TransportError", "Wakeup"]
