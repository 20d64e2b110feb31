"""What a profiled task takes of its processor."""

from __future__ import annotations

from time import process_time

from scaler_worker.processor.memory import peak_bytes, reset_peak


class Measurement:
    """Made right before the task's function is called."""

    def __init__(self) -> None:
        reset_peak()
        self._cpu_started_at = process_time()

    def figures(self) -> dict[str, int]:
        """Return what the task has taken until now, by the names of columns of `Reported`."""
        return {"cpu_times": int((process_time() - self._cpu_started_at) * 1e6), "memory_peaks": peak_bytes()}
