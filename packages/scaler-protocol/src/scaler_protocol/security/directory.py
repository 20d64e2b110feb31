"""The security directory: who has which key, as files.

    server.key       the key pair of the scheduler, its object storage server and its monitor socket; secret
    server.pub       the public half of it, which everybody needs who connects
    allowed_keys     who is let in: a line for each key, `PUBLIC ROLE NAME`; `# ` begins a comment
    NAME.key         the key pair of one owner, whom `allowed_keys` names; secret

Each machine has the part it needs: servers `server.key` and `allowed_keys`, everybody else `server.pub` and a key of its own.
Files with secrets are TOML, and of no use to anybody but their owner: nobody else may be able to read them.
"""

from __future__ import annotations

import re
import shlex
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scaler_protocol.runtime.values import value
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.errors import KeyTextError, SecurityFileError
from scaler_protocol.security.keys import KeyPair, from_text, public_of, to_text
from scaler_protocol.security.private_files import require_private, require_unchangeable

SERVER_KEY: Final = "server.key"
SERVER_PUBLIC: Final = "server.pub"
ALLOWED_KEYS: Final = "allowed_keys"

FILE_BYTES_MAX: Final = 1024 * 1024
"""Larger files are none of ours. An allow-list has some ten thousand keys then."""

NAME_CHARACTERS_MAX: Final = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RESERVED: Final = "server"


@value
class KeyFile:
    """What a `NAME.key` file says."""

    name: str
    role: KeyRole
    pair: KeyPair


class DirectorySecurity(ServerSecurity):
    """The server's keys and the allow-list of a directory, which is read again when it has changed."""

    def __init__(self, directory: Path) -> None:
        """Raises SecurityFileError."""
        self._path = directory / ALLOWED_KEYS
        own = _read_server_pair(directory)
        self._seen = _state_of(self._path)
        super().__init__(own, read_allowed(self._path))

    def refresh(self) -> bool:
        """Read the allow-list again if its file has changed. Return whether it had.

        Raises SecurityFileError if the list cannot be used, once for each state of the file; the earlier list stays in force.
        """
        state = _state_of(self._path)
        if state == self._seen:
            return False
        self._seen = state
        self.allow(read_allowed(self._path))
        return True


def load_server(directory: Path) -> DirectorySecurity:
    """Return what a server has: its own keys, and the keys it lets in. Raises SecurityFileError."""
    if _is_file(directory):
        raise SecurityFileError(
            f"{directory} is a file: a server needs the directory with {SERVER_KEY} and {ALLOWED_KEYS}; "
            "only who connects may give a file"
        )
    _require_directory(directory, f"scaler_keys generate {directory} makes the keys of a new cluster")
    return DirectorySecurity(directory)


def load_peer(path: Path, *roles: KeyRole) -> PeerSecurity:
    """Return what a connecting end has, for the first of these roles that has a key in this directory.

    Of several keys of one role, `ROLE.key` is taken first, otherwise the first by name. The path may also be a connection file,
    or a key file beside its `server.pub`; its key must have one of the roles. Raises SecurityFileError.
    """
    if _is_file(path):
        return _load_from_file(path, roles)
    _require_directory(path, _ASK_FOR_EXPORT)
    server = read_server_public(path)
    unusable: SecurityFileError | None = None
    for role in roles:
        names = sorted(path.glob("*.key"), key=lambda file: (file.stem != role, file.name))
        for file in names:
            if file.name == SERVER_KEY:
                continue
            # The name of the file tells most roles already; others are found by what they say.
            try:
                found = read_key(file)
            except SecurityFileError as error:
                if file.stem == role:
                    raise
                unusable = unusable or error
                continue
            if found.role is role:
                return PeerSecurity(found.pair, server)
    if unusable is not None:
        raise unusable
    wanted = " or ".join(roles)
    made_here = (path / ALLOWED_KEYS).exists()
    hint = f"scaler_keys add {path} --role {roles[0]} --name NAME" if made_here else _ASK_FOR_EXPORT
    raise SecurityFileError(f"{path} has no key of the role {wanted}: {hint}")


def read_server_public(directory: Path) -> bytes:
    """Return the server's public key. Raises SecurityFileError."""
    path = directory / SERVER_PUBLIC
    if not path.exists() and _is_directory(directory):
        raise SecurityFileError(f"{directory} has no {SERVER_PUBLIC}: {_ASK_FOR_EXPORT}")
    return _key_of(path, _read_public_text(path).strip())


def read_key(path: Path) -> KeyFile:
    """Return what a key file says. Raises SecurityFileError."""
    return read_key_document(path, read_secret_document(path))


def read_key_document(path: Path, document: dict[str, object]) -> KeyFile:
    """Return whose key pair a document has. `path` is where it was. Raises SecurityFileError."""
    name, role = _field(path, document, "name"), _field(path, document, "role")
    check_name(name, str(path))
    try:
        key_role = KeyRole(role)
    except ValueError:
        raise SecurityFileError(f"{path}: {role!r} is no role") from None
    return KeyFile(name, key_role, pair_of(path, document))


def read_allowed(path: Path) -> list[Authority]:
    """Return the keys that an allow-list has, in its order. Raises SecurityFileError that names file and line."""
    found: dict[bytes, Authority] = {}
    names: set[str] = set()
    for where, fields in _lines(path):
        if len(fields) != 3:
            raise SecurityFileError(f"{where}: expected PUBLIC ROLE NAME, found {len(fields)} words")
        public, role, name = _key_of(where, fields[0]), fields[1], fields[2]
        check_name(name, where)
        if role not in GRANTED:
            raise SecurityFileError(f"{where}: {role!r} is no role; there are {', '.join(sorted(GRANTED))}")
        if public in found or name in names:
            raise SecurityFileError(f"{where}: this key or name stands in the list already")
        names.add(name)
        found[public] = Authority(name, KeyRole(role), public)
    return list(found.values())


