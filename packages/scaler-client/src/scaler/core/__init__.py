"""What a client is, without threads, sockets or a clock: sessions, batches, objects, chunks and graphs as values."""

from scaler.core.client_core import ClientCore

__all__ = ["ClientCore"]
