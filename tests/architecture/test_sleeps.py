"""Tests wait for conditions, with `scaler_protocol.testing.waiting`. What sleeps all the same says why, on the same line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLEEPS = {"sleep", "time.sleep", "asyncio.sleep"}
REASON = "# sleeps: "


def folders_of_tests() -> list[Path]:
    return [*ROOT.glob("packages/*/tests"), ROOT / "tests", ROOT / "simulation"]


def sleeping_lines(source: str) -> Iterator[int]:
    """Yield the lines on which something sleeps without a reason. `asyncio.sleep(0)` only lets others run."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        yields = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if name in SLEEPS and not yields and REASON not in lines[node.lineno - 1]:
            yield node.lineno


@pytest.mark.parametrize("folder", folders_of_tests(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_what_sleeps_says_why(folder: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(folder.rglob("*.py"))
        for line in sleeping_lines(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"wait for a condition (scaler_protocol.testing.waiting), or end the line with '{REASON}…'"


def test_a_sleep_without_a_reason_is_found() -> None:
    source = (
        "time.sleep(1)\nawait asyncio.sleep(0)\nsleep(2)  # sleeps: it takes so long\nawait asyncio.sleep(seconds)\n"
    )
    assert list(sleeping_lines(f"async def f():\n    {source.replace(chr(10), chr(10) + '    ')}")) == [2, 5]
