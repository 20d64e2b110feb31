"""The tables of the scheduler, made once and shared by the parts of the core that work on them."""

from __future__ import annotations

from scaler_protocol.runtime.resources import parse_amounts
from scaler_scheduler.config import SchedulerConfig
from scaler_scheduler.core.agents import AgentPool
from scaler_scheduler.core.events import Peer
from scaler_scheduler.core.functions import FunctionRegistry
from scaler_scheduler.core.group_queues import GroupReadyQueues
from scaler_scheduler.core.groups import Groups
from scaler_scheduler.core.locks import LockTable
from scaler_scheduler.core.lost_attempts import LostAttempts
from scaler_scheduler.core.monitor import Monitor
from scaler_scheduler.core.outbox import MessageOutbox
from scaler_scheduler.core.ready import ReadyQueues
from scaler_scheduler.core.records import AgentRecord, ClientRecord, PeerRecord, Task
from scaler_scheduler.core.recovery import Recovery
from scaler_scheduler.core.storage_pressure import StoragePressure
from scaler_scheduler.core.timers import TaskTimers
from scaler_scheduler.policy.durations import MeanSeconds
from scaler_scheduler.policy.listed import PLACEMENT_POLICIES
from scaler_scheduler.policy.resources import ResourceRules


class Marks:
    """What handlers found to be done after the whole batch of events."""

    __slots__ = ("credit_due", "placement_due")

    def __init__(self) -> None:
        self.placement_due = False
        self.credit_due = False


class SchedulerState:
    """Each table is a class of its own, which keeps itself consistent."""

    def __init__(self, config: SchedulerConfig, now: float) -> None:
        self.config = config
        self.policy = PLACEMENT_POLICIES[config.allocate_policy]
        self.started_at = now
        self.peers: dict[Peer, PeerRecord] = {}
        """Everybody with a session; the clients among them are also in `clients`, the agents in `agents`."""
        self.clients: dict[bytes, ClientRecord] = {}
        self.inside_tasks: dict[bytes, bytes] = {}
        """Those of the clients that live in tasks, with their agents.

        While there are any, tasks that agents hold may wait for other tasks.
        """
        self.resources: ResourceRules[AgentRecord] = ResourceRules(parse_amounts(config.resources, keep_zeros=True))
        """What tasks need, counted per host and for the cluster."""
        self.resources.limits_are_known = not config.resources
        self.agents = AgentPool(self.resources)
        self.pressure = StoragePressure()
        self.groups = Groups(config.shares, now) if config.shares else None
        """None: clients are in no groups, and nothing is done for any."""
        self.ready = ReadyQueues(self.pressure) if self.groups is None else GroupReadyQueues(self.pressure, self.groups)
        self.functions = FunctionRegistry()
        self.recovery = Recovery()
        self.lost_attempts = LostAttempts()
        self.recovering: dict[Task, None] = {}
        """Tasks announced again after a restart, while agents may still claim them."""
        self.timers = TaskTimers()
        self.monitor = Monitor(config.incarnation, self.groups)
        self.monitor.standby = not config.is_first
        self.monitor.scheduler_address = config.address
        self.monitor.protected = config.protected
        self.outbox = MessageOutbox(self.monitor, self.agents)
        self.durations = MeanSeconds()
        """By (function, kind of task); kept up to date only where workers are asked for."""
        self.marks = Marks()
        # A cluster that ends with its scheduler has no clients of an earlier one, for whom it would have to wait.
        self.locks = LockTable(now if config.ends_cluster else now + config.recovery_grace_seconds)
        self.operators: set[bytes] | None = None
        """How the ids of clients begin that may end the cluster; None: every client may."""
