"""A task as the scheduler sees it: bytes to pass on, and where it stands.

(graph row) ──predecessors done──▶ READY ──placed──▶ ASSIGNED ──result──▶ forgotten
             RECOVERING ──grace over──▶ ▲ │                 │
                  │                     │ └──cancelled──────┴──▶ forgotten
                  └──claimed by agent───┼────────────────▶ ASSIGNED ◀──handed over behind its predecessor── (graph row)
                                        └──agent lost, returned, processor died (attempts left)
             WAITING ──predecessors done─▶ READY
                ▲
                └──agent lost, returned, … while a predecessor it was handed over behind is not done
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.messages import Capabilities

if TYPE_CHECKING:
    from scaler_scheduler.core.agents import AgentRecord
    from scaler_scheduler.core.clients import ClientRecord
    from scaler_scheduler.core.graphs import Graph


class TaskState(IntEnum):
    READY = 0
    """In a ready queue."""
    ASSIGNED = 1
    """At `agent`, under number `attempt`."""
    RECOVERING = 2
    """Announced again after a restart; an agent may still claim to hold it."""
    FORGOTTEN = 3
    """Answered. Only stale entries of queues still point here."""
    WAITING = 4
    """Came back from an agent before its predecessors were done: a graph row again, until they are."""


class Chain:
    """Graph rows handed to an agent together, to be run in order by one processor."""

    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length
        """How many of its tasks are still assigned."""


class TaskOptions:
    """What all tasks of a batch share. One instance per distinct combination and client, so `is` compares them."""

    __slots__ = ("capabilities", "client", "depth", "flags", "kind", "names", "serializer", "signature")

    def __init__(
        self,
        client: ClientRecord,
        depth: int,
        kind: int,
        flags: int,
        capabilities: Capabilities,
        serializer: bytes,
        signature: frozenset[str],
    ) -> None:
        self.client = client
        self.depth = depth
        self.kind = kind
        self.flags = flags
        self.capabilities = capabilities
        self.serializer = serializer
        self.signature = signature
        """Capability names that decide who may run the task; empty where capabilities are not enforced."""


class Task:
    """One submitted call. Its payload is never looked into."""

    __slots__ = (
        "agent",
        "attempt",
        "canceled",
        "carried",
        "chain",
        "failures",
        "function",
        "graph",
        "number",
        "objects",
        "options",
        "payload",
        "state",
    )

    def __init__(self, number: int, function: bytes, payload: bytes, options: TaskOptions) -> None:
        self.number = number
        self.function = function
        self.payload = payload
        self.options = options
        self.state = TaskState.READY
        self.attempt = 0
        """How often it was assigned: a number that tells the results of these times apart."""
        self.failures = 0
        """Attempts that ended with the death of whoever ran it."""
        self.agent: AgentRecord | None = None
        self.canceled = False
        """Its client wants no result; the agent was told to stop it."""
        self.objects: tuple[bytes, ...] = ()
        self.carried: Carried = ()
        """What its client has for the running task, passed on as it is (see `batch_rows.CARRIED`)."""
        self.graph: Graph | None = None
        """The graph this is a row of, if any (row = number - graph.first_number)."""
        self.chain: Chain | None = None
        """The chain it was handed over in, while it is assigned."""

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.state.name} attempt {self.attempt}>"
