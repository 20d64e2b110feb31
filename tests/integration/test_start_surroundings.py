"""A local cluster starts whatever surrounds the program, and its tasks find the modules that the program finds.

Each test runs a program of its own, because what is tried belongs to a whole process: files beside the script, the way it was
started, its environment, its standard streams.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PROGRAM_S = 60

HEAD = """
import sys
from scaler import Client, Cluster, SchedulerClusterCombo
"""

PLAIN = (
    HEAD
    + """
def main():
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address(), timeout_seconds=20) as client:
        print(client.submit(pow, 2, 3).result(timeout=30))
        print(client.map(abs, [-1, -2]))

if __name__ == "__main__":
    main()
"""
)

PLAIN_SAYS = ["8", "[1, 2]"]


def run(
    arguments: Sequence[str],
    folder: Path,
    environment: dict[str, str | None] | None = None,
    text: str | None = None,
    before: Callable[[], object] | None = None,
) -> list[str]:
    """Run Python with these arguments in `folder`; return what it says on stdout, line by line."""
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={name: value for name, value in variables.items() if value is not None},
        input=text,
        preexec_fn=before,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=PROGRAM_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


# --- names of the standard library and of ours beside the script


TAKEN_NAMES = """
    asyncio configparser capnp ctypes dataclasses fcntl html inspect ipaddress logging mmap platform pydantic queue random
    runpy scaler_protocol scaler_scheduler scaler_worker secrets select signal statistics tomllib types typing uuid zmq
"""


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A folder full of modules that nobody but the user may mean."""
    folder = tmp_path / "taken"
    for name in TAKEN_NAMES.split():
        write(folder / f"{name}.py", f"raise SystemExit('{name} of the user was imported')")
    return folder


def test_files_in_the_working_directory(tmp_path: Path, taken: Path) -> None:
    script = write(tmp_path / "elsewhere" / "program.py", PLAIN)
    assert run([str(script)], taken) == PLAIN_SAYS


@pytest.mark.without_keys("what reads keys is imported with them, and not before")
def test_a_working_directory_in_the_path(taken: Path) -> None:
    # As in a notebook or an interactive session; what the client needs was imported before.
    program = f"import scaler.client.operations, scaler_protocol.service.child, sys\nsys.path.insert(0, '')\n{PLAIN}"
    assert run(["-P", "-c", program], taken) == PLAIN_SAYS


NAMES_FOR_SERVICES = ("secrets", "queue", "runpy", "statistics", "configparser", "pydantic", "zmq")
"""Only such as the client does not import: Python itself gives the script's folder, and PYTHONPATH, precedence there."""


def test_files_beside_the_script(tmp_path: Path) -> None:
    script = write(tmp_path / "program.py", PLAIN)
    for name in NAMES_FOR_SERVICES:
        write(tmp_path / f"{name}.py", f"raise SystemExit('{name} of the user was imported')")
    assert run([str(script)], tmp_path) == PLAIN_SAYS


def test_files_in_pythonpath(tmp_path: Path) -> None:
    script = write(tmp_path / "elsewhere" / "program.py", PLAIN)
    for name in set(NAMES_FOR_SERVICES):
        write(tmp_path / "library" / f"{name}.py", f"raise SystemExit('{name} of the user was imported')")
    assert run([str(script)], tmp_path, {"PYTHONPATH": str(tmp_path / "library")}) == PLAIN_SAYS


def test_a_user_s_module_of_such_a_name_is_what_tasks_import(tmp_path: Path) -> None:
    write(tmp_path / "statistics.py", "def mean(values): return 'mine'")
    program = (
        HEAD
        + """
import statistics
with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
    print(client.submit(statistics.mean, [1, 2]).result(timeout=30))
"""
    )
    script = write(tmp_path / "program.py", program)
    assert run([str(script)], Path("/")) == ["mine"]


# --- modules of the program


SEES = (
    HEAD
    + """
import os
{imports}

def inside():
    import beside
    return beside.NAME

def nested(client):
    import beside
    return client.submit(beside.name).result(timeout=30)

def main():
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
        import beside
        print(client.submit(beside.name).result(timeout=30))
        print(client.submit(inside).result(timeout=30))
        print(client.submit(str, beside.Thing()).result(timeout=30))
        print(client.map(beside.double, [1, 2]))
        print(client.get({{"a": 1, "b": (beside.double, "a")}}, ["b"]))
        print(client.submit(nested, client).result(timeout=30))
        print(client.submit(beside.name).result(timeout=30))

if __name__ == "__main__":
    main()
"""
)

BESIDE = """
    NAME = "beside"
    def name(): return NAME
    def double(x): return 2 * x
    class Thing:
        def __str__(self): return "thing"
"""

SEES_SAYS = ["beside", "beside", "thing", "[2, 4]", "{'b': 2}", "beside", "beside"]


def test_modules_beside_a_script_that_runs_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "project" / "beside.py", BESIDE)
    script = write(tmp_path / "project" / "program.py", SEES.format(imports=""))
    (tmp_path / "other").mkdir()
    assert run([str(script)], tmp_path / "other") == SEES_SAYS


