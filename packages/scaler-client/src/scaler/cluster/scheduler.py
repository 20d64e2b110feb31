"""`Scheduler`, where programs written for earlier versions look for it, by both of its names."""

from scaler.local.scheduler import Scheduler
from scaler.local.scheduler import Scheduler as SchedulerProcess

__all__ = ["Scheduler", "SchedulerProcess"]
