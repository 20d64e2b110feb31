"""Which workers there are, for clients that call something on each of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.records import AgentRecord


def worker_list(agents: Iterable[AgentRecord]) -> m.WorkerList:
    """Return the workers of these agents, without those that are about to leave."""
    staying = [agent for agent in agents if not agent.draining]
    return m.WorkerList(
        tuple(agent.id for agent in staying for _ in agent.hello.worker_names),
        array("H", [slot for agent in staying for slot in range(len(agent.hello.worker_names))]),
        tuple(name for agent in staying for name in agent.hello.worker_names),
    )
