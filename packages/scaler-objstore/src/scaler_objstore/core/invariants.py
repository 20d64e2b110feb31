"""Facts that hold between any two events."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scaler_objstore.core.storage import content_bytes

if TYPE_CHECKING:
    from scaler_objstore.core.store import StoreCore


class InvariantError(AssertionError):
    """Facts of the store contradict each other."""


def check_invariants(core: StoreCore) -> None:
    """Raise InvariantError unless all facts that are stored twice agree, and all limits are kept."""
    state = core.state
    _expect(
        Counter(id(stored.content) for stored in state.catalogue.all())
        == Counter({id(content): content.references for content in state.contents.all()}),
        "every content is referenced by as many objects as it counts, and by at least one",
    )
    _expect(
        sum(content_bytes(state.contents.read(content)) for content in state.contents.all()) == core.used_bytes,
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
    _expect(all(state.catalogue.find(waiter.object_id) is None for waiter in waiters), "nobody waits for what is there")
    _expect(all(waiter.peer in state.peers for waiter in waiters), "who waits has said hello")
    of_peer = Counter(waiter.peer for waiter in waiters)
    _expect(
        all(count <= state.limits.peer_waiters_max for count in of_peer.values()), "each peer's waiters are bounded"
    )
    _expect(len(state.peers) <= state.limits.peers_max, "peers are bounded")
    _expect(len(state.ended_owners) <= state.limits.ended_owners_max, "ended owners are bounded")


def _expect(holds: bool, fact: str) -> None:
    if not holds:
        raise InvariantError(f"broken: {fact}")
