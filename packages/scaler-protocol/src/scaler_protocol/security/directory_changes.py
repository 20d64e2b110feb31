"""Makes and changes security directories and connection files. Each change is whole or did not happen.

No secret is replaced, except by `rotate`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.directory import (
    ALLOWED_KEYS,
    GRANTED,
    SERVER_KEY,
    SERVER_PUBLIC,
    KeyFile,
    check_name,
    key_field,
    load_server,
    pair_text,
    read_allowed,
    read_key,
    read_server_public,
)
from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.keys import new_key_pair, to_text
from scaler_protocol.security.private_files import require_unchangeable

FIRST_ROLES = (KeyRole.CLIENT, KeyRole.WORKER, KeyRole.ADAPTER, KeyRole.MONITOR, KeyRole.OPERATOR)
"""A new directory has one key for each, named as the role."""

EARLIER = ".earlier"
"""How the name of a key ends of which there is a newer one."""

_HEAD = "# Who is let in: PUBLIC ROLE NAME. Servers read this file again when it changes.\n"


def generate(directory: Path) -> None:
    """Make a directory with the server's keys and one key for each role. Raises SecurityFileError if there is one."""
    with _named(directory):
        _make_folder(directory)
        with _locked(directory):
            if any((directory / name).exists() for name in (SERVER_KEY, SERVER_PUBLIC, ALLOWED_KEYS)):
                # Written last, it is missing where this was interrupted.
                lack = "" if (directory / SERVER_KEY).exists() else f", but no {SERVER_KEY}: name another directory"
                raise SecurityFileError(f"{directory} has keys already{lack}; nothing was changed")
            server = new_key_pair()
            _write_new(directory / SERVER_PUBLIC, to_text(server.public) + "\n", mode=0o644)
            _write_new(directory / ALLOWED_KEYS, _HEAD, mode=0o644)
            for role in FIRST_ROLES:
                _add(directory, role, role)
            # Last: with it the directory is complete.
            _write_new(directory / SERVER_KEY, pair_text(server))


def add(directory: Path, role: KeyRole, name: str) -> Path:
    """Make a key of its own for somebody, let it in, and return its file. Raises SecurityFileError."""
    with _named(directory), _locked(directory):
        return _add(directory, role, name)


def rotate(directory: Path, name: str) -> tuple[Path, str]:
    """Make a new key in place of somebody's, with the same role. Return its file, and the name of the earlier key.

    The earlier key is let in under that name until it is revoked. If this is interrupted, the file holds a key that is let in,
    and the next call of `rotate` or `revoke` does the rest. Raises SecurityFileError.
    """
    with _named(directory), _locked(directory):
        listed = directory / ALLOWED_KEYS
        before = _find(listed, name)
        earlier = name + EARLIER
        check_name(earlier, "the name of the earlier key")
        path = directory / f"{name}.key"
        if _complete_rotation(path, before):
            return path, earlier
        if any(authority.name == earlier for authority in read_allowed(listed)):
            raise SecurityFileError(
                f"{listed} still lets in an earlier key of {name}: scaler_keys revoke {_word(directory)} {earlier}; "
                "nothing was changed"
            )
        pair = new_key_pair()
        # The secret is on the disk before the list names its key, and the earlier one stays in its place until then.
        draft = _draft(path, _key_text(KeyFile(name, before.role, pair)), 0o600)
        try:
            if path.exists():
                _keep_owner(path, draft)
            text = _without(listed, before)
            role, public = before.role, to_text(pair.public)
            _replace(listed, f"{text}{to_text(before.public)} {role} {earlier}\n{public} {role} {name}\n")
        except BaseException:
            draft.unlink()
            raise
        draft.replace(path)
        return path, earlier


def revoke(directory: Path, name: str) -> Authority:
    """Let a key in no longer, and return whose it was. Its file is removed, because nobody can use it any more.

    Raises SecurityFileError if it is not in the list, or if the file cannot be removed.
    """
    with _named(directory), _locked(directory):
        path = directory / ALLOWED_KEYS
        gone = _find(path, name)
        for authority in read_allowed(path):
            if authority.name in (name, name.removesuffix(EARLIER)):
                _complete_rotation(directory / f"{authority.name}.key", authority)
        _replace(path, _without(path, gone))
        file = directory / f"{name}.key"
        try:
            # The list may have been written by hand: what this file has may be another key.
            if file.exists() and read_key(file).pair.public == gone.public:
                file.unlink()
        except (OSError, SecurityFileError) as error:
            raise SecurityFileError(f"{name} is not let in any more, but {file} stays: {error}") from None
        return gone


def export(directory: Path, name: str, target: Path) -> None:
    """Make a directory with what the owner of one key needs, to hand out. Raises SecurityFileError."""
    key, server = _own(directory, name), read_server_public(directory)
    with _named(target):
        _make_folder(target)
        with _locked(target):
            path = target / f"{key.name}.key"
            for existing in (path, target / SERVER_PUBLIC):
                if existing.exists():
                    raise SecurityFileError(f"{existing} exists; nothing was changed")
            _write_new(target / SERVER_PUBLIC, to_text(server) + "\n", mode=0o644)
            _write_new(path, _key_text(key))


