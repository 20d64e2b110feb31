"""How large an ECS task is started for tasks with counted resources, beyond what its task definition says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scaler_adapters.adapter import MalformedRequestError
from scaler_adapters.host_size import HostSize

UNITS = 1024
"""ECS's CPU units of one core."""

_FARGATE = (
    (256, (512, 1024, 2048)),
    (512, range(1024, 4096 + 1, 1024)),
    (1024, range(2048, 8192 + 1, 1024)),
    (2048, range(4096, 16384 + 1, 1024)),
    (4096, range(8192, 30720 + 1, 1024)),
    (8192, range(16384, 61440 + 1, 4096)),
    (16384, range(32768, 122880 + 1, 8192)),
)
"""CPU units of a task on Fargate, and the memory in MiB that it may have with them."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a task definition says of sizes, 0 where it says nothing: of the whole task, and of the workers' container."""

    container: str
    cpu_units: int = 0
    memory_mib: int = 0
    container_memory_mib: int = 0
    """The hard limit of its memory."""
    others_memory_mib: int = 0
    """Memory of the other containers."""


@dataclass(frozen=True, slots=True)
class TaskSize:
    """The size of one task. 0: what the definition says."""

    cpu_units: int = 0
    memory_mib: int = 0
    gpus: int = 0

    @property
    def host(self) -> HostSize:
        """What its workers offer."""
        return HostSize(self.cpu_units // UNITS, self.memory_mib, self.gpus)


def task_size(asked: HostSize, definition: Definition, *, is_fargate: bool) -> TaskSize:
    """Return the size of a task with at least what is asked for. Raises MalformedRequestError if Fargate has none."""
    if not (asked.cores or asked.memory_mib or asked.gpus):
        return TaskSize()
    cpu_units = max(asked.cores * UNITS, definition.cpu_units)
    memory_mib = max(asked.memory_mib + definition.others_memory_mib if asked.memory_mib else 0, definition.memory_mib)
    if not is_fargate:
        return TaskSize(cpu_units if asked.cores else 0, memory_mib if asked.memory_mib else 0, asked.gpus)
    for units, memories in _FARGATE:
        enough = next((memory for memory in memories if memory >= memory_mib), None)
        if units >= cpu_units and enough is not None:
            return TaskSize(units, enough)
    raise MalformedRequestError(f"Fargate has no task with {cpu_units / UNITS:g} cores and {memory_mib} MiB of memory")


def size_overrides(size: TaskSize, definition: Definition) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ECS is told, of the whole task and of the workers' container."""
    task: dict[str, Any] = {}
    container: dict[str, Any] = {}
    if size.cpu_units:
        # Without a size of the whole task, a container has its own.
        (task if definition.cpu_units else container)["cpu"] = size.cpu_units
    if size.memory_mib:
        if definition.memory_mib:
            task["memory"] = size.memory_mib
        if definition.container_memory_mib or not definition.memory_mib:
            container["memory"] = size.memory_mib - definition.others_memory_mib
    if size.gpus:
        container["resourceRequirements"] = [{"type": "GPU", "value": str(size.gpus)}]
    return {name: str(value) for name, value in task.items()}, container
