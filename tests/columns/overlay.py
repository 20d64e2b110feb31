"""A copy of `scaler_protocol` that has more columns than the real one: two for tasks, one for results.

The real one may have no column that a client fills in for a running task. Then the code that carries such columns does nothing,
and no other test would see a place that forgets them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "packages" / "scaler-protocol" / "src" / "scaler_protocol"

# What absence means differs from zero, so that whoever fills a gap with zeros is found out.
TASK_COLUMNS = {"marks": ("I", 7), "weights": ("Q", 0)}
RESULT_COLUMN = ("faults", "I", 9)


def make_overlay(folder: Path) -> None:
    """Write the copy into `folder`, which goes to the front of PYTHONPATH."""
    package = folder / "scaler_protocol"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    messages = package / "wire" / "messages.py"
    schema = package / "wire" / "schema" / "scaler.capnp"
    for name, (typecode, absent) in TASK_COLUMNS.items():
        for struct, hops in (("TaskBatch", "_TASK_AND_RUN"), ("GraphSubmit", "Hop.SUBMIT")):
            _insert(messages, rf"^class {struct}:\n.*?(?=\n\n\n)", f"\n{_declared(name, hops, typecode, absent)}")
            _add_to_schema(schema, struct, name)
    name, typecode, absent = RESULT_COLUMN
    declared = _declared(name, "_REPORT_AND_RESULT", typecode, absent)
    _insert(messages, r"^class ResultBatch:\n.*?\n(?=    object_positions: )", f"{declared}\n")
    _add_to_schema(schema, "ResultBatch", name)
    _insert(
        package / "wire" / "batch_rows.py", r"^class Reported.*?\n(?=\n    def cut)", f"    {name}: Column = EMPTY\n"
    )


def _declared(name: str, hops: str, typecode: str, absent: int) -> str:
    metadata = f'column(Shape.ROWS, {hops}, "{typecode}", absent={absent})'
    return f"    {name}: Column = field(default=EMPTY, metadata={metadata})"


def _add_to_schema(schema: Path, struct: str, name: str) -> None:
    fields = rf"^struct {struct} \{{\n(?:  \w+ @\d+ :[^\n]*\n|  #[^\n]*\n|   +#[^\n]*\n)+"
    found = re.search(fields, schema.read_text(), re.MULTILINE)
    if found is None:
        raise AssertionError(f"{schema.name} has no struct {struct} that begins with its fields")
    ordinal = 1 + max(map(int, re.findall(r"^  \w+ @(\d+) :", found.group(), re.MULTILINE)))
    _insert(schema, fields, f"  {name} @{ordinal} :Data;\n")


def _insert(path: Path, anchor: str, text: str) -> None:
    """Insert `text` behind what matches `anchor`, which has to be there once."""
    before = path.read_text()
    found = list(re.finditer(anchor, before, re.MULTILINE | re.DOTALL))
    if len(found) != 1:
        raise AssertionError(f"{path.name} has {len(found)} places that match {anchor!r}")
    end = found[0].end()
    path.write_text(before[:end] + text + before[end:])
