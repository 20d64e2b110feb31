"""Every block of Python in the documents runs: a document is one program, on a cluster of this test.

Blocks that are no whole programs get what they leave out from `BEFORE` and `AROUND`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler import SchedulerClusterCombo

ROOT = Path(__file__).parents[2]
DOCUMENTED_ADDRESS = "tcp://127.0.0.1:2345"
_BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

RUN_ELSEWHERE = {
    "docs/adapters.md": "tests/deploy/test_adapter_guide.py",
    "docs/joblib.md": "tests/integration/test_joblib.py",
}
"""Documents whose blocks another module of tests runs."""
WITH_TESTS_OF_THEIR_OWN = {"docs/migration.md", "docs/workers.md"}
"""Pages about other programs and about workers' surroundings: their tests need more than a cluster."""

DOCUMENTS = [
    document
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
    if "```python" in path.read_text(encoding="utf-8")
    and (document := path.relative_to(ROOT).as_posix()) not in WITH_TESTS_OF_THEIR_OWN
]

_CLIENT = f"""
from scaler import Client, SchedulerClusterCombo
address = "{DOCUMENTED_ADDRESS}"
client = Client(address)
"""

BEFORE = {
    "docs/asyncio.md": """
        from contextlib import aclosing, asynccontextmanager
        from scaler import AsyncClient
        def price(order): return order
        async def orders():
            for number in range(3): yield number
    """,
    "docs/concepts.md": _CLIENT,
    "docs/capabilities.md": "from scaler import Client",
    "docs/coordination.md": _CLIENT,
    "docs/errors.md": _CLIENT,
    "docs/jobs.md": _CLIENT,
    "docs/names.md": _CLIENT,
    "docs/options.md": _CLIENT,
    "docs/many.md": _CLIENT
    + """
        open("events.log", "w").write("one\\ntwo\\n")
        def parse(line): return line.upper()
        def f(number): return number
        stored = []
        store = stored.append
    """,
    "docs/monitoring.md": _CLIENT
    + """
        import logging, scaler
        def work(item): return item
        items, graph, keys = [1, 2, 3], {"a": (work, 4)}, ["a"]
        futures = [client.submit(work, 5)]
    """,
    "docs/objects.md": _CLIENT
    + """
        prices, days = [10, 20, 30], range(3)
        def value(prices, day): return prices[day]
    """,
    "docs/security.md": """
        from scaler import Client, SchedulerClusterCombo
        from scaler_protocol.security.command import main as scaler_keys
        scaler_keys(["generate", "keys"])
        keyed = SchedulerClusterCombo(1, security="keys")
        scaler_keys(["connect", "keys", "--name", "client", "--address", keyed.get_address(), "-o", "pricing.scaler"])
    """,
    "docs/types.md": """
        from typing import Any
    """,
}
"""What a document's first block has not said: imports, a client, the reader's own functions."""

AROUND = {
    ("docs/asyncio.md", 1): (
        """
async def second():
  async with AsyncClient("tcp://127.0.0.1:2345") as client:
""",
        "asyncio.run(second())",
    ),
    ("docs/asyncio.md", 2): (
        "",
        """
import types
async def third():
    app = types.SimpleNamespace(state=types.SimpleNamespace())
    async with lifespan(app):
        print(await app.state.client.submit(abs, -1))
asyncio.run(third())
""",
    ),
    ("docs/types.md", 1): (
        """
client = Client("tcp://127.0.0.1:2345")
future = client.submit(str, 3)
def total(items): return len(items)
""",
        "",
    ),
}
"""What stands before and after a block, by document and number. A line that ends with a colon takes the block in."""

INSTEAD = {
    "docs/coordination.md": {'"report.txt"': '"/dev/null"'},
    "docs/dask.md": {"20_000": "2_000", "1000": "500"},
    "docs/security.md": {'"tcp://10.0.0.5:2345"': "keyed.get_address()", '"/etc/scaler/keys"': '"keys"'},
}
"""What a test has in place of what is too large for it, or lies elsewhere."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=2) as cluster:
        yield cluster.get_address()


def program_of(document: str, address: str) -> str:
    parts = [textwrap.dedent(piece) for piece in re.split(r"(?<=\n)(?=        )", BEFORE.get(document, ""), maxsplit=1)]
    for number, block in enumerate(_BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))):
        before, after = AROUND.get((document, number), ("", ""))
        parts += [before, textwrap.indent(block, "    ") if before.rstrip().endswith(":") else block, after]
    program = "\n".join(parts)
    for there, here in INSTEAD.get(document, {}).items():
        program = program.replace(there, here)
    return program.replace(DOCUMENTED_ADDRESS, address)


def promised(document: str) -> list[str]:
    """The values that comments after calls of `print` say come out."""
    blocks = "\n".join(_BLOCK.findall((ROOT / document).read_text(encoding="utf-8")))
    return re.findall(r"print\(.*\) +# ([\d\[{].*)$", blocks, re.MULTILINE)


def as_written(line: str) -> str:
    """A line that was printed, as comments write it: numbers with two decimals."""
    return re.sub(r"^\d+\.\d{3,}$", lambda number: f"{float(number[0]):.2f}", line)


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document not in RUN_ELSEWHERE])
def test_the_code_in_a_document_runs(document: str, address: str, tmp_path: Path) -> None:
    for module in {"docs/dask.md": ["dask.array"], "docs/monitoring.md": ["tqdm"]}.get(document, []):
        pytest.importorskip(module)
    (tmp_path / "program.py").write_text(program_of(document, address), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed = [as_written(line) for line in done.stdout.splitlines()]
    assert [value for value in promised(document) if value not in printed] == []


@pytest.mark.parametrize("document", RUN_ELSEWHERE)
def test_the_other_documents_are_run_by_other_tests(document: str) -> None:
    assert Path(document).name in (ROOT / RUN_ELSEWHERE[document]).read_text(encoding="utf-8")
