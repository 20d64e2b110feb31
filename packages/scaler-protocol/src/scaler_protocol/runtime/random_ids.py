"""New identities."""

import os

from scaler_protocol.ids import ID_BYTES


def new_id() -> bytes:
    """Return 16 random bytes, for an incarnation or an object."""
    return os.urandom(ID_BYTES)
