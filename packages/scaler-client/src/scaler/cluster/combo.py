"""`SchedulerClusterCombo`, where programs written for earlier versions look for it."""

from scaler.local.combo import SchedulerClusterCombo

__all__ = ["SchedulerClusterCombo"]
