"""Puts up the fences in a processor that has just been forked, before any code of tasks runs in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Callable

from scaler_worker.fences import control_groups, private_folders
from scaler_worker.fences.plan import MEMORY_FLAG, PROCESSES_FLAG, USER_FLAG, Account, FenceError, Fences, Step

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_M_ARENA_MAX = -8


class ProcessorFences:
    """The fences of this process. `number` is the processor's."""

    def __init__(self, fences: Fences, number: int) -> None:
        self._fences = fences
        self._number = number
        self._actions: dict[Step, tuple[str, Callable[[], None]]] = {
            Step.MAKE_TEMPORARY_FOLDER: ("--private-temporary-folder", self._make_temporary_folder),
            Step.JOIN_MEMORY_GROUP: (MEMORY_FLAG, self._join_memory_group),
            Step.LIMIT_ADDRESS_SPACE: (MEMORY_FLAG, self._limit_address_space),
            Step.JOIN_PROCESS_GROUP: (PROCESSES_FLAG, self._join_process_group),
            Step.LIMIT_PROCESSES_OF_USER: (PROCESSES_FLAG, self._limit_processes_of_user),
            Step.LIMIT_OPEN_FILES: ("--processor-open-files", self._limit_open_files),
            Step.LIMIT_CORE_DUMPS: ("--processor-core-bytes", self._limit_core_dumps),
            Step.SET_UMASK: ("--umask", self._set_umask),
            Step.CHANGE_USER: (USER_FLAG, self._change_user),
        }

    def put_up(self) -> None:
        """Do all of it. Raises FenceError."""
        for step in self._fences.steps:
            flag, action = self._actions[step]
            try:
                action()
            except (OSError, ValueError) as error:
                raise FenceError(f"{flag} cannot be had on this host: {error}") from None

    def _make_temporary_folder(self) -> None:
        path = private_folders.folder_of(self._fences.temporary_place, self._number)
        account = self._fences.account
        private_folders.make_folder(path, account.uid if account else None, account.gid if account else None)
        os.environ["TMPDIR"] = path
        if "tempfile" in sys.modules:
            # It remembers what it found before.
            sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]

    def _join_memory_group(self) -> None:
        assert self._fences.memory_groups is not None
        control_groups.join_memory_group(self._fences.memory_groups, self._number, self._fences.memory_bytes)

    def _join_process_group(self) -> None:
        assert self._fences.process_groups is not None
        control_groups.join_process_group(self._fences.process_groups, self._number, self._fences.processes)

    def _limit_processes_of_user(self) -> None:
        # The kernel compares it with the number of all threads of the user when one of them starts another.
        resource.setrlimit(resource.RLIMIT_NPROC, (self._fences.processes, self._fences.processes))

    def _limit_address_space(self) -> None:
        # What is mapped already is not the task's: mostly memory that all processors share.
        with open("/proc/self/statm", "rb") as statm:
            mapped = int(statm.read().split()[0]) * resource.getpagesize()
        limit = mapped + self._fences.memory_bytes
        # Nor is what glibc reserves for the memory of a further thread: 64 MiB of addresses, of which it uses little.
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def _limit_open_files(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._fences.open_files, self._fences.open_files))

    def _limit_core_dumps(self) -> None:
        limit = self._fences.core_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))

    def _set_umask(self) -> None:
        assert self._fences.umask is not None
        os.umask(self._fences.umask)

    def _change_user(self) -> None:
        account = self._fences.account
        assert account is not None
        become(account)
        _check_libraries(account)
        os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name)


def _check_libraries(account: Account) -> None:
    """Raise FenceError where the user cannot read what Python imports: every task would fail of that, each in its own way."""
    for module_file in (os.__file__, __file__):
        folder = os.path.dirname(module_file)
        try:
            os.listdir(folder)
        except OSError:
            raise FenceError(
                f"{USER_FLAG} {account.name}: that user cannot read {folder}; install Python and Scaler where it can"
            ) from None


def become(account: Account) -> None:
    """Run as this user from now on, for good. Raises OSError."""
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    # No program that belongs to root, such as sudo, gives more rights than this process has.
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # With the change, what the kernel shows of a process in /proc becomes root's: this process needs its own. The template
    # holds no secret that somebody of this user could find in its memory.
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        os.listdir(".")
    except OSError:
        with contextlib.suppress(OSError):
            os.chdir("/")
