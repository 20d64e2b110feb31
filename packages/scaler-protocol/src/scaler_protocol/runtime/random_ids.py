"""New identities."""

import os

from scaler_protocol.ids import ID_BYTES


def new_id(prefix: bytes = b"") -> bytes:
    """Return 16 bytes for an incarnation or an object: the prefix, and random bytes after it.

    With keys, the prefix of an incarnation is the fingerprint of its key (`scaler_protocol.security.keys`).
    """
    return prefix + os.urandom(ID_BYTES - len(prefix))
