"""Goodbye: this peer leaves. If it is a client, its objects are deleted."""

from __future__ import annotations

from scaler_objstore.core.commands.held import home_left
from scaler_objstore.core.commands.owner_end import free_all_of
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.wire import messages as m


def goodbye(state: StoreState, address: bytes, peer: Peer, message: m.Goodbye, now: float) -> None:
    """Forget the peer, and delete a client's objects without waiting for its scheduler to report its end."""
    state.forget_peer(address)
    home_left(state, address, now)
    if peer.role is m.Role.CLIENT:
        free_all_of(state, peer.incarnation, now)
