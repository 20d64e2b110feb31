"""Security directories for tests."""

from __future__ import annotations

from pathlib import Path

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.directory import read_key
from scaler_protocol.security.directory_changes import add, generate, revoke
from scaler_protocol.security.keys import KeyPair


def make_security_directory(path: Path) -> Path:
    """Make a directory with a server's keys and one key for each role, and return it."""
    generate(path)
    return path


def add_key(path: Path, role: KeyRole, name: str, *, allowed: bool = True) -> KeyPair:
    """Add a key to a directory, and let it in unless it is not `allowed`; its file is there in both cases."""
    file = add(path, role, name)
    pair = read_key(file).pair
    if not allowed:
        kept = file.rename(file.with_suffix(".kept"))
        revoke(path, name)
        kept.rename(file)
    return pair
