"""Segments of writers on this host, held by this process for as long as the objects in them live."""

from __future__ import annotations

import logging
import resource
import weakref
from dataclasses import replace

from scaler_protocol import messages as m
from scaler_protocol.segments import Offer, adopt, pack_place, supported, unpack_place

logger = logging.getLogger(__name__)

DESCRIPTORS_EACH = 2
DESCRIPTOR_SHARE = 2
"""Half of the descriptors this process may have are left for connections."""


class HeldSegments:
    """Turns puts that name a place into puts with buffers. Without an offer nobody is told that there are segments."""

    def __init__(self, incarnation: bytes) -> None:
        self._offer: Offer | None = None
        self._most = _raise_descriptor_limit() // DESCRIPTOR_SHARE // DESCRIPTORS_EACH
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
        if len(self._held) >= self._most:
            # Too many are mapped already: these bytes are kept like those from a socket.
            return replace(put, buffers=[bytes(buffer) for buffer in adopted.buffers], place=b"")
        for buffer in adopted.buffers[:1]:
            self._held.add(buffer.obj)
        return replace(put, buffers=list(adopted.buffers), place=pack_place(adopted.place))

    def close(self) -> None:
        if self._offer is not None:
            self._offer.close()


def _raise_descriptor_limit() -> int:
    """Take all the descriptors this process is allowed to have; return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
