"""StoreStatusRequest: how much is stored, for monitors."""

from __future__ import annotations

from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.wire import messages as m


def status(state: StoreState, address: bytes, peer: Peer, message: m.StoreStatusRequest, now: float) -> None:
    """Tell the scheduler how much each client stores. Nobody else may know which clients have objects."""
    if peer.role is not m.Role.SCHEDULER:
        state.warn(f"{peer} asks how much is held: only a scheduler may")
        return
    owners = tuple(state.catalogue.owners())
    figures = [state.catalogue.figures_of(owner) for owner in owners]
    state.send(
        address,
        m.StoreStatus(
            message.request,
            object_count=len(state.catalogue),
            used_bytes=state.contents.used_bytes,
            limit_bytes=state.contents.limit_bytes,
            owners=owners,
            owner_objects=[count for count, _ in figures],
            owner_bytes=[size for _, size in figures],
        ),
    )
