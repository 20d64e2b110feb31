"""The state of a store: its tables, and an outbox."""

from __future__ import annotations

from scaler_objstore.core import effects
from scaler_objstore.core.catalogue import Catalogue, StoredObject
from scaler_objstore.core.contents import Content, ContentHash, Contents
from scaler_objstore.core.limits import Limits
from scaler_objstore.core.peers import EndedOwners, Peers
from scaler_objstore.core.storage import Storage
from scaler_objstore.core.waiters import Waiters
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.wire import messages as m


class StoreState:
    """The tables that commands read and change."""

    def __init__(
        self,
        incarnation: bytes,
        storage: Storage,
        content_hash: ContentHash,
        limits: Limits,
        segment_offer: bytes,
        shares_segments: bool,
    ) -> None:
        self.incarnation = incarnation
        self.segment_offer = segment_offer
        self.shares_segments = shares_segments
        self.limits = limits
        self.contents = Contents(storage, content_hash)
        self.catalogue = Catalogue()
        self.waiters = Waiters(limits)
        self.peers = Peers(limits)
        self.ended_owners = EndedOwners(limits)
        self.outbox: Outbox[effects.Effect] = Outbox()

    def send(self, address: bytes, message: m.Message) -> None:
        """Send a message."""
        self.outbox.add(effects.Send(address, message))

    def data(self, request: int, object_id: bytes, content: Content, mappable: bool) -> m.ObjectData:
        """Return the answer with a content, or with its place if the reader can map it."""
        if mappable and content.place:
            return m.ObjectData(request, object_id, place=content.place)
        return m.ObjectData(request, object_id, list(self.contents.read(content)))

    def warn(self, text: str) -> None:
        """Log a refused request."""
        self.outbox.add(effects.Warn(text))

    def free(self, stored: StoredObject) -> None:
        """Delete an object. Its bytes are freed unless another object shares them."""
        self.catalogue.remove(stored)
        self.contents.release(stored.content)

    def forget_peer(self, address: bytes) -> None:
        """Forget everything that depends on a peer's connection. Its objects stay until their client ends."""
        self.peers.remove(address)
        self.waiters.remove_peer(address)
