"""How server and peer find out that they are on one host, may open each other's files, and are who they say.

The server keeps a secret token in a small file of its own, and tells every peer where that is. A peer that can read it, and
finds the incarnation there that the server gave in its welcome, is on the same host and runs as a user who may: it writes
the token into its segments. A place without the token in it is refused, so that nobody far away can have the server open
whatever files its host has.
"""

from __future__ import annotations

import os
import struct
from os import close

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.objects.segments.layout import MAGIC, TOKEN_BYTES, new_memory, supported

_OFFER = struct.Struct("<II")
_PROOF_BYTES = len(MAGIC) + ID_BYTES + TOKEN_BYTES


class Offer:
    """The server's end. Raises OSError where the system does not give it memory."""

    def __init__(self, incarnation: bytes) -> None:
        self.token = os.urandom(TOKEN_BYTES)
        self._descriptor = new_memory(_PROOF_BYTES)
        os.pwrite(self._descriptor, MAGIC + incarnation + self.token, 0)
        self.raw = _OFFER.pack(os.getpid(), self._descriptor)
        """What stands in the welcome."""

    @property
    def device(self) -> int:
        """The file system that all segments of this host are in."""
        return os.fstat(self._descriptor).st_dev

    def close(self) -> None:
        """Withdraw it: peers that have the token keep it."""
        close(self._descriptor)


def accept_offer(raw: bytes, incarnation: bytes) -> bytes | None:
    """Return the token of the server with this incarnation; None where it is not on this host, or not to be trusted."""
    if len(raw) != _OFFER.size or not supported():
        return None
    pid, number = _OFFER.unpack(raw)
    try:
        descriptor = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        proof = os.pread(descriptor, _PROOF_BYTES + 1, 0)
    except OSError:
        return None
    finally:
        close(descriptor)
    if len(proof) != _PROOF_BYTES or not proof.startswith(MAGIC + incarnation):
        return None
    return proof[-TOKEN_BYTES:]
