"""Lets the tests import their synthetic cluster by name, and starts publishers and services that never stay behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from synthetic_cluster import SyntheticScheduler


@pytest.fixture
def scheduler() -> Iterator[SyntheticScheduler]:
    """A publisher that plays the scheduler."""
    with SyntheticScheduler() as scheduler:
        yield scheduler
