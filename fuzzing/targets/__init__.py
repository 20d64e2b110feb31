"""What is fuzzed: one module for each target. See `fuzzing`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Protocol


class Target(Protocol):
    """What every module here has."""

    def seeds(self) -> Iterable[bytes]:
        """Return inputs to begin with."""

    def run(self, data: bytes) -> None:
        """Hand one input to the code under test."""


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Target:
    """Import a target."""
    target: Target = importlib.import_module(f"{__name__}.{name}")
    return target
