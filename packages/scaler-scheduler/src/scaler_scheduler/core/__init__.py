"""The scheduler without sockets, clock or processes: events in, effects out. See `SchedulerCore`."""

from scaler_scheduler.config import ScalingConfig, SchedulerConfig
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.scheduler import SchedulerCore

__all__ = ["ScalingConfig", "SchedulerConfig", "SchedulerCore", "effects", "events"]
