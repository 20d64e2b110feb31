"""Segments that writers on this machine have filled. This process maps them while their objects exist."""

from __future__ import annotations

import logging
import resource
import weakref
from dataclasses import replace
from functools import partial

from scaler_protocol.objects.segments import Offer, Place, adopt, mark_taken, pack_place, supported, unpack_place
from scaler_protocol.wire import messages as m

logger = logging.getLogger(__name__)

DESCRIPTORS_EACH = 2
DESCRIPTOR_SHARE = 2
"""Half of the descriptors of this process are left for connections."""


class HeldSegments:
    """Replaces the place in a put by the buffers that lie there. If there is no offer, peers send bytes instead."""

    def __init__(self, incarnation: bytes, held_max: int | None = None) -> None:
        """`held_max`: most segments to map (default: as many as the descriptors of this process allow)."""
        self._offer: Offer | None = None
        self._held_max = (
            held_max if held_max is not None else descriptors_allowed() // DESCRIPTOR_SHARE // DESCRIPTORS_EACH
        )
        self._held: weakref.WeakSet[object] = weakref.WeakSet()
        self._arrived: list[object] = []
        """Mappings of this turn."""
        self._untaken: dict[tuple[bytes, int], tuple[weakref.ref[object], Place]] = {}
        """Those of puts that were not answered, by peer and request, as long as anybody holds them."""
        if supported():
            try:
                self._offer = Offer(incarnation)
            except OSError as error:
                logger.warning("no shared memory for large objects on this host: %s", error)

    @property
    def offer(self) -> bytes:
        """The offer for the welcome; empty: there are no segments."""
        return self._offer.raw if self._offer is not None else b""

    def resolve(self, peer: bytes, put: m.ObjectPut) -> m.ObjectPut:
        """Return `put` with the buffers at its place, and with their place in this process; unchanged if it cannot map them."""
        if self._offer is None:
            return put
        adopted = adopt(unpack_place(put.place), self._offer.token, self._offer.device)
        if adopted is None:
            return put
        if len(self._held) >= self._held_max:
            # Too many segments are mapped already, so these bytes are copied, like bytes from a socket.
            mark_taken(adopted.place)
            return replace(put, buffers=[bytes(buffer) for buffer in adopted.buffers], place=b"")
        for buffer in adopted.buffers[:1]:
            self._held.add(buffer.obj)
            self._note(peer, put.request, buffer.obj, adopted.place)
        return replace(put, buffers=list(adopted.buffers), place=pack_place(adopted.place))

    def _note(self, peer: bytes, request: int, mapping: object, place: Place) -> None:
        self._arrived.append(mapping)
        key = (peer, request)
        known = self._untaken.get(key)
        # A put that waits for room and comes again is the first one still.
        if known is None or known[0]() is None:
            self._untaken[key] = weakref.ref(mapping, partial(self._forget, key)), place

    def _forget(self, key: tuple[bytes, int], mapping: weakref.ref[object]) -> None:
        if key in self._untaken and self._untaken[key][0] is mapping:
            del self._untaken[key]

    def answered(self, peer: bytes, reply: m.ObjectPutReply) -> None:
        """A put is about to be answered. Only what was stored is its writer's no more: with all else it will come again."""
        mapping, place = self._untaken.pop((peer, reply.request), (None, None))
        if place is not None and mapping is not None and mapping() is not None and reply.status == m.ObjectStatus.DONE:
            mark_taken(place)

    def end_turn(self) -> None:
        """What came in this turn was stored, waits, or was answered."""
        self._arrived.clear()

    def close(self) -> None:
        """Close the file that proves to peers that they run on this machine."""
        if self._offer is not None:
            self._offer.close()


def descriptors_allowed() -> int:
    """Return how many descriptors this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1_000_000
