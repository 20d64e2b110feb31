"""Which GPUs a task sees: the variables that CUDA and ROCm read when a process first uses a device."""

from __future__ import annotations

import os

VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class VisibleDevices:
    """Sets the variables for tasks that ask for GPUs. Others find what the workers were started with."""

    def __init__(self) -> None:
        self.shown = b""
        """What the variables say now; empty: what they said at the start."""
        self._before = {name: os.environ.get(name) for name in VARIABLES}

    def show(self, devices: bytes) -> None:
        """Let the next task see these devices, separated by commas; empty: those that the worker was started with."""
        self.shown = devices
        for name in VARIABLES:
            value = devices.decode() if devices else self._before[name]
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
