"""How server and peer determine that they are on one host and may open each other's files.

The server keeps a secret token in a small file and tells every peer where the file is. The file also contains the
incarnation from the server's welcome. A peer that can read both is on the same host, as a permitted user. It writes the
token into its segments. The server refuses segments without it, so no peer elsewhere can make it open other files of its
host.
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
    """The server's end. Raises OSError if the system has no memory for it."""

    def __init__(self, incarnation: bytes) -> None:
        self.token = os.urandom(TOKEN_BYTES)
        self._descriptor = new_memory(_PROOF_BYTES)
        os.pwrite(self._descriptor, MAGIC + incarnation + self.token, 0)
        self.raw = _OFFER.pack(os.getpid(), self._descriptor)
        """The bytes for the welcome."""
        self.device = os.fstat(self._descriptor).st_dev
        """The file system that all segments of this host are in."""

    def close(self) -> None:
        """Withdraw the offer. Peers that have the token keep it."""
        close(self._descriptor)


def accept_offer(raw: bytes, incarnation: bytes) -> bytes | None:
    """Return the token of the server with this incarnation; None if it is not on this host, or not to be trusted."""
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
