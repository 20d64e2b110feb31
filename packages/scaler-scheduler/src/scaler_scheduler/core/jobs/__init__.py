"""Jobs: sets of tasks that outlive their client. Pure."""

from scaler_scheduler.core.jobs.following import RETRY_SECONDS
from scaler_scheduler.core.jobs.keeping import Jobs

__all__ = ["RETRY_SECONDS", "Jobs"]
