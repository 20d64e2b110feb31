"""The control groups of Linux (version 1 or 2) around this process: where their limits are written."""

from __future__ import annotations

from collections.abc import Iterator

GROUPS = "/sys/fs/cgroup"
"""Where control groups are mounted."""

MEMBERSHIP = "/proc/self/cgroup"
"""The file that says in which of them this process is."""


def limit_files(
    groups: str, membership: str, controller: str, unified_name: str, name: str
) -> Iterator[tuple[str, bool]]:
    """Yield the files with a controller's limits of all groups around this process, which need not exist.

    `unified_name` is the file's name in version 2, `name` in version 1. With each comes whether it is of version 2.
    """
    try:
        with open(membership, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        is_unified = not controllers
        if is_unified:
            root, file_name = groups, unified_name
        elif controller in controllers.split(","):
            root, file_name = f"{groups}/{controller}", name
        else:
            continue
        # In a container, the path may be one of the host that is not mounted. Then the mounted root is the container's group.
        parts = path.strip("/").split("/")
        for count in range(len(parts), -1, -1):
            yield "/".join((root, *parts[:count], file_name)), is_unified
