"""Segments of writers on this host, held by this process for as long as the objects in them live."""

from __future__ import annotations

import logging
import resource
import weakref
from dataclasses import replace

from scaler_protocol.objects.segments import Offer, adopt, pack_place, supported, unpack_place
from scaler_protocol.wire import messages as m

logger = logging.getLogger(__name__)

DESCRIPTORS_EACH = 2
DESCRIPTOR_SHARE = 2
"""Half of the descriptors this process may have are left for connections."""


class HeldSegments:
    """Turns puts that name a place into puts with buffers. Without an offer nobody is told that there are segments."""

    def __init__(self, incarnation: bytes, held_max: int | None = None) -> None:
        """`held_max` is by default what the descriptors of this process are enough for."""
        self._offer: Offer | None = None
        self._held_max = (
            held_max if held_max is not None else descriptors_allowed() // DESCRIPTOR_SHARE // DESCRIPTORS_EACH
        )
        self._held: weakref.WeakSet[object] = weakref.WeakSet()
        if supported():
            try:
                self._offer = Offer(incarnation)
            except OSError as error:
                logger.warning("no shared memory for large objects on this host: %s", error)

    @property
    def offer(self) -> bytes:
        """What the welcome says; empty for nothing."""
        return self._offer.raw if self._offer is not None else b""

    def resolve(self, put: m.ObjectPut) -> m.ObjectPut:
        """Return `put` with the buffers at its place, and with where this process has them; without buffers in vain."""
        if self._offer is None:
            return put
        adopted = adopt(unpack_place(put.place), self._offer.token, self._offer.device)
        if adopted is None:
            return put
        if len(self._held) >= self._held_max:
            # Too many are mapped already: these bytes are kept like those from a socket.
            return replace(put, buffers=[bytes(buffer) for buffer in adopted.buffers], place=b"")
        for buffer in adopted.buffers[:1]:
            self._held.add(buffer.obj)
        return replace(put, buffers=list(adopted.buffers), place=pack_place(adopted.place))

    def close(self) -> None:
        if self._offer is not None:
            self._offer.close()


def descriptors_allowed() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1_000_000


def raise_descriptor_limit() -> None:
    """Let this process have all the descriptors it is allowed to ask for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
