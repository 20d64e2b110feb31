"""The state of a store: its tables, and an outbox."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from scaler_objstore.core import effects
from scaler_objstore.core.catalogue import Catalogue, StoredObject
from scaler_objstore.core.chains import Chains
from scaler_objstore.core.contents import Content, ContentHash, Contents
from scaler_objstore.core.gone_objects import GoneObjects
from scaler_objstore.core.growing import Growing
from scaler_objstore.core.homes import Homes
from scaler_objstore.core.leases import Leases
from scaler_objstore.core.limits import Limits
from scaler_objstore.core.peers import EndedOwners, Peers
from scaler_objstore.core.refused_puts import RefusedPuts
from scaler_objstore.core.storage import Buffers, Storage
from scaler_objstore.core.tiering import Tiering
from scaler_objstore.core.waiters import Waiters
from scaler_objstore.core.waiting_puts import WaitingPuts
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.wire import messages as m

DELETED_AT_ONCE_MAX = 10_000
"""Objects that one message to an agent names at most."""


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
        self.homes = Homes()
        """Objects in the stores of worker hosts. One that somebody has put here too is in the catalogue as well."""
        self.chains = Chains(limits.chain_seconds_max)
        """Hosts that fetch large objects into their stores now."""
        self.growing = Growing(limits.growing_max)
        """Objects that are being fetched into this store."""
        self.waiters = Waiters(limits)
        self.peers = Peers(limits)
        self.ended_owners = EndedOwners(limits)
        self.tiering: Tiering | None = None
        """What is below memory; None: nothing is."""
        self.waiting_puts = WaitingPuts(limits.waiting_puts_max, storage.limit_bytes // limits.waiting_puts_part)
        """Puts that wait for room. Only with a tier below: without one nothing makes room."""
        self.load_waiters = Waiters(limits)
        """Gets of objects that are only in the tier below."""
        self.leases = Leases(limits.retention_seconds)
        self.refused_puts = RefusedPuts(limits.refused_puts_max, limits.refused_put_seconds)
        self.gone = GoneObjects(limits.gone_objects_max)
        """What nobody can send again."""
        self.started_at = float("inf")
        """When the first event came."""
        self.arriving_until = float("-inf")
        """Until when objects of clients count as on their way here: a little longer than bytes of them come."""
        self.doomed: dict[bytes, None] = {}
        """Objects that were deleted and still take memory: freed in portions, because each takes some system calls."""
        self.outbox: Outbox[effects.Effect] = Outbox()

    def note_time(self, now: float) -> None:
        """An event comes at this time."""
        if self.started_at > now:
            self.started_at = now

    def note_arriving(self, addresses: Sequence[bytes], now: float) -> None:
        """Bytes of messages that are not whole yet have come from these peers."""
        peers = [self.peers.heard(address) for address in addresses]
        if any(peer is not None and peer.role is m.Role.CLIENT for peer in peers):
            self.arriving_until = now + self.limits.arriving_pause_seconds

    def will_not_come(self, object_id: bytes, now: float) -> bool:
        """Whether an object that is not here need not be waited for.

        In the first seconds of a server that is not so: the stores of other hosts may still say that they have it.
        """
        return object_id in self.gone and now >= self.started_at + self.limits.homes_return_seconds

    def awaited_until(self, object_id: bytes, deadline: float) -> float:
        """Return until when an object that is not here is waited for, at the longest until this deadline."""
        if object_id not in self.gone:
            return deadline
        return min(deadline, self.started_at + self.limits.homes_return_seconds)

    def send(self, address: bytes, message: m.Message) -> None:
        """Send a message."""
        self.outbox.add(effects.Send(address, message))

    def data(self, request: int, object_id: bytes, content: Content, mappable: bool) -> m.ObjectData:
        """Return the answer with a content, or with its place if the reader can map it."""
        if mappable and content.place:
            return m.ObjectData(request, object_id, place=content.place)
        return self.bytes_of(request, object_id, self.contents.read(content))

    def bytes_of(self, request: int, object_id: bytes, buffers: Buffers) -> m.ObjectData:
        """Return the answer with these bytes."""
        return m.ObjectData(request, object_id, list(buffers))

    def owner_of(self, object_id: bytes) -> bytes:
        """Return the owner of an object that exists."""
        stored = self.catalogue.find(object_id)
        assert stored is not None
        return stored.owner

    def warn(self, text: str) -> None:
        """Log a refused request."""
        self.outbox.add(effects.Warn(text))

    def log(self, text: str, *, is_error: bool = True) -> None:
        """Log what became of the tier below memory."""
        self.outbox.add(effects.Log(text, is_error))

    def delete(self, object_ids: Sequence[bytes]) -> None:
        """Delete objects, here and in homes. Nobody sees them any more; what is more than a portion is freed later."""
        portion = self.limits.frees_max
        for object_id in object_ids[:portion]:
            self.doomed.pop(object_id, None)
        self._free_everywhere(object_ids[:portion])
        self.doomed.update(dict.fromkeys(object_ids[portion:]))

    def free_doomed(self, object_id: bytes | None = None) -> None:
        """Free a portion of what was deleted; or one object, if it was."""
        if object_id is None:
            oldest = list(islice(self.doomed, self.limits.frees_max))
            for each in oldest:
                del self.doomed[each]
            self._free_everywhere(oldest)
        elif object_id in self.doomed:
            del self.doomed[object_id]
            self._free_everywhere((object_id,))

    def _free_everywhere(self, object_ids: Sequence[bytes]) -> None:
        for object_id in object_ids:
            stored = self.catalogue.find(object_id)
            if stored is not None:
                self.free(stored)
            self.growing.remove(object_id)
            self.chains.remove(object_id)
            self.gone.discard(object_id)
        self._free_at_homes(object_ids)

    def free(self, stored: StoredObject) -> None:
        """Delete an object. Its bytes are freed unless another object shares them."""
        self.catalogue.remove(stored)
        is_last = self.contents.release(stored.content, stored.id)
        if self.tiering is None:
            return
        for waiter in self.load_waiters.take_for(stored.id):
            self.send(waiter.peer, m.ObjectData(waiter.request, stored.id, missing=True))
        name = self.tiering.released(stored.content) if is_last else None
        if name is not None:
            self.outbox.add(effects.Discard((name,)))

    def owners(self) -> list[bytes]:
        """Return the clients that own objects, here or in homes."""
        return list({*self.catalogue.owners(), *self.homes.owners()})

    def _free_at_homes(self, object_ids: Sequence[bytes]) -> None:
        """Have the homes of objects delete them."""
        by_home: dict[tuple[bytes, bytes], list[bytes]] = {}
        for object_id in object_ids:
            held = self.homes.find(object_id)
            if held is None:
                continue
            for home in self.homes.remove(object_id):
                by_home.setdefault((home.peer, held.owner), []).append(object_id)
            for waiter in self.waiters.take_for(object_id):
                self.send(waiter.peer, m.ObjectData(waiter.request, object_id, missing=True))
        for (peer, owner), ids in by_home.items():
            # Should it be lost, it is sent again with the agent's next hello.
            self.delete_at(peer, owner, ids)

    def delete_at(self, peer: bytes, owner: bytes, object_ids: Sequence[bytes]) -> None:
        """Tell an agent to delete objects from the store of its host."""
        for start in range(0, len(object_ids), DELETED_AT_ONCE_MAX):
            self.send(peer, m.ObjectDelete(0, owner, tuple(object_ids[start : start + DELETED_AT_ONCE_MAX])))

    def forget_peer(self, address: bytes) -> None:
        """Forget everything that depends on a peer's connection. Its objects stay until their client ends."""
        self.peers.remove(address)
        self.growing.remove_peer(address)
        self.chains.leave_all(address)
        self.waiters.remove_peer(address)
        self.load_waiters.remove_peer(address)
        self.waiting_puts.remove_peer(address)
