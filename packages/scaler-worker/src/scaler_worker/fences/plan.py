"""Which fences a processor gets, and in which order. Pure: knows only what it is told of the host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

OPEN_FILES_MIN = 64
MEMORY_BYTES_MIN = 16 * 1024**2
"""Less would not even do for a processor itself."""

PROCESSES_MIN = 16
"""A processor has two or three threads of its own, and libraries start more."""

MEMORY_FLAG, CPU_FLAG, USER_FLAG = "--processor-memory-limit-bytes", "--processor-cpu-seconds", "--user"
PROCESSES_FLAG = "--processor-processes"


class FenceError(Exception):
    """A fence that was asked for cannot be had on this host. The message names the flag and says why."""


class Cause(Enum):
    """The fence that ended a processor."""

    NONE = 0
    MEMORY = 1
    CPU_TIME = 2
    PERHAPS_MEMORY = 3
    """It crashed, as programs do that do not expect to get no memory."""


class Step(Enum):
    """One thing to do in a processor, before code of tasks runs in it."""

    MAKE_TEMPORARY_FOLDER = auto()
    JOIN_MEMORY_GROUP = auto()
    LIMIT_ADDRESS_SPACE = auto()
    JOIN_PROCESS_GROUP = auto()
    LIMIT_PROCESSES_OF_USER = auto()
    LIMIT_OPEN_FILES = auto()
    LIMIT_CORE_DUMPS = auto()
    SET_UMASK = auto()
    CHANGE_USER = auto()


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this host."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Control groups that the agent can make for its processors."""

    version: int
    """Of control groups: 1 or 2."""
    prefix: str
    """The path of a processor's group, without the processor's number at its end."""


@dataclass(frozen=True, slots=True)
class Host:
    """What this host offers. `account` is the user asked for, None where there is no such user."""

    is_root: bool = False
    account: Account | None = None
    memory_groups: ControlGroups | None = None
    no_memory_groups: str = ""
    """Why there are none."""
    process_groups: ControlGroups | None = None
    no_process_groups: str = ""
    """Why there are none."""
    open_files_max: int | None = None
    """How many open files this process may allow another at most; None for any number."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. 0, empty and None stand for no such fence."""

    user: str = ""
    memory_bytes: int = 0
    open_files: int = 0
    processes: int = 0
    """And threads, of each processor."""
    workers: int = 1
    cpu_seconds: int = 0
    core_bytes: int = 0
    """Of core dumps; this one is always put up."""
    umask: int | None = None


@dataclass(frozen=True, slots=True)
class Fences:
    """What every processor of an agent gets. Passed to the template as JSON."""

    account: Account | None = None
    memory_bytes: int = 0
    memory_groups: ControlGroups | None = None
    """None: memory is limited by the address space."""
    open_files: int = 0
    processes: int = 0
    """And threads: of each processor where there are groups of them, otherwise of all processes of the user together."""
    process_groups: ControlGroups | None = None
    cpu_seconds: int = 0
    """Limited once the preload is done, see `cpu_time`."""
    core_bytes: int = 0
    umask: int | None = None
    temporary_place: str = ""
    """The folder in which each processor's own folder is made; empty: they have none."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Fences:
        """Return what `dataclasses.asdict` and JSON have made of one."""
        account = document["account"]
        memory_groups, process_groups = document["memory_groups"], document["process_groups"]
        if account is not None:
            account = Account(**{**account, "groups": tuple(account["groups"])})
        if memory_groups is not None:
            memory_groups = ControlGroups(**memory_groups)
        if process_groups is not None:
            process_groups = ControlGroups(**process_groups)
        made = {"account": account, "memory_groups": memory_groups, "process_groups": process_groups}
        return cls(**{**document, **made})

    @property
    def steps(self) -> tuple[Step, ...]:
        """What to do in a processor, in this order: first what only the agent's user may, the change of user last."""
        memory = Step.JOIN_MEMORY_GROUP if self.memory_groups else Step.LIMIT_ADDRESS_SPACE
        processes = Step.JOIN_PROCESS_GROUP if self.process_groups else Step.LIMIT_PROCESSES_OF_USER
        wanted = (
            (Step.MAKE_TEMPORARY_FOLDER, self.temporary_place),
            (memory, self.memory_bytes),
            (processes, self.processes),
            (Step.LIMIT_OPEN_FILES, self.open_files),
            (Step.LIMIT_CORE_DUMPS, True),
            (Step.SET_UMASK, self.umask is not None),
            (Step.CHANGE_USER, self.account),
        )
        return tuple(step for step, is_wanted in wanted if is_wanted)

    @property
    def groups(self) -> tuple[ControlGroups, ...]:
        """All control groups that are made for a processor. With version 2, there is one for everything."""
        return tuple(dict.fromkeys(each for each in (self.memory_groups, self.process_groups) if each is not None))

    @property
    def memory_means(self) -> str:
        """With what memory is limited, in words."""
        if self.memory_groups is not None:
            return f"a memory cgroup (v{self.memory_groups.version})"
        return "a limit of its address space (RLIMIT_AS)"

    @property
    def memory_note(self) -> str:
        """What is said with a task's own MemoryError; empty where such an error has other causes."""
        if not self.memory_bytes or self.memory_groups is not None:
            return ""
        return f"the memory of each processor is limited by {MEMORY_FLAG} {self.memory_bytes}"

    def explain(self, cause: Cause) -> str:
        """Return why a processor died, as the end of a sentence."""
        if cause is Cause.MEMORY:
            return f" because it exceeded {MEMORY_FLAG} {self.memory_bytes}, which {self.memory_means} holds it to"
        if cause is Cause.PERHAPS_MEMORY:
            return f", perhaps because {MEMORY_FLAG} {self.memory_bytes} left it without memory"
        if cause is Cause.CPU_TIME:
            return f" because its task exceeded {CPU_FLAG} {self.cpu_seconds}"
        return ""


