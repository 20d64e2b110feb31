"""What a client is, without threads, sockets or a clock: sessions, batches, objects, chunks and graphs as values."""

from scaler.core.client_core import ClientCore, InvariantError, check_invariants

__all__ = ["ClientCore", "InvariantError", "check_invariants"]