def export_server(directory: Path, target: Path) -> None:
    """Make a directory with what scheduler and object storage server need. Raises SecurityFileError."""
    # Says what is wrong with the files before any is copied.
    load_server(directory)
    read_server_public(directory)
    with _named(target):
        _make_folder(target)
        with _locked(target):
            names = (SERVER_PUBLIC, ALLOWED_KEYS, SERVER_KEY)
            for name in names:
                if (target / name).exists():
                    raise SecurityFileError(f"{target / name} exists; nothing was changed")
            for name in names:
                with _named(directory / name):
                    text = (directory / name).read_text(encoding="utf-8")
                _write_new(target / name, text, mode=0o600 if name == SERVER_KEY else 0o644)


def connect(directory: Path, name: str, address: str, target: Path) -> KeyRole:
    """Write a connection file: an address, the server's public key and one key pair. Return the role of the key.

    Raises SecurityFileError.
    """
    key, server = _own(directory, name), read_server_public(directory)
    head = (
        f"# Keep this file to yourself: who has it is {key.name}.\n"
        # Where JSON's texts are printable, they are TOML's too.
        f"address = {json.dumps(address, ensure_ascii=False)}\n"
        f'server = "{to_text(server)}"\n'
    )
    with _named(target):
        _write_new(target, head + _key_text(key))
    return key.role


# --- private


def _add(directory: Path, role: KeyRole, name: str) -> Path:
    check_name(name, "--name")
    if role not in GRANTED:
        raise SecurityFileError(f"no key can be made for the role {role}")
    listed = directory / ALLOWED_KEYS
    if any(authority.name == name for authority in read_allowed(listed)):
        raise SecurityFileError(
            f"{listed} has a key with the name {name} already; nothing was changed. scaler_keys rotate {_word(directory)} {name} "
            "makes a new one"
        )
    pair = new_key_pair()
    path = directory / f"{name}.key"
    if path.exists():
        raise SecurityFileError(
            f"{path} exists, although no key of this name is let in: move it away, or choose another name; "
            "nothing was changed"
        )
    _write_new(path, _key_text(KeyFile(name, role, pair)))
    _replace(listed, f"{_without(listed)}{to_text(pair.public)} {role} {name}\n")
    return path


def _find(listed: Path, name: str) -> Authority:
    for authority in read_allowed(listed):
        if authority.name == name:
            return authority
    raise SecurityFileError(f"{listed} has no key with the name {name!r}; nothing was changed")


def _without(listed: Path, gone: Authority | None = None) -> str:
    """Return the text of a list without one of its keys. It ends with a whole line."""
    public = to_text(gone.public) if gone is not None else None
    lines = listed.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if line.split()[:1] != [public])
    return text if not text or text.endswith("\n") else f"{text}\n"


def _own(directory: Path, name: str) -> KeyFile:
    check_name(name, "--name")
    path = directory / f"{name}.key"
    with _named(directory):
        keys = {file.stem for file in directory.glob("*.key")} - {Path(SERVER_KEY).stem}
        if directory.is_dir() and name not in keys and not path.is_symlink():
            raise SecurityFileError(
                f"{directory} has no key with the name {name}; there are {', '.join(sorted(keys)) or 'none'}. "
                f"scaler_keys add {_word(directory)} --role ROLE --name {name} makes one"
            )
    return read_key(path)


def _complete_rotation(path: Path, listed: Authority) -> bool:
    """Put the key in place that an interrupted rotation has made and listed. Return whether there was one."""
    found = False
    for draft in _left_drafts(path):
        try:
            is_listed = key_field(draft, tomllib.loads(draft.read_text(encoding="utf-8")), "public") == listed.public
        except (ValueError, SecurityFileError):
            # It was interrupted while writing this.
            is_listed = False
        if is_listed:
            draft.replace(path)
            found = True
        else:
            draft.unlink()
    return found


def _word(path: Path) -> str:
    """A path as one word of a command that somebody copies."""
    return shlex.quote(str(path))


def _make_folder(path: Path) -> None:
    if path.is_symlink():
        # Somebody else may have made the link.
        raise SecurityFileError(f"{path} is a symbolic link: name the directory itself; nothing was changed")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_unchangeable(path)


def _key_text(key: KeyFile) -> str:
    return f'name = "{key.name}"\nrole = "{key.role}"\n{pair_text(key.pair)}'


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which path an error of the system is."""
    try:
        yield
    except OSError as error:
        raise SecurityFileError(f"{error.filename or path}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Nobody else changes this directory meanwhile."""
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_new(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file that must not exist yet; nobody sees a part of it."""
    draft = _draft(path, text, mode)
    try:
        os.link(draft, path)
    except FileExistsError:
        raise SecurityFileError(f"{path} exists; nothing was changed") from None
    finally:
        draft.unlink()


def _replace(path: Path, text: str) -> None:
    for draft in _left_drafts(path):
        draft.unlink()
    mode = path.stat().st_mode & 0o777
    draft = _draft(path, text, mode)
    _keep_owner(path, draft)
    draft.replace(path)


def _keep_owner(path: Path, draft: Path) -> None:
    """What belongs to the service's user goes on belonging to it if root changes it."""
    with contextlib.suppress(OSError):
        found = path.stat()
        shutil.chown(draft, found.st_uid, found.st_gid)


def _left_drafts(path: Path) -> list[Path]:
    """Return the drafts of a file that interrupted changes have left. Only while its directory is locked."""
    before, after = f".{path.name}.", ".new"
    found = path.parent.glob(f"{before}*{after}")
    # With more than the number of a process between them it is of another file, whose name begins alike.
    return [draft for draft in found if draft.name.removeprefix(before).removesuffix(after).isdecimal()]


def _draft(path: Path, text: str, mode: int) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(mode)
    return draft
