"""The memory that a process may use, with control groups in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scaler_protocol.runtime.memory_limit import memory_limit_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB = 1024**2


def limit(folder: Path, membership: str, files: dict[str, str]) -> int:
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    member = folder / "cgroup"
    member.write_text(membership)
    return memory_limit_bytes(str(folder / "groups"), str(member))


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{32 * MIB}\n", "a/memory.max": f"{64 * MIB}\n"}, 32 * MIB),
        ("0::/of/the/host\n", {"memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        (
            "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n",
            {
                "memory/x/memory.limit_in_bytes": f"{64 * MIB}\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            64 * MIB,
        ),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ("0::/a:b\n", {"a:b/memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        ("", {}, MACHINE),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, membership: str, files: dict[str, str], expected: int) -> None:
    assert limit(tmp_path, membership, files) == expected


def test_without_control_groups_it_is_the_machine_s(tmp_path: Path) -> None:
    assert memory_limit_bytes(str(tmp_path / "none"), str(tmp_path / "nothing")) == MACHINE


def test_this_process_has_some() -> None:
    assert 0 < memory_limit_bytes() <= MACHINE