_ASK_FOR_EXPORT: Final = "who made the cluster's keys can hand one out, with scaler_keys export or connect"

GRANTED: Final = frozenset(role for role in KeyRole if role is not KeyRole.SCHEDULER)
"""The roles that keys can be made for."""


def check_name(name: str, where: str) -> None:
    """Raise SecurityFileError for a name that nobody may have. It is also the name of a file."""
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX or name == _RESERVED:
        raise SecurityFileError(
            f"{where}: {name[:NAME_CHARACTERS_MAX]!r} is no name for a key: up to {NAME_CHARACTERS_MAX} letters, digits, dots, "
            f"hyphens and underscores, and not {_RESERVED!r}"
        )


def read_secret_document(path: Path) -> dict[str, object]:
    """Return the content of a TOML file with secrets. Raises SecurityFileError, also if others could read it."""
    try:
        require_private(path)
    except (OSError, ValueError) as error:
        raise SecurityFileError(_reason(path, error)) from None
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SecurityFileError(f"{path} is no key file: {error}") from None


def pair_of(path: Path, document: dict[str, object]) -> KeyPair:
    """Return the key pair that a document has. Raises SecurityFileError."""
    secret, public = key_field(path, document, "secret"), key_field(path, document, "public")
    if public_of(secret) != public:
        raise SecurityFileError(f"{path}: the public key does not belong to the secret one")
    return KeyPair(public, secret)


def key_field(path: Path, document: dict[str, object], name: str) -> bytes:
    """Return the key that a document has under this name. Raises SecurityFileError."""
    return _key_of(path, _field(path, document, name))


def pair_text(pair: KeyPair) -> str:
    """Return the lines of a key file that hold the pair."""
    return f'public = "{to_text(pair.public)}"\nsecret = "{to_text(pair.secret)}"\n'


# --- private


def _read_server_pair(directory: Path) -> KeyPair:
    """Return the server's key pair: not one that was made for somebody else, nor that of another cluster."""
    path = directory / SERVER_KEY
    if _is_missing(path):
        raise SecurityFileError(f"{directory} has no {SERVER_KEY}: {_how_to_get_a_server_key(directory)}")
    document = read_secret_document(path)
    if "role" in document:
        raise SecurityFileError(f"{path} is a key of the role {str(document['role'])!r}, not that of a server")
    pair = pair_of(path, document)
    if pair.public != read_server_public(directory):
        raise SecurityFileError(
            f"{path} does not belong to {directory / SERVER_PUBLIC}: peers would expect another server"
        )
    return pair


def _how_to_get_a_server_key(directory: Path) -> str:
    if (directory / SERVER_PUBLIC).exists():
        # A worker's or client's part of somebody's keys.
        return (
            "give the directory in which scaler_keys generate made the keys of this cluster, or a copy of the server's part, "
            "which scaler_keys export DIR server OUT makes"
        )
    return f"scaler_keys generate {shlex.quote(str(directory))} makes the keys of a new cluster there"


def _field(path: Path, document: dict[str, object], name: str) -> str:
    found = document.get(name)
    if not isinstance(found, str):
        raise SecurityFileError(f'{path}: {name} = "..." is missing')
    return found


def _key_of(where: object, text: str) -> bytes:
    try:
        return from_text(text)
    except KeyTextError as error:
        raise SecurityFileError(f"{where}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(_read_public_text(path).split("\n"), start=1):
        words = line.split()
        # A key may begin with a hash sign, but no word of a list is one.
        if words and words[0] != "#":
            yield f"{path}, line {number}", words


def _read_public_text(path: Path) -> str:
    """Return the text of a file that everybody may read, but nobody else may change, nor its directory."""
    try:
        require_unchangeable(path.parent)
        require_unchangeable(path)
    except OSError as error:
        raise SecurityFileError(_reason(path, error)) from None
    return _read_text(path)


def _read_text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SecurityFileError(f"{path} is no file")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise SecurityFileError(f"{path} has more than {FILE_BYTES_MAX} bytes: it is no file of keys")
        return data.decode()
    except OSError as error:
        raise SecurityFileError(_reason(path, error)) from None
    except UnicodeDecodeError:
        raise SecurityFileError(f"{path} is no text") from None


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _load_from_file(path: Path, roles: tuple[KeyRole, ...]) -> PeerSecurity:
    document = read_secret_document(path)
    key = read_key_document(path, document)
    if key.role not in roles:
        raise SecurityFileError(f"{path} has a key of the role {key.role}, not {' or '.join(roles)}")
    # A connection file says itself whose key the server has.
    server = key_field(path, document, "server") if "server" in document else read_server_public(path.parent)
    return PeerSecurity(key.pair, server)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise SecurityFileError(_reason(path, error)) from None


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        # Whoever reads it says why that fails.
        return False
    return False


def _require_directory(path: Path, hint: str = "") -> None:
    if not _is_directory(path):
        raise SecurityFileError(f"{path} is no directory" + (f": {hint}" if hint and not path.exists() else ""))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise SecurityFileError(_reason(path, error)) from None


def _reason(path: Path, error: Exception) -> str:
    return f"{path}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
