"""The end of a client, and of all objects it owns."""

from __future__ import annotations

from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m


def free_all_of(state: StoreState, owner: bytes, now: float) -> None:
    """Delete all objects of `owner`, and refuse new ones for it for a while.

    The owner's connection is forgotten too: messages that it sent before its end may still arrive, and must not register it
    again. If it is alive after all, it says hello again and repeats its unanswered requests.
    """
    for address in state.peers.addresses_of(owner):
        state.forget_peer(address)
    here = [stored.id for stored in state.catalogue.owned_by(owner)]
    state.delete(list(dict.fromkeys([*here, *state.homes.owned_by(owner), *state.growing.owned_by(owner)])))
    state.ended_owners.add(owner, now)


def clients_known(state: StoreState, address: bytes, peer: Peer, message: m.ClientsKnown, now: float) -> None:
    """ClientsKnown: a scheduler will tell when these clients end, and so their objects are kept while it lives."""
    if peer.role is m.Role.SCHEDULER:
        state.leases.on_known(peer.incarnation, message.clients, now, everybody=message.everybody)


def end_silent_owners(state: StoreState, now: float) -> None:
    """Delete all objects of clients of which nobody has said for too long that they live."""
    state.homes.leave_away(now - state.limits.retention_seconds)
    for owner in state.leases.take_ended(state.owners(), now):
        objects, size = state.catalogue.figures_of(owner)
        elsewhere = state.homes.count_of(owner)
        text = (
            f"nobody says any more that client {short(owner)} lives: its {objects} objects ({size} bytes) are deleted"
            + (f", and {elsewhere} in the stores of worker hosts" if elsewhere else "")
        )
        state.log(text, is_error=False)
        free_all_of(state, owner, now)
