"""Files that others must not read, because they contain secrets, or not change, because they say whose keys count."""

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
    _require_owner(path, found, "contains a secret")
    is_of_root = found.st_uid == _ROOT and os.geteuid() != _ROOT
    others = mode & (stat.S_IRWXO | stat.S_IWGRP if is_of_root else stat.S_IRWXG | stat.S_IRWXO)
    if others:
        wanted = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise SecurityFileError(
            f"{path} contains a secret that others can read (its mode is {mode:04o}): "
            f"chmod {wanted} {shlex.quote(str(path))}"
        )


def require_unchangeable(path: Path) -> None:
    """Raise SecurityFileError if others could change what this file or directory says about keys.

    It must belong to this user or to root, and nobody else may write to it. In a directory with the sticky bit, as Kubernetes
    mounts secrets, others may add files, but cannot replace any. Raises OSError if there is no such file. Does nothing on
    systems without such permissions.
    """
    if os.name != "posix":
        return
    found = path.stat()
    _require_owner(path, found, "decides who is let in")
    is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
        raise SecurityFileError(
            f"{path} decides who is let in, and others can change it (its mode is {stat.S_IMODE(found.st_mode):04o}): "
            f"chmod go-w {shlex.quote(str(path))}"
        )


def _require_owner(path: Path, found: os.stat_result, what: str) -> None:
    if found.st_uid not in (os.geteuid(), _ROOT):
        raise SecurityFileError(
            f"{path} {what} and belongs to another user (uid {found.st_uid}): make a file of your own, or "
            f"chown {os.geteuid()} {shlex.quote(str(path))}"
        )
