"""Security directories for tests."""

from __future__ import annotations

from pathlib import Path

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.directory import ALLOWED_KEYS, SERVER_KEY, SERVER_PUBLIC, pair_text
from scaler_protocol.security.keys import KeyPair, new_key_pair, to_text

ROLES = (KeyRole.CLIENT, KeyRole.WORKER, KeyRole.ADAPTER, KeyRole.MONITOR, KeyRole.OPERATOR)


def make_security_directory(path: Path) -> Path:
    """Make a directory with a server's keys and one key for each role, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = new_key_pair()
    _write_secret(path / SERVER_KEY, pair_text(server))
    (path / SERVER_PUBLIC).write_text(to_text(server.public) + "\n")
    (path / ALLOWED_KEYS).write_text("")
    for role in ROLES:
        add_key(path, role, role)
    return path


def add_key(path: Path, role: KeyRole, name: str, *, allowed: bool = True) -> KeyPair:
    """Add a key to a directory, and let it in unless it is not `allowed`."""
    pair = new_key_pair()
    _write_secret(path / f"{name}.key", f'name = "{name}"\nrole = "{role}"\n{pair_text(pair)}')
    if allowed:
        with (path / ALLOWED_KEYS).open("a") as file:
            file.write(f"{to_text(pair.public)} {role} {name}\n")
    return pair


def revoke(path: Path, name: str) -> None:
    """Take a key out of the list of those that are let in."""
    listed = path / ALLOWED_KEYS
    kept = [line for line in listed.read_text().splitlines() if not line.endswith(f" {name}")]
    new = listed.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in kept))
    new.replace(listed)


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
