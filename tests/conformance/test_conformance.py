"""The conformance table: every callable, value, exception and interruption by every road, against `ProcessPoolExecutor`.

The table runs twice, in processes of its own: with the user's classes in a module, and in `__main__`. `docs/conformance.md`
is made from the same records: SCALER_WRITE_CONFORMANCE=1 writes it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.differences import DIFFERENCES, Difference, Record, judge
from tests.conformance.document import render

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"
PROGRAMS = {
    "module": ["-m", "tests.conformance.program"],
    "__main__": [str(Path(__file__).with_name("user_code.py"))],
}
RUN_SECONDS = 560.0


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """All cells of both homes. The two programs run side by side."""
    folder = tmp_path_factory.mktemp("conformance")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    running = {}
    for home, program in PROGRAMS.items():
        with (folder / f"{home}.log").open("wb") as log:
            command = [sys.executable, *program, "--output", str(folder / f"{home}.json")]
            running[home] = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        for home, process in running.items():
            assert process.wait(RUN_SECONDS) == 0, (folder / f"{home}.log").read_text(errors="replace")[-20_000:]
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return [
        {**record, "home": home}
        for home in PROGRAMS
        for record in json.loads((folder / f"{home}.json").read_text(encoding="utf-8"))
    ]


@pytest.mark.timeout(600)
def test_every_difference_from_the_pool_is_on_purpose(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = judge(records)
    cells = verdict.cells
    with capsys.disabled():
        print(f"\n{cells['all']:,} cells, {cells['equal']:,} equal, {cells['different']:,} different on purpose")
    assert not verdict.problems, f"{len(verdict.problems)} problems:\n" + "\n".join(verdict.problems[:100])


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the page is made with Python 3.11")
@pytest.mark.timeout(600)
def test_the_document_is_up_to_date(records: list[Record]) -> None:
    text = render(records)
    if os.environ.get("SCALER_WRITE_CONFORMANCE"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "write it with SCALER_WRITE_CONFORMANCE=1"


def test_every_difference_has_its_reason() -> None:
    reasons = [difference.reason for difference in DIFFERENCES]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.endswith(".") and len(reason) > 30 for reason in reasons)


# --- the judge itself


def _record(**changes: Any) -> Record:
    return {
        "kind": "values",
        "item": "int",
        "road": "submit",
        "home": "module",
        "equal": False,
        "original": True,
        "ours": "",
        "pool": "TypeError: no",
        "against pool": "/value[0]: 'value' against 'raised'",
        "against original": "",
        **changes,
    }


def test_an_unexplained_difference_is_a_problem() -> None:
    (problem,) = judge([_record()], []).problems
    assert "values/int by submit (module)" in problem


def test_an_explained_difference_is_none() -> None:
    difference = Difference("Because.", ("values/int",))
    assert judge([_record()], [difference]).problems == []
    assert judge([_record()], [difference]).by_difference == {0: 1}


def test_a_difference_of_another_kind_than_listed_is_a_problem() -> None:
    assert judge([_record(original=False)], [Difference("Because.", ("values/int",))]).problems
    assert judge([_record(ours="ValueError: x")], [Difference("Because.", ("values/int",), ours="TypeError")]).problems


def test_a_difference_that_is_gone_is_a_problem() -> None:
    problems = judge([_record(equal=True)], [Difference("Because.", ("values/int",))]).problems
    assert any("no difference any more" in problem for problem in problems)


def test_a_difference_nobody_meets_is_a_problem() -> None:
    assert judge([_record(equal=True)], [Difference("Because.", ("values/str",))]).problems == [
        "listed, and met nowhere: Because."
    ]
