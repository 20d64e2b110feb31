"""The log format that docs/monitoring.md shows works for the records of tasks and for all others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"

PROGRAM = """
logging.getLogger("tasks").warning("theirs", extra={"task_id": 7})
logging.getLogger("program").info("ours")
"""


def test_the_example_shows_records_with_and_without_a_task() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "%(task_id)s" in block]
    program = "import logging\n" + example + PROGRAM
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines() == ["WARNING tasks task 7: theirs", "INFO program task -: ours"]
