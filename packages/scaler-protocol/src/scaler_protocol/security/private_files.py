"""Files with secrets: keys, tokens, settings with tokens. One that others can read is no secret, so it is refused."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from scaler_protocol.security.errors import SecurityFileError

_ROOT = 0


def require_private(path: Path) -> None:
    """Raise SecurityFileError if others can read or change this file or directory, or if it belongs to somebody else.

    It may belong to root, who can read everything. Then the group may read it too: so a service manager or Kubernetes hands a
    secret to one service. Raises OSError if there is no such file. Does nothing on systems without such permissions.
    """
    if os.name != "posix":
        return
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in (os.geteuid(), _ROOT):
        raise SecurityFileError(
            f"{path} contains a secret and belongs to another user (uid {found.st_uid}): make a file of your own, or "
            f"chown {os.geteuid()} {shlex.quote(str(path))}"
        )
    is_of_root = found.st_uid == _ROOT and os.geteuid() != _ROOT
    others = mode & (stat.S_IRWXO | stat.S_IWGRP if is_of_root else stat.S_IRWXG | stat.S_IRWXO)
    if others:
        wanted = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise SecurityFileError(
            f"{path} contains a secret that others can read (its mode is {mode:04o}): "
            f"chmod {wanted} {shlex.quote(str(path))}"
        )
