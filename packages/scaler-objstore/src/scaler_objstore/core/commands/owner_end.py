"""The end of a client, and of all objects it owns."""

from __future__ import annotations

from scaler_objstore.core.state import StoreState


def free_all_of(state: StoreState, owner: bytes, now: float) -> None:
    """Delete all objects of `owner`, and refuse new ones for it for a while.

    The owner's connection is forgotten too: messages that it sent before its end may still arrive, and must not register it
    again. If it is alive after all, it says hello again and repeats its unanswered requests.
    """
    for address in state.peers.addresses_of(owner):
        state.forget_peer(address)
    for stored in state.catalogue.owned_by(owner):
        state.free(stored)
    state.ended_owners.add(owner, now)
