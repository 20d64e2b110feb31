"""What code inside a task asks its processor, where programs written for earlier versions look for it."""

from __future__ import annotations

from scaler_protocol.runtime.task_context import TaskContext, current_task_context


class Processor:
    """The process that runs tasks; only asked, never made."""

    @staticmethod
    def get_current_processor() -> TaskContext | None:
        """Return the processor this code runs in, or None outside a worker."""
        return current_task_context()
