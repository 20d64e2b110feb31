"""Hello: register a peer, if it speaks the same protocol version."""

from __future__ import annotations

from dataclasses import replace

from scaler_objstore.core.commands.held import home_back, tell_lost
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.version import PROTOCOL_VERSION
from scaler_protocol.wire import messages as m


def hello(state: StoreState, address: bytes, message: m.Hello, now: float) -> None:
    """Welcome a peer. Refuse it if its protocol version differs, or if it wants a scheduler."""
    name = message.name[: state.limits.name_characters_max]
    if message.protocol_version != PROTOCOL_VERSION:
        state.forget_peer(address)
        text = (
            f"this object storage server speaks protocol version {PROTOCOL_VERSION}, "
            f"{name or 'the peer'} (scaler {message.software_version[:20]}) version {message.protocol_version}"
        )
        state.send(address, m.Refused(text))
        return
    if not message.to_object_storage:
        state.warn(f"{name or 'a peer'} takes this object storage server for a scheduler")
        state.send(address, m.Refused("this is an object storage server; the scheduler has another address"))
        return
    if message.role is m.Role.CLIENT:
        state.ended_owners.remove(message.incarnation)
        state.leases.renew(message.incarnation, now)
    elif message.role is m.Role.SCHEDULER:
        state.leases.on_scheduler(message.incarnation, now)
    is_new = address not in state.peers
    forgotten = state.peers.add(address, Peer(message.role, message.incarnation, name, message.term))
    if forgotten is not None:
        state.forget_peer(forgotten)
    welcome = m.Welcome(state.incarnation, hello_number=message.hello_number, segment_offer=state.segment_offer)
    if message.role is m.Role.AGENT:
        welcome = replace(welcome, takes_homes=True)
    state.send(address, welcome)
    home_back(state, address, now)
    if message.role is m.Role.SCHEDULER and is_new:
        # What it was told before may not have arrived.
        tell_lost(state, state.homes.lost(), address)
