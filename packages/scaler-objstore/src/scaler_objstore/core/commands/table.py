"""The command for each message. It receives the state, the address to answer to, the peer, the message and the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaler_objstore.core.commands.delete import delete
from scaler_objstore.core.commands.get import get
from scaler_objstore.core.commands.goodbye import goodbye
from scaler_objstore.core.commands.held import objects_gone, objects_held
from scaler_objstore.core.commands.owner_end import clients_known
from scaler_objstore.core.commands.put import put
from scaler_objstore.core.commands.shutdown import shutdown
from scaler_objstore.core.commands.status import object_list, status
from scaler_objstore.core.peers import Peer
from scaler_objstore.core.state import StoreState
from scaler_protocol.wire import messages as m

Command = Callable[[StoreState, bytes, Peer, Any, float], None]

COMMANDS: dict[type[Any], Command] = {
    m.ObjectPut: put,
    m.ObjectGet: get,
    m.ObjectDelete: delete,
    m.ObjectsHeld: objects_held,
    m.ObjectsGone: objects_gone,
    m.ClientsKnown: clients_known,
    m.Goodbye: goodbye,
    m.Shutdown: shutdown,
    m.StoreStatusRequest: status,
    m.ObjectListRequest: object_list,
}
"""Hello is missing here, because it has no peer yet: it registers one."""
