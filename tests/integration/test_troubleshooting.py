"""The messages in docs/troubleshooting.md are those that Scaler writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import scaler.errors

ROOT = Path(__file__).parents[2]
MESSAGES = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "packages").glob("*/src/**/*.py")]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_that_exists(message: str) -> None:
    if message == "ModuleNotFoundError":
        return
    assert hasattr(scaler.errors, message) or any(message in source for source in SOURCES)
