"""What a process does with memory that it has freed."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from scaler_protocol.service.memory import UNUSED_BYTES, UNUSED_LOOKS, UnusedMemory, rss_bytes

needs_mallinfo = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library cannot say how much of its memory is free"
)


def _leave_holes() -> list[bytes]:
    """Free many values between some that stay, so that the end of the heap is in use."""
    values = [bytes(80_000) for _ in range(3 * UNUSED_BYTES // 80_000)]
    return values[::20]


def _check() -> None:
    before = rss_bytes()
    kept = _leave_holes()
    held = rss_bytes()
    unused = UnusedMemory()
    assert held - before > UNUSED_BYTES
    assert not any(unused.look() for _ in range(UNUSED_LOOKS - 1))
    assert unused.look()
    assert held - rss_bytes() > UNUSED_BYTES
    assert not any(unused.look() for _ in range(3 * UNUSED_LOOKS))
    assert kept


@needs_mallinfo
def test_memory_that_stays_unused_is_returned() -> None:
    # In a process of its own: what others have freed is not counted.
    found = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr


def test_a_c_library_that_cannot_say_how_much_is_free_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    unused = UnusedMemory()
    assert not any(unused.look() for _ in range(2 * UNUSED_LOOKS))


if __name__ == "__main__":
    _check()
