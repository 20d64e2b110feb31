"""Finds the systems and workloads: every module in their folders whose name does not begin with an underscore."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from benchmarks.system import System
from benchmarks.workload import Workload

T = TypeVar("T")

SYSTEM_ORDER = ("scaler", "processpool", "loky", "ray", "dask", "scaler199", "opengris")
"""How tables and pictures show them; others follow."""

WORKLOAD_ORDER = (
    *("submit", "map", "roundtrip", "busy", "sleep"),
    *("echo-bytes", "echo-numpy", "shared"),
    *("tree", "chain", "million", "future-chain", "future-tree", "future-fan-in", "fibonacci"),
    *("collections-array", "collections-dataframe", "collections-bag", "collections-delayed"),
    *("sizes", "durations", "clients", "agents", "calls", "lone"),
    *("start", "memory", "scheduler-cpu", "core-scale", "monitors"),
)


def systems() -> list[System]:
    """Return all systems, in the order in which they are shown."""
    found: list[System] = [module.SYSTEM for module in _modules("systems")]
    return sorted(found, key=lambda system: _rank(SYSTEM_ORDER, system.name))


def workloads() -> list[Workload]:
    """Return all workloads, in the order in which they run."""
    found: list[Workload] = [workload for module in _modules("workloads") for workload in module.WORKLOADS]
    return sorted(found, key=lambda workload: _rank(WORKLOAD_ORDER, workload.name))


def groups() -> dict[str, list[Workload]]:
    """Return the workloads that have a name in common, beside their own, for `--workload`."""
    return {
        "curves": [workload for workload in workloads() if workload.curves],
        "collections": [workload for workload in workloads() if workload.name.startswith("collections-")],
    }


def find_system(name: str) -> System:
    """Raises KeyError with the names there are."""
    return _named(name, {system.name: system for system in systems()})


def find_workload(name: str) -> Workload:
    """Raises KeyError with the names there are."""
    return _named(name, {workload.name: workload for workload in workloads()})


def _named(name: str, found: dict[str, T]) -> T:
    try:
        return found[name]
    except KeyError:
        raise KeyError(f"{name}: there is {', '.join(found)}") from None


def _rank(order: tuple[str, ...], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _modules(folder: str) -> list[ModuleType]:
    return [
        import_module(f"benchmarks.{folder}.{module.name}")
        for module in pkgutil.iter_modules([str(Path(__file__).parent / folder)])
        if not module.name.startswith("_")
    ]
