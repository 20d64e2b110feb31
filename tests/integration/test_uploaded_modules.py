"""`Client.upload_modules`, on clusters of real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler import AsyncClient, Client, DeserializeObjectError, SchedulerClusterCombo
from tests.integration.deployment import Deployment, wait_for

EDITED = """
import sys
from scaler import Client
import edited_between_runs
with Client(sys.argv[1]) as client:
    print(client.submit(edited_between_runs.value).result(), client.map(lambda _: edited_between_runs.value(), [1, 2])[0])
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=1) as cluster:
        yield cluster.get_address()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def module(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"VALUE = {value!r}\nCALLS = []\n\ndef value():\n    CALLS.append(1)\n    return VALUE\n")
    return path


def value_of(name: str) -> Any:
    return __import__(name).value()


def is_there(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


# First those with deployments of their own: the cluster of the others starts and stops processes meanwhile.


def test_a_program_that_is_run_again_after_an_edit_runs_the_new_code(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(EDITED)
    scheduler = deployment.scheduler()
    workers = deployment.start("scaler_worker", scheduler.address, "-n", "2", PYTHONPATH=str(tmp_path))
    for value in (1, 22, 333):
        module(tmp_path / "edited_between_runs.py", value)
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-B", "program.py", scheduler.address],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert done.stdout.split() == [str(value)] * 2
    workers.wait_log("edited_between_runs.py was edited after a task had imported it here")


def test_large_ones_and_workers_that_come_later(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "uploaded_large.py"
    path.write_text(f"DATA = {os.urandom(200_000).hex()!r}\n\ndef value():\n    return len(DATA)\n")
    scheduler = deployment.scheduler()
    with deployment.client(scheduler) as client:
        client.upload_modules(path)
        workers = deployment.workers(scheduler, count=1)
        assert client.submit(value_of, "uploaded_large").result() == 400_000
        os.kill(client.submit(os.getpid).result(), signal.SIGKILL)
        assert client.submit(value_of, "uploaded_large").result() == 400_000
        workers.kill()
        deployment.workers(scheduler, count=1)
        assert client.submit(value_of, "uploaded_large").result() == 400_000


def test_a_module_and_a_new_version_of_it(client: Client, tmp_path: Path) -> None:
    path = module(tmp_path / "uploaded_one.py", 1)
    client.upload_modules(path)
    assert client.map(value_of, ["uploaded_one"] * 5) == [1] * 5
    assert client.get({"a": (value_of, "uploaded_one")}, ["a"]) == {"a": 1}
    module(path, 2)
    assert client.submit(value_of, "uploaded_one").result() == 1
    client.upload_modules([str(path)])
    assert client.submit(value_of, "uploaded_one").result() == 2
    # Its state is kept from one task to the next.
    client.upload_modules([path])
    assert client.submit(lambda: len(__import__("uploaded_one").CALLS)).result() == 1


def test_functions_of_uploaded_modules(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path / "uploaded_far.py", "far")
    monkeypatch.syspath_prepend(str(tmp_path))
    import uploaded_far  # type: ignore[import-not-found]

    # The processors of a local cluster find what is on our path when they look; this one is not there any more.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    with pytest.raises(DeserializeObjectError):
        client.submit(uploaded_far.value).result()
    client.upload_modules(tmp_path / "uploaded_far.py")
    assert client.submit(uploaded_far.value).result() == "far"
    module(tmp_path / "uploaded_far.py", "farther")
    client.upload_modules(tmp_path / "uploaded_far.py")
    assert client.submit(uploaded_far.value).result() == "farther"


def test_a_package_with_data_and_its_source_in_tracebacks(client: Client, tmp_path: Path) -> None:
    package = tmp_path / "uploaded_package"
    module(package / "inner" / "deep.py", "deep")
    (package / "__init__.py").write_text(
        "from .inner.deep import value\n\ndef fail():\n    raise ValueError('here')  # so\n"
    )
    (package / "table.txt").write_text("data")
    (package / "__pycache__").mkdir()
    client.upload_modules(package)
    assert client.submit(value_of, "uploaded_package").result() == "deep"
    assert client.submit(data_of, "uploaded_package").result() == "data"
    with pytest.raises(ValueError, match="here") as caught:
        client.submit(lambda: __import__("uploaded_package").fail()).result()
    assert "raise ValueError('here')  # so" in "".join(traceback.format_exception(caught.value))


def data_of(package: str) -> str:
    from importlib.resources import files

    return files(package).joinpath("table.txt").read_text()


@pytest.mark.parametrize("suffix", ["zip", "whl", "egg"])
def test_archives(client: Client, tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"tools-1.0.{suffix}"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("uploaded_tools/__init__.py", "def value():\n    return 'tools'\n")
        file.writestr("tools-1.0.dist-info/METADATA", "Name: tools\n")
    client.upload_modules([archive])
    assert client.submit(value_of, "uploaded_tools").result() == "tools"


def test_of_two_clients_each_finds_its_version(address: str, tmp_path: Path) -> None:
    one, two = (
        module(tmp_path / "one" / "uploaded_same.py", "one"),
        module(tmp_path / "two" / "uploaded_same.py", "two"),
    )
    with Client(address) as first, Client(address) as second, Client(address) as without:
        first.upload_modules(one)
        second.upload_modules(two)
        futures = [
            (expected, client.submit(value_of, "uploaded_same"))
            for _ in range(10)
            for expected, client in (("one", first), ("two", second))
        ]
        assert [future.result() for _, future in futures] == [expected for expected, _ in futures]
        # There is one process: it has run both.
        assert first.submit(os.getpid).result() == second.submit(os.getpid).result()
        assert not without.submit(is_there, "uploaded_same").result()
        assert first.submit(lambda: len(__import__("uploaded_same").CALLS)).result() == 10


def test_a_module_that_is_installed_is_put_aside(address: str, tmp_path: Path) -> None:
    with Client(address) as first, Client(address) as second:
        assert second.submit(lambda: __import__("cmath").__name__).result() == "cmath"
        first.upload_modules(module(tmp_path / "colorama.py", "mine"))
        assert first.submit(value_of, "colorama").result() == "mine"


def test_nested_clients_inherit_them(client: Client, tmp_path: Path) -> None:
    client.upload_modules(module(tmp_path / "uploaded_nested.py", "nested"))
    assert client.submit(nested, "uploaded_nested").result() == "nested"
    with pytest.raises(ValueError, match="inside a task"):
        client.submit(upload_inside, str(tmp_path / "uploaded_nested.py")).result()


def nested(name: str) -> Any:
    with Client() as client:
        return client.submit(value_of, name).result()


def upload_inside(path: str) -> None:
    with Client() as client:
        client.upload_modules(path)


def test_an_edit_that_has_no_effect_is_told(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module(tmp_path / "edited_helper.py", 1)
    (tmp_path / "edited_user.py").write_text("import edited_helper\n\ndef value():\n    return edited_helper.value()\n")
    uploaded = module(tmp_path / "edited_upload.py", 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    import edited_user  # type: ignore[import-not-found]

    client.upload_modules([uploaded])
    assert client.submit(edited_user.value).result() == 1
    for name in ("edited_helper.py", "edited_upload.py"):
        module(tmp_path / name, 22)

    def told() -> bool:
        client.submit(edited_user.value).result()
        parts = ("edited_helper.py was edited after functions", "edited_upload.py was edited after it")
        return all(part in caplog.text for part in parts)

    wait_for("no word of the edit", told)
    for path in (tmp_path / "edited_helper.py", tmp_path / "edited_user.py", uploaded):
        client.upload_modules(path)
    assert client.submit(edited_user.value).result() == 22


def test_async_client(address: str, tmp_path: Path) -> None:
    path = module(tmp_path / "uploaded_async.py", "async")

    async def work() -> Any:
        async with AsyncClient(address) as client:
            await client.upload_modules([path])
            return await client.submit(value_of, "uploaded_async")

    assert asyncio.run(work()) == "async"


def test_what_cannot_be_uploaded(client: Client, tmp_path: Path) -> None:
    (tmp_path / "json.py").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "no-name.py").touch()
    (tmp_path / "broken.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    module(tmp_path / "compiled" / "__init__.py", 1)
    (tmp_path / "compiled" / "fast.so").touch()
    for name, text in (
        ("json.py", "workers themselves need the module json"),
        ("notes.txt", "is no Python module"),
        ("no-name.py", "must be an identifier"),
        ("broken.zip", "no zip archive that can be read"),
        ("empty", "no module that could be imported"),
        ("compiled", "compiled file compiled/fast.so"),
        ("compiled/__init__.py", "part of a package"),
    ):
        with pytest.raises(ValueError, match=text):
            client.upload_modules(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        client.upload_modules("missing.py")
    wrong: Any
    for wrong in (3, [3], b"x.py"):
        with pytest.raises(TypeError, match="path"):
            client.upload_modules(wrong)
