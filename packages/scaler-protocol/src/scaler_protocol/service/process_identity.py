"""Names a process so that others can tell later whether it has ended: in a store, for whoever comes after it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path


def this_process() -> dict[str, object]:
    """Name this process in a way that no other one has, also after a restart of the machine."""
    process = os.getpid()
    return {
        "host": socket.gethostname(),
        "process": process,
        "machine": _machine(),
        "started": _started(process),
    }


def described(identity: Mapping[str, object]) -> str:
    """Return a process for people."""
    return f"process {identity.get('process', 'unknown')} on {identity.get('host', 'an unknown host')}"


def has_ended(identity: Mapping[str, object]) -> bool:
    """Whether it was a process of this machine that is gone. Of others nothing is known."""
    process, machine = identity.get("process"), _machine()
    if not machine or identity.get("machine") != machine or not isinstance(process, int):
        return False
    started = _started(process)
    if not started and _is_hidden(process):
        return False
    return started != identity.get("started")


def _is_hidden(process: int) -> bool:
    """Whether there is such a process, of which this user may see nothing more (`hidepid`)."""
    if Path(f"/proc/{process}").exists():
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _machine() -> str:
    """Return what processes have in common that see each other: the running system, and the namespace of process ids."""
    return _or_empty(lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()) + _or_empty(
        lambda: os.readlink("/proc/self/ns/pid")
    )


def _started(process: int) -> str:
    """Return when a process has started, in ticks of the system's clock; empty if there is none, or a dead one."""
    fields = _or_empty(lambda: Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace"))
    # The name before may have spaces and parentheses itself.
    after_name = fields.rpartition(")")[2].split()
    return after_name[19] if len(after_name) > 19 and after_name[0] not in "ZX" else ""


def _or_empty(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:
        return ""
