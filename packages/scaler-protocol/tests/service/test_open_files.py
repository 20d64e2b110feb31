"""The limit of open files, in processes of their own: it cannot be raised again where it was lowered."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from scaler_protocol.service.open_files import COMFORTABLE_FILES

PROGRAM = """
import logging, resource, sys
soft, hard = map(int, sys.argv[1:])
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from scaler_protocol.service.open_files import raise_open_files_limit
print(raise_open_files_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def raised(soft: int, hard: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.splitlines()


def test_the_limit_becomes_what_is_allowed_and_a_low_one_is_told() -> None:
    warning, limits = raised(100, 1000)
    assert limits == "1000 1000 1000"
    assert warning.startswith("WARNING this process may open 1000 files")
    assert "ulimit -Hn" in warning
    assert "LimitNOFILE" in warning


def test_a_high_limit_is_not_worth_a_line() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < COMFORTABLE_FILES:
        pytest.skip(f"this process may open {hard} files only")
    assert raised(100, COMFORTABLE_FILES) == [" ".join([str(COMFORTABLE_FILES)] * 3)]
