"""Removes what tasks have left in folders, beside everything else: with millions of files that takes minutes.

A folder is first renamed, inside the folder of all of them, which tasks cannot change. So its name is free at once, and a child
process of low priority removes what is in it. That child is forked where there is something to remove, and ends when there
is nothing left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from scaler_worker.fences.removal import remove_folder

logger = logging.getLogger(__name__)

ASIDE, GIVEN_UP = "aside-", "given-up-"

REMOVE_SECONDS_MAX = 600.0
"""When one folder is given up until the end: processes of tasks that go on may make new files in it all the time."""

LOWEST_PRIORITY = 19


class BackgroundRemoval:
    """What is to be removed in the folder `place`. For a process with one thread, which reaps the child by `look_after`.

    `in_child` is called in the child first: it lets go of what is not the child's.
    """

    def __init__(self, place: str, in_child: Callable[[], None]) -> None:
        self._place = place
        self._in_child = in_child
        self._count = 0
        self._pid = 0
        self._has_more = False

    @property
    def pid(self) -> int:
        """The process id of the child; 0 while there is none."""
        return self._pid

    def take(self, path: str) -> None:
        """Remove this folder. Raises OSError if it cannot even be renamed."""
        with contextlib.suppress(OSError):
            # Most are empty, and then this takes no time.
            os.rmdir(path)
            return
        self._count += 1
        try:
            os.rename(path, f"{self._place}/{ASIDE}{self._count}")
        except FileNotFoundError:
            return
        self._has_more = True
        self._start()

    def look_after(self) -> None:
        """Reap the child if it has ended; start another one if more has come since it looked last."""
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                    return
            self._pid = 0
        if self._has_more:
            self._start()

    def _start(self) -> None:
        if self._pid:
            return
        try:
            pid = os.fork()
        except OSError as error:
            # Tried again with the next folder, or at the end.
            logger.warning("nothing is removed in %s for now: %s", self._place, error)
            return
        if pid == 0:
            self._become_child()
        self._pid = pid
        self._has_more = False

    def _become_child(self) -> None:
        """Never returns."""
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._in_child()
            with contextlib.suppress(OSError):
                os.nice(LOWEST_PRIORITY)
            remove_all_aside(self._place)
        except BaseException:
            logger.exception("the process that removes what tasks have left failed")
        finally:
            os._exit(0)


def remove_all_aside(place: str) -> None:
    """Remove all folders that were renamed; those that cannot be removed are renamed again, and left for the end."""
    while names := sorted(name for name in os.listdir(place) if name.startswith(ASIDE)):
        for name in names:
            path = f"{place}/{name}"
            try:
                trouble = remove_folder(path, REMOVE_SECONDS_MAX)
            except OSError as error:
                trouble = str(error)
            if trouble:
                logger.warning("cannot remove %s: %s; it is tried again when the agent ends", path, trouble)
                Path(path).rename(f"{place}/{GIVEN_UP}{name}")
