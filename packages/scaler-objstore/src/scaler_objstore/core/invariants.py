"""Facts that hold between any two events."""

from __future__ import annotations

from collections import Counter

from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import content_bytes
from scaler_objstore.core.tiering import Tiering
from scaler_protocol.runtime.core import InvariantError


def check_state(state: StoreState) -> None:
    """Raise InvariantError unless all facts that are stored twice agree, and all limits are kept."""
    _expect(
        {(id(stored.content), stored.id) for stored in state.catalogue.all()}
        == {(id(content), object_id) for content in state.contents.all() for object_id in content.object_ids}
        and all(content.object_ids for content in state.contents.all()),
        "every content names the objects that have it, and there is at least one",
    )
    _expect(
        sum(content_bytes(state.contents.read(content)) for content in state.contents.all() if content.key is not None)
        == state.contents.used_bytes,
        "the storage uses what its contents need",
    )
    owned = [stored for owner in state.catalogue.owners() for stored in state.catalogue.owned_by(owner)]
    _expect(
        all(
            state.catalogue.figures_of(owner)
            == (len(stored := state.catalogue.owned_by(owner)), sum(one.content.size_bytes for one in stored))
            for owner in state.catalogue.owners()
        ),
        "objects and bytes of every owner are counted",
    )
    _expect(
        len(owned) == len(state.catalogue) and all(state.catalogue.find(stored.id) is stored for stored in owned),
        "every object is listed once, with its owner",
    )
    waiters = state.waiters.all()
    _expect(len(waiters) == len(state.waiters) <= state.limits.waiters_max, "waiters are counted and bounded")
    _expect(
        sorted(state.waiters.objects()) == sorted({waiter.object_id for waiter in waiters}),
        "waiters are found by their object",
    )
    _expect(
        all(state.catalogue.find(waiter.object_id) is None for waiter in waiters),
        "no get waits for an object that exists",
    )
    _expect(state.homes.check(), "homes and their objects name each other")
    _expect(all(waiter.peer in state.peers for waiter in waiters), "every waiting peer has said hello")
    _expect(len(state.gone) <= state.limits.gone_objects_max, "objects that will not come are bounded")
    _expect(not any(each.id in state.gone for each in state.catalogue.all()), "what is here is not among them")
    of_peer = Counter(waiter.peer for waiter in waiters)
    _expect(
        all(count <= state.limits.peer_waiters_max for count in of_peer.values()), "each peer's waiters are bounded"
    )
    if state.tiering is None:
        _expect(all(content.key is not None for content in state.contents.all()), "all contents are in memory")
        _expect(not len(state.waiting_puts), "no put waits for room that nothing makes")
    else:
        _check_tiering(state, state.tiering)
    _expect(len(state.growing) <= state.limits.growing_max, "objects that are not whole are bounded")
    _expect(
        all(state.growing.find(stored.id) is None for stored in state.catalogue.all()),
        "what is here is not on its way",
    )
    _expect(len(state.peers) <= state.limits.peers_max, "peers are bounded")
    _expect(len(state.ended_owners) <= state.limits.ended_owners_max, "ended owners are bounded")


def _check_tiering(state: StoreState, tiering: Tiering) -> None:
    _expect(
        sorted((id(content), in_memory) for content, in_memory in tiering.listed())
        == sorted((id(content), content.key is not None) for content in state.contents.all()),
        "every content is listed once, as dirty, clean, being written or below",
    )
    _expect(tiering.sums() == tiering.counted_sums(), "bytes of clean, written and stored contents are counted")
    _expect(tiering.used_bytes <= tiering.most_bytes, "the tier holds no more than it may")
    _expect(state.contents.used_bytes <= state.contents.limit_bytes, "memory holds no more than it may")
    loading = [state.catalogue.find(object_id) for object_id in state.load_waiters.objects()]
    _expect(
        all(stored is not None and tiering.is_wanted(stored.content) for stored in loading),
        "gets wait only for objects that are being read",
    )
    _expect(all(put.address in state.peers for put in state.waiting_puts.all()), "puts of known peers wait")
    _expect(not len(state.waiting_puts) or tiering.is_writing, "puts wait only while something makes room")


def _expect(holds: bool, fact: str) -> None:
    if not holds:
        raise InvariantError(f"broken: {fact}")
