"""The tables of the scheduler, made once and shared by the parts of the core that work on them."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.agents import AgentPool
from scaler_scheduler.core.clients import ClientRecord
from scaler_scheduler.core.config import SchedulerConfig
from scaler_scheduler.core.functions import FunctionRegistry
from scaler_scheduler.core.monitor import Monitor
from scaler_scheduler.core.outbox import Outbox
from scaler_scheduler.core.ready import ReadyQueues
from scaler_scheduler.core.recovery import Recovery
from scaler_scheduler.core.tasks import Task
from scaler_scheduler.policy.durations import Durations


class Marks:
    """What handlers found to be done after the whole batch of events."""

    __slots__ = ("credit_due", "placement_due")

    def __init__(self) -> None:
        self.placement_due = False
        self.credit_due = False


class SchedulerState:
    """Each table is a module of its own, which owns its consistency."""

    def __init__(self, config: SchedulerConfig, now: float) -> None:
        self.config = config
        self.started_at = now
        self.clients: dict[bytes, ClientRecord] = {}
        self.agents = AgentPool()
        self.ready = ReadyQueues()
        self.functions = FunctionRegistry()
        self.recovery = Recovery()
        self.recovering: dict[Task, None] = {}
        """Tasks announced again after a restart, while agents may still claim them."""
        self.monitor = Monitor(config.incarnation)
        self.outbox = Outbox(self.monitor, self.agents)
        self.durations = Durations()
        """By (function, kind of task); kept up to date only where workers are asked for."""
        self.marks = Marks()

    def enter_rows(self, client: ClientRecord, tasks: Sequence[Task], now: float) -> None:
        """File the tasks that graph rows became: in the same step the caller queues or assigns them."""
        client.tasks.update((task.number, task) for task in tasks)
        self.functions.unfinished.update([task.function for task in tasks])
        if self.monitor.listening:
            # What came back from an agent and waited again has been told of before.
            new = [task for task in tasks if task.graph is not None and task.attempt == task.graph.attempts_before]
            self.monitor.record(m.TaskEvent.SUBMITTED, new, [task.number for task in new], "", now)
