"""Command lines of `scaler_keys`: status 0, or 2 and one line that says why; the directory can be read after each.

Words name nothing outside of a folder that is removed afterwards.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

from scaler_protocol.security.command import main
from scaler_protocol.security.connection_file import read_connection
from scaler_protocol.security.directory import ALLOWED_KEYS, load_server, read_allowed

COMMANDS_MAX = 3
WORDS_MAX = 10
NAME_BYTES_MAX = 200

_folder = tempfile.TemporaryDirectory()
_made = Path(_folder.name) / "keys"


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    lines = (
        "add keys --role client --name pricing",
        "add keys --role worker --name a|list keys|revoke keys a",
        "rotate keys client|revoke keys client.earlier",
        "export keys client out|list out",
        "export keys server out|list out",
        "connect keys --name client --address tcp://127.0.0.1:1 -o made",
        "generate keys|generate other|list other",
        "--version|-h|add -h",
        "list nowhere|add keys --role nobody --name x|connect keys --name client --address x -o made",
    )
    return [line.replace(" ", "\0").replace("|", "\n").encode() for line in lines]


def _words(line: bytes) -> list[str] | None:
    words = [os.fsdecode(word[:NAME_BYTES_MAX]) for word in line.split(b"\0")]
    for word in words:
        value = word.partition("=")[2] or word.removeprefix("-o")
        for path in (word, value):
            if path.startswith(("/", "~")) or ".." in path.split("/"):
                return None
    return words if len(words) <= WORDS_MAX else None


def run(data: bytes) -> None:
    """See `fuzzing`. Lines are commands, and zero bytes stand between their words."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if not _made.exists():
            assert _status(["generate", str(_made)])[0] == 0
        shutil.copytree(_made, "keys")
        for line in data.split(b"\n")[:COMMANDS_MAX]:
            words = _words(line)
            if words is None:
                return
            status, said = _status(words)
            assert status in (0, 2), status
            assert status == 0 or said.count("\n") == 1, said
            read_allowed(Path("keys", ALLOWED_KEYS))
            if Path("made").exists():
                read_connection(Path("made"))
            load_server(Path("keys"))


def _status(words: list[str]) -> tuple[int | str | None, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            return main(words), said.getvalue()
        except SystemExit as end:
            return end.code, said.getvalue()
