"""A control group for each processor, of memory (what it takes beyond what it shares with its template) and of processes.

Version 2 (`memory.max`) and version 1 (`memory.limit_in_bytes`) differ in their files, and in that version 2 has one group for
both. In both, a group is a folder of the kernel's file system; a process joins it by a number in a file, and whatever it starts
is in the group, too. The paths are passed in, so that the same code works on a copy of such a file system.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from scaler_worker.fences.plan import ControlGroups

MEMORY, PROCESSES = "memory", "pids"
"""What the kernel calls them."""

_AGENT_GROUP = "scaler-agent"

_LIMIT_FILES = {(MEMORY, 1): "memory.limit_in_bytes", (MEMORY, 2): "memory.max"}
_PROCESSES_FILE = "pids.max"


class NoGroupsError(Exception):
    """Groups cannot be made. The message says why."""


@dataclass(frozen=True, slots=True)
class _Mounted:
    version: int
    group: Path
    """The group that this process is in."""


def find_groups(
    pid: int, controller: str = MEMORY, *, process: Path = Path("/proc/self"), number: Path = Path("/proc")
) -> ControlGroups:
    """Prepare the group of this process for groups of its processors. Raises NoGroupsError.

    `controller`: `MEMORY` or `PROCESSES`. `process` is the folder in which the kernel describes this process, `number` that in
    which all have one of their own.
    """
    try:
        mounted = _find(process, controller)
        if mounted.version == 2:
            _delegate(mounted.group, controller)
        prefix = f"{mounted.group}/scaler-{pid}-"
        _sweep(mounted.group, number)
        # Whether it can be done is found out by doing it.
        trial = Path(f"{prefix}trial")
        trial.mkdir()
        try:
            limit = trial / _LIMIT_FILES.get((controller, mounted.version), _PROCESSES_FILE)
            if not os.access(limit, os.W_OK):
                raise NoGroupsError(f"{limit} cannot be written")
        finally:
            trial.rmdir()
    except OSError as error:
        raise NoGroupsError(f"no {controller} cgroups can be made here: {error}") from None
    return ControlGroups(mounted.version, prefix)


def _find(process: Path, controller: str) -> _Mounted:
    own = {}
    for line in (process / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            own[name] = path
    mounts = [line.split() for line in (process / "mountinfo").read_text(encoding="utf-8").splitlines()]
    for fields in mounts:
        separator = fields.index("-")
        kind, options = fields[separator + 1], fields[separator + 3].split(",")
        root, place = fields[3], fields[4]
        if kind == "cgroup2" and "" in own:
            group = _below(place, root, own[""])
            controllers_file = group / "cgroup.controllers"
            if controllers_file.exists() and controller in controllers_file.read_text(encoding="ascii").split():
                return _Mounted(2, group)
        elif kind == "cgroup" and controller in options and controller in own:
            return _Mounted(1, _below(place, root, own[controller]))
    raise NoGroupsError(f"this process has no {controller} cgroup (systemd: Delegate={controller})")


def _below(place: str, root: str, path: str) -> Path:
    """Return where a group is, in a file system of which perhaps only the part from `root` on is mounted."""
    if path.startswith(root):
        path = path[len(root.rstrip("/")) :]
    group = Path(place, path.lstrip("/"))
    # There the agent moves itself, when the groups of one controller are made. Those of another lie beside them.
    return group.parent if group.name == _AGENT_GROUP else group


def _delegate(group: Path, controller: str) -> None:
    """Let groups below this one have limits of this kind. A group of version 2 that does so must hold no processes itself."""
    control = group / "cgroup.subtree_control"
    if controller in control.read_text(encoding="ascii").split():
        return
    pids = (group / "cgroup.procs").read_text(encoding="ascii").split()
    strangers = set(map(int, pids)) - {os.getpid(), *_children()}
    if strangers:
        shown = ", ".join(map(str, sorted(strangers)[:3]))
        raise NoGroupsError(f"the cgroup {group} has other processes than this worker's ({shown})")
    inner = group / _AGENT_GROUP
    inner.mkdir(exist_ok=True)
    for pid in pids:
        _write(inner / "cgroup.procs", pid)
    _write(control, f"+{controller}")


def _children() -> list[int]:
    found = []
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found += Path(f"/proc/self/task/{thread}/children").read_text(encoding="ascii").split()
    return [int(pid) for pid in found]


def _sweep(group: Path, number: Path) -> None:
    """Remove the groups of agents that are gone."""
    for left in group.glob("scaler-*-*"):
        pid_text = left.name.split("-")[1]
        if pid_text.isdecimal() and not (number / pid_text).exists():
            with contextlib.suppress(OSError):
                left.rmdir()


def group_of(groups: ControlGroups, processor: int) -> Path:
    """Return the group of a processor."""
    return Path(f"{groups.prefix}{processor}")


def join_memory_group(groups: ControlGroups, processor: int, limit_bytes: int) -> None:
    """Make the group of this processor, with a limit of memory, and move this process into it. Raises OSError."""
    group = group_of(groups, processor)
    group.mkdir(exist_ok=True)
    if groups.version == 2:
        _write(group / "memory.max", str(limit_bytes))
        _write_if_there(group / "memory.swap.max", "0")
        # What a task has started ends with it.
        _write_if_there(group / "memory.oom.group", "1")
    else:
        _write(group / "memory.limit_in_bytes", str(limit_bytes))
        # Memory and swap together: there is no limit of swap alone.
        _write_if_there(group / "memory.memsw.limit_in_bytes", str(limit_bytes))
    _write(group / "cgroup.procs", "0")


def join_process_group(groups: ControlGroups, processor: int, processes_max: int) -> None:
    """The same with a limit of the number of processes and threads."""
    group = group_of(groups, processor)
    group.mkdir(exist_ok=True)
    _write(group / _PROCESSES_FILE, str(processes_max))
    _write(group / "cgroup.procs", "0")


def killed_by_limit(groups: ControlGroups, processor: int) -> bool:
    """Whether the kernel has killed a process of this group because of its limit."""
    name = "memory.events" if groups.version == 2 else "memory.oom_control"
    try:
        text = (group_of(groups, processor) / name).read_text(encoding="ascii")
    except OSError:
        return False
    counts = dict(line.split() for line in text.splitlines())
    return int(counts.get("oom_kill", 0)) > 0


def remove(groups: ControlGroups, processor: int) -> bool:
    """Kill what is left in the group of a processor, and remove it; return whether it is gone."""
    group = group_of(groups, processor)
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
        return False
    return True


def _write(path: Path, text: str) -> None:
    # Not Path.write_text, which would make a file that is not there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _write_if_there(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        _write(path, text)
