"""Shutdown: the scheduler stops this server."""

from __future__ import annotations

from scaler_objstore.core import effects
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.wire import messages as m


def shutdown(state: StoreState, address: bytes, peer: Peer, message: m.Shutdown, now: float) -> None:
    """Stop if a scheduler asks for it; refuse anybody else."""
    if peer.role is not m.Role.SCHEDULER:
        state.warn(f"{peer} asks for a shutdown: only a scheduler may")
        return
    if state.tiering is not None:
        # The cluster ends, so nobody comes back for its objects.
        state.outbox.add(effects.Discard(tuple(state.tiering.names())))
    state.outbox.add(effects.Stop(message.text or f"{peer} asks for it"))
