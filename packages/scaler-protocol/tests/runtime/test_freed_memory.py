"""Memory that many values took is used again, and given back on request."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from scaler_protocol.runtime.freed_memory import MOST_KEPT_BYTES, give_back_freed_memory, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fill():
    before = faults()
    for value in [bytes([number]) * 2**18 for number in range(80)]:
        pass
    return faults() - before

keep_freed_memory(MOST_KEPT_BYTES)
fill()
again = fill()
give_back_freed_memory()
print(again, fill())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of others has other rules")
def test_values_use_memory_again_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    again, afterwards = map(int, done.stdout.split())
    if afterwards < 80 * 2**18 // 4096 // 2:
        pytest.skip("this C library does not give memory back")
    assert again < afterwards / 10