def plan(wanted: Wanted, host: Host) -> Fences:
    """Return the fences. Raises FenceError for what cannot be had here."""
    if wanted.user:
        if not host.is_root:
            raise FenceError(
                f"{USER_FLAG} {wanted.user}: only root can run processors as another user; start scaler_cluster as root"
            )
        if host.account is None:
            raise FenceError(f"{USER_FLAG} {wanted.user}: this host has no such user")
        if host.account.uid == 0:
            raise FenceError(f"{USER_FLAG} {wanted.user}: that is root, whom nothing keeps out")
    if host.open_files_max is not None and wanted.open_files > host.open_files_max:
        raise FenceError(
            f"--processor-open-files {wanted.open_files}: this process may not allow more than {host.open_files_max} "
            "(its own hard limit; see ulimit -Hn, or LimitNOFILE= of systemd)"
        )
    if 0 < wanted.open_files < OPEN_FILES_MIN:
        raise FenceError(f"--processor-open-files {wanted.open_files}: must be at least {OPEN_FILES_MIN}, or 0")
    if 0 < wanted.memory_bytes < MEMORY_BYTES_MIN:
        raise FenceError(f"{MEMORY_FLAG} {wanted.memory_bytes}: must be at least {MEMORY_BYTES_MIN}, or 0")
    if 0 < wanted.processes < PROCESSES_MIN:
        raise FenceError(f"{PROCESSES_FLAG} {wanted.processes}: must be at least {PROCESSES_MIN}, or 0")
    if wanted.processes and not host.process_groups and not wanted.user:
        raise FenceError(
            f"{PROCESSES_FLAG} {wanted.processes}: without {USER_FLAG} it needs cgroups: {host.no_process_groups}"
        )
    return Fences(
        account=host.account if wanted.user else None,
        memory_bytes=wanted.memory_bytes,
        memory_groups=host.memory_groups if wanted.memory_bytes else None,
        open_files=wanted.open_files,
        processes=wanted.processes * (1 if host.process_groups else wanted.workers),
        process_groups=host.process_groups if wanted.processes else None,
        cpu_seconds=wanted.cpu_seconds,
        core_bytes=wanted.core_bytes,
        umask=wanted.umask,
    )


def descriptions(fences: Fences, host: Host) -> list[str]:
    """Return what the log says about them at the start, one line each."""
    lines = []
    if fences.account is not None:
        lines.append(f"processors run as {fences.account.name} (user {fences.account.uid}, group {fences.account.gid})")
    if fences.memory_bytes:
        reason = "" if fences.memory_groups else f": {host.no_memory_groups}"
        lines.append(
            f"the memory of each processor is limited to {fences.memory_bytes} bytes by {fences.memory_means}{reason}"
        )
    if fences.process_groups is not None:
        lines.append(
            f"each processor may have {fences.processes} processes and threads (pids cgroup, v{fences.process_groups.version})"
        )
    elif fences.processes and fences.account is not None:
        lines.append(
            f"all processes of {fences.account.name} on this host together may have {fences.processes} threads "
            f"(RLIMIT_NPROC): {host.no_process_groups}"
        )
    return lines
