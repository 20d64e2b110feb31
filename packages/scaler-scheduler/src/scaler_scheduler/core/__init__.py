"""The scheduler without sockets, clock or processes: events in, effects out.

Who owns what: `SchedulerCore` (scheduler) the conversation with peers and the task transitions; `ReadyQueues` (ready) what
waits for a worker; `AgentPool` (agents) who could take it; `Graph` (graphs) what waits for predecessors; `FunctionRegistry`
(functions) bodies; `Recovery` (recovery) what agents hold of clients that are not back yet; `Monitor` (monitor) the figures.
"""

from scaler_scheduler.core.config import SchedulerConfig
from scaler_scheduler.core.effects import Effect, Publish, Send, Stop, ToStore
from scaler_scheduler.core.events import Event, Incoming, PeerUnreachable, RelayedPeer, StopRequested, StoreLost, Tick
from scaler_scheduler.core.invariants import InvariantError, check_invariants
from scaler_scheduler.core.scheduler import SchedulerCore

__all__ = [
    "Effect",
    "Event",
    "Incoming",
    "InvariantError",
    "PeerUnreachable",
    "Publish",
    "RelayedPeer",
    "SchedulerConfig",
    "SchedulerCore",
    "Send",
    "Stop",
    "StopRequested",
    "StoreLost",
    "Tick",
    "ToStore",
    "check_invariants",
]
