"""The decisions of the object storage server, without sockets, clock or threads. Begin with `StoreCore`."""

from scaler_objstore.core.invariants import InvariantError, check_invariants
from scaler_objstore.core.limits import Limits
from scaler_objstore.core.ports import Effect, Event, Incoming, PeerGone, Send, Stop, Tick, Warn
from scaler_objstore.core.storage import MemoryStorage, Storage, StorageFullError
from scaler_objstore.core.store import StoreCore

__all__ = [
    "Effect",
    "Event",
    "Incoming",
    "InvariantError",
    "Limits",
    "MemoryStorage",
    "PeerGone",
    "Send",
    "Stop",
    "Storage",
    "StorageFullError",
    "StoreCore",
    "Tick",
    "Warn",
    "check_invariants",
]
