"""ObjectDelete: delete these objects, or all objects of an owner that has ended. If one is refused, none is deleted."""

from __future__ import annotations

from scaler_objstore.core.commands.owner_end import free_all_of
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m


def delete(state: StoreState, address: bytes, peer: Peer, message: m.ObjectDelete, now: float) -> None:
    """Delete objects of the named owner. Missing objects count as deleted, so that the request can be repeated.

    A request without ids, from a scheduler, means that the owner has ended. One that is not first any more deletes nothing.
    """
    refusal = _refusal(state, peer, message)
    is_superseded = state.peers.is_superseded(peer)
    if refusal is None:
        state.leases.renew(message.owner, now)
    if is_superseded:
        # Another scheduler is first, and may need them. Their leases end what nobody needs.
        pass
    elif refusal is None and not message.ids and peer.role is m.Role.SCHEDULER:
        free_all_of(state, message.owner, now)
    elif refusal is None:
        state.delete(message.ids)
    # Number 0 asks for no answer.
    if not message.request:
        return
    if refusal is None:
        state.send(address, m.ObjectDeleteReply(message.request))
    else:
        state.send(address, m.ObjectDeleteReply(message.request, m.ObjectStatus.NOT_YOURS, refusal))


def _refusal(state: StoreState, peer: Peer, message: m.ObjectDelete) -> str | None:
    if not peer.may_act_for(message.owner):
        return f"{peer} may not delete objects of client {short(message.owner)}"
    for object_id in message.ids:
        stored = state.catalogue.find(object_id)
        held = state.homes.find(object_id)
        if any(found is not None and found.owner != message.owner for found in (stored, held)):
            return f"object {short(object_id)} belongs to another client"
    return None
