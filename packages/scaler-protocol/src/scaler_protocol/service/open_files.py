"""The limit of open files (`RLIMIT_NOFILE`): every connection of a server is one, and the usual 1,024 are soon used up."""

from __future__ import annotations

import logging
import resource

COMFORTABLE_FILES = 8192
"""With less, a server says at its start how many connections it can have."""

UNLIMITED_FILES = 1 << 20
"""What stands for no limit: the system has one of its own, which no process may set."""

OWN_FILES = 64
"""What a server needs beside its connections, generously."""

logger = logging.getLogger(__name__)


def raise_open_files_limit() -> int:
    """Raise this process's limit as far as it may, and return it. Say in the log if it is low all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNLIMITED_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < COMFORTABLE_FILES:
        logger.warning(
            "this process may open %d files, so that no more than about %d clients and workers can be connected; "
            "raise its hard limit for more (ulimit -Hn, or LimitNOFILE= of systemd)",
            wanted,
            max(0, wanted - OWN_FILES),
        )
    return wanted
