"""`AllocatePolicy`, which programs written for earlier versions give to `SchedulerClusterCombo` and `Scheduler`."""

from __future__ import annotations

from enum import StrEnum


class AllocatePolicy(StrEnum):
    """How tasks are assigned to workers. Each member is the text that `--allocate-policy` takes, which does as well."""

    even = "even"
    capability = "capability"