def test_what_is_inserted_into_the_path(tmp_path: Path) -> None:
    write(tmp_path / "library" / "beside.py", BESIDE)
    script = write(tmp_path / "program.py", SEES.format(imports=f"sys.path.insert(0, {str(tmp_path / 'library')!r})"))
    assert run([str(script)], tmp_path) == SEES_SAYS


def test_a_relative_entry_means_the_client_s_directory(tmp_path: Path) -> None:
    write(tmp_path / "library" / "beside.py", BESIDE)
    script = write(tmp_path / "program.py", SEES.format(imports="sys.path.insert(0, 'library')"))
    assert run([str(script)], tmp_path) == SEES_SAYS


def test_what_is_inserted_into_the_path_later(tmp_path: Path) -> None:
    write(tmp_path / "library" / "beside.py", BESIDE)
    write(tmp_path / "more" / "further.py", "def name(): return 'further'")
    program = (
        HEAD
        + f"""
def inside():
    import further
    return further.name()

with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
    print(client.submit(pow, 2, 3).result(timeout=30))
    sys.path.insert(0, {str(tmp_path / "library")!r})
    import beside
    print(client.submit(beside.name).result(timeout=30))
    sys.path.append({str(tmp_path / "more")!r})
    print(client.submit(inside).result(timeout=30))
    try:
        client.submit(__import__, "nowhere_at_all").result(timeout=30)
    except ModuleNotFoundError as error:
        print(error)
"""
    )
    script = write(tmp_path / "program.py", program)
    assert run([str(script)], tmp_path) == ["8", "beside", "further", "No module named 'nowhere_at_all'"]


def test_a_program_run_as_a_module_of_a_package(tmp_path: Path) -> None:
    write(tmp_path / "pkg" / "__init__.py", "")
    write(
        tmp_path / "pkg" / "sub" / "mod.py", SEES.format(imports="").replace("import beside", "from pkg import beside")
    )
    write(tmp_path / "pkg" / "beside.py", BESIDE)
    (tmp_path / "pkg" / "sub" / "__init__.py").touch()
    assert run(["-m", "pkg.sub.mod"], tmp_path) == SEES_SAYS


def test_a_program_on_the_command_line_and_on_standard_input(tmp_path: Path) -> None:
    write(tmp_path / "beside.py", BESIDE)
    program = SEES.format(imports="")
    assert run(["-c", program], tmp_path) == SEES_SAYS
    assert run(["-"], tmp_path, text=program) == SEES_SAYS


def test_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("beside.py", textwrap.dedent(BESIDE))
        archive.writestr("__main__.py", SEES.format(imports=""))
    (tmp_path / "other").mkdir()
    assert run(["../program.zip"], tmp_path / "other") == SEES_SAYS


def test_a_package_spread_over_two_folders(tmp_path: Path) -> None:
    write(tmp_path / "one" / "spread" / "first.py", "def name(): return 'first'")
    write(tmp_path / "two" / "spread" / "second.py", "def name(): return 'second'")
    program = (
        HEAD
        + f"""
sys.path.insert(0, {str(tmp_path / "one")!r})
with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
    import spread.first
    print(client.submit(spread.first.name).result(timeout=30))
    sys.path.insert(0, {str(tmp_path / "two")!r})
    import spread.second
    print(client.submit(spread.second.name).result(timeout=30))
"""
    )
    script = write(tmp_path / "elsewhere" / "program.py", program)
    assert run([str(script)], tmp_path) == ["first", "second"]


