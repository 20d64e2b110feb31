"""Names of keys, as `scaler_keys` takes them: what it makes lies in the directory, and is gone when the key is revoked."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from scaler_protocol.security.command import main

_folder = tempfile.TemporaryDirectory()
_directory = Path(_folder.name) / "keys"


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    return [b"pricing", b"../pricing", b"a.key", b"server", b"client", b".", b"x" * 300, b"two words", b"\xc3\xa4\n"]


def _run(*words: str) -> int | str | None:
    try:
        return main(words)
    except SystemExit as end:
        return end.code


def _files() -> set[str]:
    return {str(path) for path in Path(_folder.name).rglob("*")}


def run(data: bytes) -> None:
    """See `fuzzing`."""
    name = os.fsdecode(data)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if not _directory.exists():
            assert _run("generate", str(_directory)) == 0
        before = _files()
        if _run("add", str(_directory), "--role", "client", f"--name={name}"):
            assert _files() == before
            return
        assert _run("list", str(_directory)) == 0
        assert len(_files() - before) == 1
        assert _run("revoke", str(_directory), "--", name) == 0
        assert _files() == before
