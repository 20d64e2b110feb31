"""The tables of who may send what: every role with every kind of message, and whom messages may name."""

from __future__ import annotations

import random
from dataclasses import MISSING, fields
from typing import Any, get_args

import pytest

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.rules import (
    RELAYED,
    SPEAKS_AS,
    TO_OBJECT_STORAGE,
    TO_SCHEDULER,
    Kinds,
    is_relayed_by,
    violation,
)
from scaler_protocol.wire import messages as m

KINDS: tuple[type[Any], ...] = get_args(m.Message)
OWN = b"mine----" + bytes(8)
SAME_KEY = b"mine----" + b"another1"
OTHERS = b"others--" + bytes(8)

SESSION = {"Hello", "Heartbeat", "Goodbye"}
SUBMITTING = {
    "TaskBatch",
    "GraphSubmit",
    "FunctionDefine",
    "TaskCancel",
    "CreditRequest",
    "WorkerListRequest",
    "JobRequest",
    "LockRequest",
    "LockRelease",
}
RUNNING = {
    "ResultBatch",
    "TaskReturn",
    "Inventory",
    "Output",
    "ChunkFailures",
    "TaskProgress",
    "Drain",
    "Relay",
    "ClientGone",
}
RUNNING |= {"GrantsHeld", "GrantsFreed", "ProfileSamples", "OutputReply"}
OBJECTS = {"Hello", "Goodbye", "ObjectPut", "ObjectGet", "ObjectDelete", "ObjectsGone"}

AT_SCHEDULER = {
    KeyRole.CLIENT: SESSION | SUBMITTING,
    KeyRole.WORKER: SESSION | SUBMITTING | RUNNING,
    KeyRole.ADAPTER: set(),
    KeyRole.MONITOR: set(),
    KeyRole.OPERATOR: SESSION | SUBMITTING | {"Shutdown", "CancelRequest"},
    KeyRole.SCHEDULER: {"SchedulerStatus"},
}
AT_OBJECT_STORAGE = {
    KeyRole.CLIENT: OBJECTS,
    KeyRole.WORKER: OBJECTS | {"ObjectsHeld"},
    KeyRole.ADAPTER: set(),
    KeyRole.MONITOR: set(),
    KeyRole.OPERATOR: OBJECTS,
    KeyRole.SCHEDULER: {"Hello", "Goodbye", "ObjectDelete", "ObjectsGone", "ClientsKnown"}
    | {"StoreStatusRequest", "ObjectListRequest", "Shutdown"},
}
HELLO_OF = {
    KeyRole.CLIENT: m.Role.CLIENT,
    KeyRole.WORKER: m.Role.AGENT,
    KeyRole.OPERATOR: m.Role.CLIENT,
    KeyRole.SCHEDULER: m.Role.SCHEDULER,
}


def message(kind: type[Any], role: KeyRole, named: bytes) -> m.Message:
    """A message of this kind that names one client wherever it names any."""
    values = {
        field.name: b"" for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
    }
    made: Any = kind(**values)
    if kind is m.Hello:
        made.role, made.name = HELLO_OF.get(role, m.Role.CLIENT), "x"
    for name in ("client", "owner", "incarnation"):
        if hasattr(made, name):
            setattr(made, name, named)
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("role", KeyRole)
@pytest.mark.parametrize(
    ("table", "expected"),
    [(TO_SCHEDULER, AT_SCHEDULER), (TO_OBJECT_STORAGE, AT_OBJECT_STORAGE)],
    ids=["scheduler", "storage"],
)
def test_each_role_sends_its_kinds_only(table: Any, expected: Any, role: KeyRole, kind: type[Any]) -> None:
    found = violation(role, table[role], OWN, message(kind, role, OWN))
    assert (found is None) == (kind.__name__ in expected[role]), found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_clients_inside_tasks_send_what_clients_send(kind: type[Any]) -> None:
    found = violation(KeyRole.CLIENT, RELAYED, OWN, message(kind, KeyRole.CLIENT, OWN))
    assert (found is None) == (kind.__name__ in SESSION | SUBMITTING)


MAY_NAME_ANYBODY = {
    ("scheduler", KeyRole.WORKER): RUNNING - {"Drain", "Relay", "ClientGone"},
    # It is for the tasks of others.
    ("scheduler", KeyRole.OPERATOR): {"CancelRequest"},
    ("storage", KeyRole.WORKER): {"ObjectPut", "ObjectsHeld"},
    ("storage", KeyRole.SCHEDULER): {"Hello", "ObjectDelete", "ObjectListRequest"},
    # It names the process of the other scheduler, which has no client.
    ("scheduler", KeyRole.SCHEDULER): {"SchedulerStatus"},
}


@pytest.mark.parametrize("role", KeyRole)
@pytest.mark.parametrize(("where", "table"), [("scheduler", TO_SCHEDULER), ("storage", TO_OBJECT_STORAGE)])
def test_messages_name_clients_of_their_senders_key_only(where: str, table: Any, role: KeyRole) -> None:
    kinds: Kinds = table[role]
    for kind in kinds:
        same_key = message(kind, role, SAME_KEY)
        assert violation(role, kinds, OWN, same_key) is None
        others = message(kind, role, OTHERS)
        names_somebody = any(hasattr(others, name) for name in ("client", "owner", "incarnation"))
        allowed = not names_somebody or kind.__name__ in MAY_NAME_ANYBODY.get((where, role), set())
        assert (violation(role, kinds, OWN, others) is None) == allowed, kind.__name__


@pytest.mark.parametrize("spoken", m.Role)
@pytest.mark.parametrize("role", KeyRole)
def test_nobody_introduces_itself_as_something_else(role: KeyRole, spoken: m.Role) -> None:
    hello = m.Hello(spoken, "x", OWN)
    for table in (TO_SCHEDULER, TO_OBJECT_STORAGE):
        if m.Hello in table[role]:
            assert (violation(role, table[role], OWN, hello) is None) == (spoken in SPEAKS_AS[role])


def test_an_agent_relays_for_clients_of_its_own_key_only() -> None:
    assert is_relayed_by(OWN, SAME_KEY)
    assert not is_relayed_by(OWN, OTHERS)


def test_of_ten_thousand_forged_messages_none_is_accepted() -> None:
    seed = 15
    print(f"seed {seed}")
    rng = random.Random(seed)
    accepted = 0
    for _ in range(10_000):
        table, expected = rng.choice([(TO_SCHEDULER, AT_SCHEDULER), (TO_OBJECT_STORAGE, AT_OBJECT_STORAGE)])
        role = rng.choice(list(KeyRole))
        forbidden = [kind for kind in KINDS if kind.__name__ not in expected[role]]
        forged = message(rng.choice(forbidden), role, rng.choice([OWN, OTHERS, rng.randbytes(16)]))
        accepted += violation(role, table[role], OWN, forged) is None
    assert accepted == 0
