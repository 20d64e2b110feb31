"""What counts as left behind by a test when several processes run tests: what it made, and nothing of the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import own_surroundings
from tests.integration import deployment
from tests.integration.deployment import ROOT, traces


@pytest.fixture
def left() -> Iterator[Path]:
    """A folder whose maker has ended."""
    maker = subprocess.Popen([sys.executable, "-c", ""])
    maker.wait(30)
    folder = Path(f"/dev/shm/scaler-objects-{maker.pid}-test")
    folder.mkdir()
    yield folder
    folder.rmdir()


def test_what_somebody_has_left_is_ours_where_nobody_else_runs_tests(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_surroundings, "_others_use_shared_memory", False)
    assert left.name in traces().shared_memory


def test_with_others_it_is_ours_if_its_maker_was(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_surroundings, "_others_use_shared_memory", True)
    assert left.name not in traces().shared_memory
    monkeypatch.setattr(deployment, "_seen", {int(left.name.split("-")[2])})
    assert left.name in traces().shared_memory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a /dev/shm of its own")
def test_what_one_process_has_for_itself_the_others_do_not_see(left: Path, tmp_path: Path) -> None:
    program = """
import os, sys, tempfile
from tests.own_surroundings import others_use_shared_memory, take_own_surroundings
folder = sys.argv[1]
take_own_surroundings(folder)
assert tempfile.gettempdir() == folder == os.environ["TMPDIR"]
print(others_use_shared_memory(), os.listdir("/dev/shm"), oct(os.stat(folder).st_mode)[-4:])
open("/dev/shm/scaler-of-this-process", "w").close()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    if ended.stdout.startswith("True"):
        pytest.skip("no mount namespace can be made here")
    assert (ended.stdout, ended.stderr) == ("False [] 1777\n", "")
    assert left.exists()
    assert not Path("/dev/shm/scaler-of-this-process").exists()
