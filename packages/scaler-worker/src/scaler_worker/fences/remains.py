"""What fences leave behind when a processor has ended, in its template: why it ended, and what is to be removed."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable
from time import monotonic, sleep

from scaler_worker.fences import control_groups, private_folders
from scaler_worker.fences.background_removal import BackgroundRemoval
from scaler_worker.fences.cpu_time import CPU_TIME_FACTOR
from scaler_worker.fences.plan import Cause, ControlGroups, Fences
from scaler_worker.fences.removal import remove_folder

logger = logging.getLogger(__name__)

REMOVE_SECONDS = 2.0
"""How long the kernel may take to let go of the groups of processes that were killed."""


class FenceRemains:
    """Looks at, and removes, what was made for each processor."""

    def __init__(self, fences: Fences, in_child: Callable[[], None] = lambda: None) -> None:
        """For `in_child` see `BackgroundRemoval`."""
        self._fences = fences
        self._removal = BackgroundRemoval(fences.temporary_place, in_child)
        self._groups: set[tuple[ControlGroups, int]] = set()
        """Those of processors that could not be removed yet."""

    def cause_of(self, number: int, status: int, cpu_seconds: float) -> Cause:
        """Return which fence ended a processor; `status` as `subprocess` gives it."""
        fences = self._fences
        if fences.cpu_seconds and (
            status == -signal.SIGXCPU
            or (status == -signal.SIGKILL and cpu_seconds >= fences.cpu_seconds * CPU_TIME_FACTOR)
        ):
            return Cause.CPU_TIME
        groups = fences.memory_groups
        if groups is not None and status == -signal.SIGKILL and control_groups.killed_by_limit(groups, number):
            return Cause.MEMORY
        if fences.memory_bytes and groups is None and status in (-signal.SIGABRT, -signal.SIGSEGV):
            return Cause.PERHAPS_MEMORY
        return Cause.NONE

    def remove(self, number: int) -> None:
        """Remove what was made for a processor that has ended."""
        if self._fences.temporary_place:
            path = private_folders.folder_of(self._fences.temporary_place, number)
            try:
                self._removal.take(path)
            except OSError as error:
                # The template, which forks all processors, must not end for what one task has left.
                logger.warning("cannot remove %s: %s; it is tried again when the agent ends", path, error)
        self._groups.update((groups, number) for groups in self._fences.groups)
        if self._groups:
            self._remove_groups()

    @property
    def child(self) -> int:
        """The process id of the child that removes folders; 0 while there is none. Only `look_after` may reap it."""
        return self._removal.pid

    def look_after(self) -> None:
        """A child of this process has ended: the one that removes folders, or one of a group whose processes were killed."""
        self._removal.look_after()
        if self._groups:
            self._remove_groups()

    def remove_all(self, numbers: Iterable[int], until: float) -> None:
        """Remove everything, but stop at `until`; `numbers` are the processors that ended last. All children have ended."""
        self._groups.update((groups, number) for number in numbers for groups in self._fences.groups)
        deadline = min(monotonic() + REMOVE_SECONDS, until)
        while self._groups and monotonic() < deadline:
            self._remove_groups()
            if self._groups:
                sleep(0.005)
        if self._fences.temporary_place:
            _remove(self._fences.temporary_place, until)

    def _remove_groups(self) -> None:
        self._groups = {
            (groups, number) for groups, number in self._groups if not control_groups.remove(groups, number)
        }


def _remove(folder: str, until: float) -> None:
    try:
        trouble = remove_folder(folder, until - monotonic())
    except OSError as error:
        trouble = str(error)
    if trouble:
        logger.warning("cannot remove %s: %s; the next agent on this host tries again", folder, trouble)
