"""Security directories for tests."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.directory import read_key
from scaler_protocol.security.directory_changes import add, generate
from scaler_protocol.security.keys import KeyPair


def make_security_directory(path: Path) -> Path:
    """Make a directory with a server's keys and one key for each role, and return it."""
    generate(path)
    return path


def add_key(path: Path, role: KeyRole, name: str, *, allowed: bool = True) -> KeyPair:
    """Add a key to a directory, and let it in unless it is not `allowed`; its file is there in both cases."""
    if allowed:
        return read_key(add(path, role, name)).pair
    with tempfile.TemporaryDirectory() as folder:
        # A server that reads the list at a wrong moment would let in what is added first and then revoked.
        elsewhere = Path(shutil.copytree(path, Path(folder) / "keys"))
        file = add(elsewhere, role, name)
        return read_key(Path(shutil.move(file, path / file.name))).pair
