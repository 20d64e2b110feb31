"""The client's core answers questions; what surrounds it reads none of its tables."""

from __future__ import annotations

import ast
from pathlib import Path

import scaler.client

CORE_NAMES = {"core", "_core"}

PARTS_MADE_FOR_ASKING = {"admission"}
"""Attributes of the core whose own attributes may be read."""


def reaches(source: str) -> list[str]:
    """Return every expression that names something private of a core, or something behind one of its attributes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        name = "" if isinstance(node.value, ast.Call) else ast.unparse(node.value)
        parts = name.split(".")
        if parts[-1] in CORE_NAMES and node.attr.startswith("_"):
            found.append(f"{name}.{node.attr}")
        if len(parts) > 1 and parts[-2] in CORE_NAMES and parts[-1] not in PARTS_MADE_FOR_ASKING:
            found.append(f"{name}.{node.attr}")
    return found


def test_what_counts_as_reaching_in() -> None:
    assert reaches("self._core.table.tasks") == ["self._core.table.tasks"]
    assert reaches("core._table") == ["core._table"]
    assert reaches("owner.core.admission.unusable; self.core.handle(event, now); core.snapshot().waiting") == []


def test_the_engine_reads_no_table_of_its_core() -> None:
    folder = Path(scaler.client.__file__).parent
    found = {path.name: reaches(path.read_text(encoding="utf-8")) for path in folder.glob("*.py")}
    assert len(found) > 20
    assert {name: places for name, places in found.items() if places} == {}
