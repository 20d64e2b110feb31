"""Ports for tests that run at the same time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scaler_protocol.testing.free_ports import BLOCK_PORTS, free_ports

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are claimed on Linux only")

PROGRAM = """
import random, sys
from scaler_protocol.testing.free_ports import free_ports
random.seed(1)
print(*(free_ports(2)[0] for _ in range(20)), flush=True)
sys.stdin.read()
"""


def test_ports_are_next_to_each_other_and_given_once() -> None:
    given = [free_ports(BLOCK_PORTS) for _ in range(20)]
    assert all(ports == list(range(ports[0], ports[0] + BLOCK_PORTS)) for ports in given)
    assert len({port for ports in given for port in ports}) == 20 * BLOCK_PORTS


def test_two_processes_that_draw_the_same_numbers_get_different_ports() -> None:
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, text=True) as one,
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, text=True) as other,
    ):
        assert one.stdout is not None
        assert other.stdout is not None
        ports = [*one.stdout.readline().split(), *other.stdout.readline().split()]
        one.communicate()
        other.communicate()
    assert len(ports) == 40
    assert len(set(ports)) == 40
