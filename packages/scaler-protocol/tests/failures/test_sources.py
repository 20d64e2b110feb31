"""Code by value brings its lines along: what its tracebacks show where its file does not exist."""

from __future__ import annotations

import linecache
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.by_value.sources import LINES_MAX

SOURCE = """
def outer(x):
    # the only word on it
    def inner(y):
        return x / y  # here

    return inner(0)

lam = lambda x: [1, 2][x]
"""
READER = """
import pickle, sys, traceback
function, argument = pickle.load(sys.stdin.buffer)
try:
    function(argument)
except Exception:
    traceback.print_exc(file=sys.stdout)
"""


def define(filename: str, *, known: bool = True) -> dict[str, Any]:
    """Run the source as a cell of a notebook is: under a name that is no file's."""
    if known:
        linecache.cache[filename] = (len(SOURCE), None, SOURCE.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SOURCE, filename, "exec"), scope)
    return scope


def traceback_elsewhere(function: Any, argument: object) -> str:
    """Return the traceback of a call in another process."""
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=by_value.dumps((function, argument)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=30,
    )
    return done.stdout.decode()


@pytest.mark.parametrize("filename", ["<ipython-input-7-0badcafe>", "/tmp/ipykernel_1/2.py", "script of mine.py"])
def test_a_traceback_elsewhere_reads_as_here(filename: str) -> None:
    scope = define(filename)
    for name, argument in (("outer", 1), ("lam", 7)):
        try:
            scope[name](argument)
        except Exception as error:
            here = "".join(traceback.format_exception(error)).split(f'  File "{filename}"', 1)[1]
        there = traceback_elsewhere(scope[name], argument).split(f'  File "{filename}"', 1)[1]
        assert there == here
        assert "# here" in there or name == "lam"


def test_lines_travel_once() -> None:
    scope = define("<ipython-input-8-0badcafe>")
    pickled = by_value.dumps(scope["outer"])
    assert pickled.count(b"# here") == 1
    assert by_value.dumps(scope["outer"]) == pickled
    restored = pickle.loads(pickled)
    assert restored.__code__.co_filename == "<ipython-input-8-0badcafe>"
    # From there on to others, as nested tasks do.
    assert by_value.dumps(restored).count(b"# here") == 1


def test_code_whose_lines_nobody_knows() -> None:
    scope = define("<string>", known=False)
    with pytest.raises(ZeroDivisionError):
        pickle.loads(by_value.dumps(scope["outer"]))(1)
    assert '  File "<string>", line 5, in inner' in traceback_elsewhere(scope["outer"], 1)


def test_a_very_long_function_goes_without_its_lines() -> None:
    filename = "<ipython-input-9-0badcafe>"
    source = "def long():\n" + "    x = 1  # padding\n" * (LINES_MAX + 1)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), scope)
    assert b"padding" not in by_value.dumps(scope["long"])


def test_a_file_that_is_here_is_read_itself(tmp_path: Path) -> None:
    path = tmp_path / "here.py"
    scope = define(str(path))
    pickled = by_value.dumps(scope["outer"])
    path.write_text(SOURCE.replace("# here", "# in the file"))
    linecache.cache.pop(str(path))
    pickle.loads(pickled)
    assert linecache.getline(str(path), 5) == "        return x / y  # in the file\n"
