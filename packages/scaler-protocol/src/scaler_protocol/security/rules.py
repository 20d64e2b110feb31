"""Which kinds of messages the owner of a key may send, and whom a message may name. Tables and pure functions.

A connection's routing identity begins with the fingerprint of its key, and so do the ids of its clients. So whether a client
that a message names belongs to the sender is seen from the first bytes of both, without a table, also after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from scaler_protocol.ids import FINGERPRINT_BYTES
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.wire import messages as m

Kinds = Mapping[type[Any], str]
"""Kinds of messages that somebody may send. The value is the field that names a client of the sender; empty: the message
names nobody, or may name anybody."""


def _kinds(*kinds: Mapping[type[Any], str]) -> Kinds:
    return MappingProxyType({kind: field for some in kinds for kind, field in some.items()})


_NOTHING = _kinds()

_SESSION = {m.Hello: "incarnation", m.Heartbeat: "", m.Goodbye: ""}

_SUBMITTING = {
    m.TaskBatch: "client",
    m.GraphSubmit: "client",
    m.FunctionDefine: "client",
    m.TaskCancel: "client",
    m.CreditRequest: "",
    m.WorkerListRequest: "",
    m.JobRequest: "",
    m.LockRequest: "",
    m.LockRelease: "",
}

_RUNNING = {
    # The tasks of these are anybody's: the scheduler looks whether the sender was given them.
    m.ResultBatch: "",
    m.TaskReturn: "",
    m.Inventory: "",
    m.GrantsHeld: "",
    m.GrantsFreed: "",
    m.Output: "",
    m.TaskProgress: "",
    m.ChunkFailures: "",
    m.OutputReply: "",
    m.Drain: "",
    m.ProfileSamples: "",
    # And these are about the clients inside the sender's tasks.
    m.Relay: "client",
    m.ClientGone: "client",
}

_OBJECTS_OF_ITS_OWN = {
    m.Hello: "incarnation",
    m.Goodbye: "",
    # Who knows the id of an object may read it: only its owner and the tasks that use it learn it.
    m.ObjectGet: "",
    m.ObjectPut: "owner",
    m.ObjectDelete: "owner",
    # Of one that is there, it says nothing; of one that is not, that it is not waited for.
    m.ObjectsGone: "",
}

RELAYED: Kinds = _kinds(_SESSION, _SUBMITTING)
"""What a client inside a task sends through its agent."""

TO_SCHEDULER: Mapping[KeyRole, Kinds] = MappingProxyType(
    {
        KeyRole.CLIENT: _kinds(_SESSION, _SUBMITTING),
        # Agents relay for the clients inside their tasks; where nobody relays, these connect with the worker's key.
        KeyRole.WORKER: _kinds(_SESSION, _SUBMITTING, _RUNNING),
        KeyRole.ADAPTER: _NOTHING,
        KeyRole.MONITOR: _NOTHING,
        KeyRole.OPERATOR: _kinds(_SESSION, _SUBMITTING, {m.Shutdown: "", m.CancelRequest: ""}),
        # Two schedulers tell each other which of them is first.
        KeyRole.SCHEDULER: _kinds({m.SchedulerStatus: ""}),
    }
)
"""What each role sends to a scheduler. Adapters and monitors are served at other sockets."""

TO_OBJECT_STORAGE: Mapping[KeyRole, Kinds] = MappingProxyType(
    {
        KeyRole.CLIENT: _kinds(_OBJECTS_OF_ITS_OWN),
        # Results belong to the client of the task.
        KeyRole.WORKER: _kinds(_OBJECTS_OF_ITS_OWN, {m.ObjectPut: "", m.ObjectsHeld: ""}),
        KeyRole.ADAPTER: _NOTHING,
        KeyRole.MONITOR: _NOTHING,
        KeyRole.OPERATOR: _kinds(_OBJECTS_OF_ITS_OWN),
        KeyRole.SCHEDULER: _kinds(
            {
                m.Hello: "",
                m.Goodbye: "",
                m.ObjectDelete: "",
                m.ObjectsGone: "",
                m.ClientsKnown: "",
                m.StoreStatusRequest: "",
                m.ObjectListRequest: "",
                m.Shutdown: "",
            }
        ),
    }
)
"""What each role sends to an object storage server."""

SPEAKS_AS: Mapping[KeyRole, frozenset[m.Role]] = MappingProxyType(
    {
        KeyRole.CLIENT: frozenset({m.Role.CLIENT}),
        KeyRole.WORKER: frozenset({m.Role.AGENT, m.Role.CLIENT}),
        KeyRole.ADAPTER: frozenset(),
        KeyRole.MONITOR: frozenset(),
        KeyRole.OPERATOR: frozenset({m.Role.CLIENT}),
        KeyRole.SCHEDULER: frozenset({m.Role.SCHEDULER}),
    }
)
"""As what each role may introduce itself. A scheduler takes a client with a worker's key only beside an agent of that key."""


def violation(role: KeyRole, kinds: Kinds, identity: bytes, message: m.Message) -> str | None:
    """Return how a message breaks the rules, as what follows "it"; None if it may be sent.

    `identity`: the routing identity of the sender; for relayed messages, the client's.
    """
    field = kinds.get(type(message))
    if field is None:
        return f"sends a {type(message).__name__}, and the role of its key is {role}"
    if field and getattr(message, field)[:FINGERPRINT_BYTES] != identity[:FINGERPRINT_BYTES]:
        return f"names a client of another key in a {type(message).__name__}"
    if type(message) is m.Hello and message.role not in SPEAKS_AS[role]:
        return f"introduces itself as {message.role.name.lower()}, and the role of its key is {role}"
    return None


def is_relayed_by(agent: bytes, client: bytes) -> bool:
    """Whether an agent may relay for this client: it must be inside one of its tasks, and so have the same key."""
    return agent[:FINGERPRINT_BYTES] == client[:FINGERPRINT_BYTES]