def test_a_preload_beside_the_script(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ahead.py", "DONE = []\ndef load(): DONE.append(1)\ndef done(): return len(DONE)")
    program = (
        HEAD
        + """
import ahead
with SchedulerClusterCombo(n_workers=1, preload="ahead:load()") as combo, Client(combo.get_address()) as client:
    print(client.submit(ahead.done).result(timeout=30))
"""
    )
    script = write(tmp_path / "project" / "program.py", program)
    assert run([str(script)], Path("/")) == ["1"]


def test_workers_started_by_hand_look_in_their_directory_and_say_where_they_looked(tmp_path: Path) -> None:
    """The client's path means nothing to them; a missing module is named with worker and places."""
    write(tmp_path / "host" / "beside.py", BESIDE)
    write(tmp_path / "host" / "secrets.py", "raise SystemExit('secrets of the user was imported')")
    program = (
        HEAD
        + f"""
import os, subprocess
sys.path.insert(0, {str(tmp_path / "host")!r})
sys.path.insert(0, {str(tmp_path / "here")!r})
with SchedulerClusterCombo(n_workers=0) as combo:
    worker = subprocess.Popen(
        [sys.executable, "-m", "scaler_worker", combo.get_address(), "-wn", "far-1", "-ll", "ERROR"],
        cwd={str(tmp_path / "host")!r},
    )
    try:
        with Client(combo.get_address()) as client:
            import beside, only_here
            print(client.submit(beside.name).result(timeout=30))
            for call in (
                lambda: client.submit(only_here.name).result(timeout=30),
                lambda: client.submit(str, only_here.Thing()).result(timeout=30),
                lambda: client.map(only_here.name, [1]),
                lambda: client.get({{"a": (only_here.name,)}}, ["a"]),
            ):
                try:
                    call()
                except Exception as error:
                    print(type(error).__name__, error)
    finally:
        worker.terminate()
        worker.wait()
"""
    )
    write(tmp_path / "here" / "only_here.py", "def name(*_): return 1\nclass Thing: pass")
    script = write(tmp_path / "elsewhere" / "program.py", program)
    name, *errors = run([str(script)], tmp_path)
    assert name == "beside"
    assert len(errors) == 4
    for error, what in zip(errors, ("function", "arguments", "function", "function"), strict=True):
        assert error.startswith(
            f"DeserializeObjectError the {what} of the task could not be restored on worker far-1: "
            "ModuleNotFoundError: No module named 'only_here'. The worker looks for modules in: "
        )
        assert str(tmp_path / "host") in error
        assert error.endswith("; install 'only_here' there")


# --- the rest of the surroundings


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_closed_standard_streams(tmp_path: Path, closed: tuple[int, ...]) -> None:
    program = (
        HEAD
        + """
def say():
    print("said")
    print("said", file=sys.stderr)
    return 4

with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address(), timeout_seconds=20) as client:
    with open("answer", "w") as file:
        print(client.submit(pow, 2, 3).result(timeout=30) + client.submit(say).result(timeout=30), file=file)
"""
    )
    script = write(tmp_path / "program.py", program)
    closing = """
import os, sys
for number in sys.argv[2:]:
    os.close(int(number))
os.execv(sys.executable, [sys.executable, sys.argv[1]])
"""
    run(["-c", closing, str(script), *map(str, closed)], tmp_path)
    assert (tmp_path / "answer").read_text() == "12\n"


def test_a_command_with_closed_standard_streams(tmp_path: Path) -> None:
    program = (
        HEAD
        + """
import subprocess
with SchedulerClusterCombo(n_workers=0) as combo, Client(combo.get_address(), timeout_seconds=20) as client:
    command = [sys.executable, "-m", "scaler_worker", combo.get_address(), "-n", "1"]
    worker = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command])
    try:
        print(client.submit(pow, 2, 3).result(timeout=30))
    finally:
        worker.terminate()
        print(worker.wait())
"""
    )
    assert run(["-c", program], tmp_path) == ["8", "0"]


def test_a_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = write(tmp_path / "program.py", f"import os\nos.chdir({str(gone)!r})\nos.rmdir({str(gone)!r})\n{PLAIN}")
    assert run([str(script)], tmp_path) == PLAIN_SAYS
    program = f"import os, sys\nos.makedirs({str(gone)!r})\nos.chdir({str(gone)!r})\nos.rmdir({str(gone)!r})\n{PLAIN}"
    assert run(["-c", program], tmp_path) == PLAIN_SAYS


ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "startup": {"PYTHONSTARTUP": "/nowhere/startup.py"},
    "optimize": {"PYTHONOPTIMIZE": "2"},
    "unbuffered": {"PYTHONUNBUFFERED": "1"},
    "warnings": {"PYTHONWARNINGS": "error"},
    "development": {"PYTHONDEVMODE": "1"},
    "c locale": {"LANG": "C", "LC_ALL": "C"},
    "posix without utf-8": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "no home": {"HOME": None},
    "no path": {"PATH": None},
    "no temporary folder": {"TMPDIR": "/nowhere/at/all"},
    "safe path": {"PYTHONSAFEPATH": "1"},
    "empty path": {"PYTHONPATH": ""},
    "odd path": {"PYTHONPATH": ":/nowhere:relative/folder:/dev/null:"},
    "no bytecode": {"PYTHONDONTWRITEBYTECODE": "1"},
    "hash seed": {"PYTHONHASHSEED": "0"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_odd_environments(tmp_path: Path, environment: dict[str, str | None]) -> None:
    script = write(tmp_path / "program.py", PLAIN)
    lines = run([str(script)], tmp_path, environment)
    # In development mode asyncio warns of turns that take 100 ms, as they do on a loaded machine.
    assert [line for line in lines if " Executing <" not in line] == PLAIN_SAYS


def test_a_long_temporary_folder(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 200] * 5)
    folder.mkdir(parents=True)
    script = write(tmp_path / "program.py", PLAIN)
    assert run([str(script)], tmp_path, {"TMPDIR": str(folder)}) == PLAIN_SAYS


def test_a_mask_that_takes_everything(tmp_path: Path) -> None:
    script = write(tmp_path / "program.py", PLAIN)
    assert run([str(script)], tmp_path, before=lambda: os.umask(0o777)) == PLAIN_SAYS


def test_tasks_see_the_environment_of_their_program(tmp_path: Path) -> None:
    program = (
        HEAD
        + """
import os
def variables():
    return {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "SCALER"))}
with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
    print(client.submit(variables).result(timeout=30) == variables())
"""
    )
    script = write(tmp_path / "program.py", program)
    assert run([str(script)], tmp_path, {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}) == ["True"]
    assert run([str(script)], tmp_path, {"PYTHONPATH": None}) == ["True"]
