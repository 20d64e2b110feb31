"""The scheduler without sockets, clock or processes: events in, effects out.

`SchedulerCore` (scheduler) talks with peers: handshake, sessions, silence, and what each message means. `TaskLifecycle`
(lifecycle) is the one place where tasks change state; `Placement` (placement) decides once per batch of events who gets what.
They work on the tables of `SchedulerState` (state): `ReadyQueues`, `AgentPool`, `ClientRecord`, `Graph`, `FunctionRegistry`,
`Recovery`, `Monitor`, each of which keeps itself consistent. What is to be sent or done lies in `Outbox`.
"""

from scaler_scheduler.core.config import ScalingConfig, SchedulerConfig
from scaler_scheduler.core.effects import CallWebhook, Effect, KeepOwner, Publish, Send, Stop, ToStore
from scaler_scheduler.core.events import (
    Event,
    Incoming,
    PeerUnreachable,
    RelayedPeer,
    StopAnnounced,
    StopRequested,
    StoreLost,
    StoreReported,
    Tick,
    WebhookAnswered,
    WebhookFailed,
)
from scaler_scheduler.core.invariants import InvariantError, check_invariants
from scaler_scheduler.core.scheduler import SchedulerCore

__all__ = [
    "CallWebhook",
    "Effect",
    "Event",
    "Incoming",
    "InvariantError",
    "KeepOwner",
    "PeerUnreachable",
    "Publish",
    "RelayedPeer",
    "ScalingConfig",
    "SchedulerConfig",
    "SchedulerCore",
    "Send",
    "Stop",
    "StopAnnounced",
    "StopRequested",
    "StoreLost",
    "StoreReported",
    "Tick",
    "ToStore",
    "WebhookAnswered",
    "WebhookFailed",
    "check_invariants",
]
