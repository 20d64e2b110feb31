"""Files that services read: settings, the list of keys, key files and connection files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.security.connection_file import read_connection
from scaler_protocol.security.directory import read_allowed, read_key, read_server_public
from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.security.keys import public_of, to_text
from scaler_protocol.service.errors import ConfigurationError

_folder = tempfile.TemporaryDirectory()
_path = Path(_folder.name) / "server.pub"


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    secret = bytes(range(32))
    public, shown = to_text(public_of(secret)), to_text(secret)
    key = f'name = "client"\nrole = "client"\npublic = "{public}"\nsecret = "{shown}"\n'
    return [
        f"# comment\n{public} client pricing\n".encode(),
        key.encode(),
        f'address = "tcp://127.0.0.1:1"\nserver = "{public}"\n{key}'.encode(),
        public.encode(),
        b'[object_storage_server]\naddress = "tcp://127.0.0.1:2346"\nmemory_limit_bytes = 1_000\nevent_loop = "uvloop"\n',
        b"\xef\xbb\xbf[scheduler]\n",
    ]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    _path.write_bytes(data)
    os.chmod(_path, 0o600)
    for read in (read_allowed, read_key, read_connection):
        with contextlib.suppress(SecurityFileError):
            read(_path)
    with contextlib.suppress(SecurityFileError):
        read_server_public(_path.parent)
    with contextlib.suppress(ConfigurationError):
        ObjectStorageSettings.from_command_line(["tcp://127.0.0.1:0", "--config", str(_path)])
