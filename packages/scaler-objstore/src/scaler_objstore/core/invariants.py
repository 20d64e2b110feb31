"""Facts that hold between any two events."""

from __future__ import annotations

from collections import Counter

from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import content_bytes
from scaler_protocol.runtime.core import InvariantError


def check_state(state: StoreState) -> None:
    """Raise InvariantError unless all facts that are stored twice agree, and all limits are kept."""
    _expect(
        Counter(id(stored.content) for stored in state.catalogue.all())
        == Counter({id(content): content.references for content in state.contents.all()}),
        "every content is referenced by as many objects as it counts, and by at least one",
    )
    _expect(
        sum(content_bytes(state.contents.read(content)) for content in state.contents.all())
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
    _expect(all(waiter.peer in state.peers for waiter in waiters), "every waiting peer has said hello")
    of_peer = Counter(waiter.peer for waiter in waiters)
    _expect(
        all(count <= state.limits.peer_waiters_max for count in of_peer.values()), "each peer's waiters are bounded"
    )
    _expect(len(state.peers) <= state.limits.peers_max, "peers are bounded")
    _expect(len(state.ended_owners) <= state.limits.ended_owners_max, "ended owners are bounded")


def _expect(holds: bool, fact: str) -> None:
    if not holds:
        raise InvariantError(f"broken: {fact}")
