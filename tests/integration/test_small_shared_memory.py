"""Clusters whose `/dev/shm` is small, full, read-only, or full together with the temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.deployment import ROOT
from tests.integration.small_shared_memory import KINDS

RUN_SECONDS = 50.0

IN_A_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--kill-child", "--fork")


def _may_mount() -> bool:
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and not subprocess.run(
            [*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
        ).returncode
    )


@pytest.mark.without_keys("it starts a storage server by itself, which would need them")
@pytest.mark.skipif(not _may_mount(), reason="only root can have a /dev/shm of its own (unshare --mount)")
@pytest.mark.parametrize("kind", KINDS)
def test_values_find_room_whatever_dev_shm_has(kind: str, tmp_path: Path) -> None:
    output = tmp_path / "program.log"
    with output.open("wb") as log:
        done = subprocess.run(
            [*IN_A_NAMESPACE, sys.executable, "-m", "tests.integration.small_shared_memory", kind, str(tmp_path)],
            cwd=ROOT,
            timeout=RUN_SECONDS,
            stdout=log,
            stderr=log,
        )
    assert done.returncode == 0, "\n".join(
        f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}" for path in sorted(tmp_path.glob("*.log"))
    )
