"""Ports for what a test must name before anybody binds it. No two processes on this machine are given the same. Linux only."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

BLOCK_PORTS = 10
LOWEST_PORT = 10_000

_claims: list[socket.socket] = []
"""Open until this process ends, however it ends."""


def free_ports(count: int, *hosts: str) -> list[int]:
    """Return ports in a row, at most BLOCK_PORTS, that are free on 127.0.0.1 and on `hosts`. They are never given again.

    They lie below those that the system gives to whoever asks for any: between this look and their use, nobody gets them.
    """
    assert count <= BLOCK_PORTS
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    blocks = range(LOWEST_PORT, lowest_given - BLOCK_PORTS, BLOCK_PORTS)
    for first in random.sample(blocks, len(blocks)):
        ports = list(range(first, first + count))
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            claim = opened.enter_context(socket.socket(socket.AF_UNIX))
            # An abstract name: one process at a time can have it, and it leaves no file behind.
            claim.bind(f"\0scaler-test-ports-{first}")
            for host in ("127.0.0.1", *hosts):
                for port in ports:
                    opened.enter_context(socket.socket()).bind((host, port))
            _claims.append(claim.dup())
            return ports
    raise AssertionError(f"no {count} free ports next to each other")
