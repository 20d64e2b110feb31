"""Tests are checked like everything else: no file relaxes `mypy --strict` for itself."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("packages", "tests", "simulation", "examples", "benchmarks", "scripts")
RELAXATION = re.compile(r"^# mypy:", re.MULTILINE)


def test_no_file_relaxes_the_type_checker() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if RELAXATION.search(path.read_text(encoding="utf-8"))
    ]
    assert not found
