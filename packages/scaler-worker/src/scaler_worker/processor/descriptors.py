"""Descriptors of a processor, where tasks that close or redirect descriptors do not reach them.

Programs close "all" descriptors in two ways: from 3 to a number such as 1024, or to the limit of the process. So ours get numbers
above both: the limit is raised for a moment, as far as any process may, and a descriptor above the limit stays valid.
"""

from __future__ import annotations

import os
import resource
from errno import EBADF
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import close, dup2, fstat

FIRST_NUMBER = 4000
"""Below 4096: the kernel keeps a table up to the highest number."""

COUNT_MAX = 32

Identity = tuple[int, int]


def identity(descriptor: int) -> Identity | None:
    """Return what tells the open file behind a descriptor from all others; None where it is closed."""
    try:
        status = fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def moved_out_of_reach(descriptor: int) -> int:
    """Return a new number for a descriptor, and close the old one."""
    moved = copied_out_of_reach(descriptor)
    close(descriptor)
    return moved


def copied_out_of_reach(descriptor: int) -> int:
    """Return a copy of a descriptor with a number above those that programs close wholesale."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FIRST_NUMBER + COUNT_MAX
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return fcntl(descriptor, F_DUPFD_CLOEXEC, FIRST_NUMBER)
    if hard < needed and hard != resource.RLIM_INFINITY:
        # As far up as this process may go.
        return fcntl(descriptor, F_DUPFD_CLOEXEC, max(3, soft - COUNT_MAX))
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        return fcntl(descriptor, F_DUPFD_CLOEXEC, FIRST_NUMBER)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class DescriptorGuard:
    """Notices that a task closed or redirected descriptors that are not its own, and puts the standard ones back."""

    def __init__(self) -> None:
        self._standard = [(number, identity(number), _copy_if_open(number)) for number in range(3)]
        # The lowest free number there is: whoever closes descriptors wholesale closes this one.
        self._low = os.memfd_create("scaler-guard", os.MFD_CLOEXEC)
        self._low_identity = identity(self._low)

    def restore(self) -> str:
        """Put the standard descriptors back; return why the process must be replaced, or nothing."""
        for number, before, copy in self._standard:
            if copy is not None and identity(number) != before:
                try:
                    dup2(copy, number)
                except OSError:
                    return "its standard descriptors were closed"
        if identity(self._low) != self._low_identity:
            return "a task closed file descriptors that are not its own"
        return ""


def _copy_if_open(number: int) -> int | None:
    try:
        return copied_out_of_reach(number)
    except OSError as error:
        if error.errno != EBADF:
            raise
        return None
