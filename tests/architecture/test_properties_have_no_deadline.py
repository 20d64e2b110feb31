"""Properties that hypothesis checks do not fail because the machine is busy.

By default it gives an example 0.2 seconds, and few seconds to making up the first ones.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_property_may_take_as_long_as_it_takes() -> None:
    limited = []
    for path in [*ROOT.glob("packages/*/tests/**/test_*.py"), *ROOT.glob("tests/**/test_*.py")]:
        source = path.read_text(encoding="utf-8")
        if not re.search(r"^\s*@given\b", source, re.MULTILINE):
            continue
        said = [path, *(folder / "conftest.py" for folder in path.parents if ROOT in folder.parents)]
        settings = [each.read_text(encoding="utf-8") for each in said if each.exists()]
        if not any(
            "deadline=None" in text and re.search(r"HealthCheck\.too_slow|list\(HealthCheck\)", text)
            for text in settings
        ):
            limited.append(str(path.relative_to(ROOT)))
    assert limited == []
