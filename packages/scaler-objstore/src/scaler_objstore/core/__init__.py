"""The decisions of the object storage server, without sockets, clock or threads. Begin with `StoreCore`."""

from scaler_objstore.core.limits import Limits
from scaler_objstore.core.storage import MemoryStorage, Storage, StorageFullError
from scaler_objstore.core.store import StoreCore

__all__ = ["Limits", "MemoryStorage", "Storage", "StorageFullError", "StoreCore"]
