"""The end of a client, and of everything it owns."""

from __future__ import annotations

from scaler_objstore.core.state import StoreState


def free_all_of(state: StoreState, owner: bytes, now: float) -> None:
    """Free what `owner` has, and take nothing more on its behalf for a while.

    Its connection counts as that of a stranger from now on: what it sent before its end may still be on its way, and must not
    bring it back. Should it live after all, it says hello again, and asks again for what was not answered.
    """
    for address in state.peers.addresses_of(owner):
        state.forget_peer(address)
    for stored in state.catalogue.owned_by(owner):
        state.free(stored)
    state.ended_owners.add(owner, now)
