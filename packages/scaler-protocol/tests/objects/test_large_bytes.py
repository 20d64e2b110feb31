"""Large `bytes` are made of any buffer, and are bytes like all others."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from scaler_protocol.objects.large_bytes import LARGE_BYTES_MIN, make_bytes
from scaler_protocol.wire.envelope import Frame


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda raw: memoryview(bytearray(raw))])
@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES_MIN - 1, LARGE_BYTES_MIN, LARGE_BYTES_MIN + 4097, 9_000_001])
def test_the_content_is_that_of_the_buffer(kind: Callable[[bytes], Frame], size: int) -> None:
    content = os.urandom(size)
    made = make_bytes(kind(content))
    assert type(made) is bytes
    assert made == content
    assert hash(made) == hash(content)
    assert made + b"" == content


def test_it_does_not_change_with_its_source() -> None:
    source = bytearray(LARGE_BYTES_MIN + 1)
    made = make_bytes(memoryview(source))
    source[:] = b"\1" * len(source)
    assert made == bytes(LARGE_BYTES_MIN + 1)
    # And the source is not held.
    source.append(0)


def test_many_are_made_and_freed() -> None:
    view = memoryview(bytearray(os.urandom(LARGE_BYTES_MIN)))
    kept = [make_bytes(view) for _ in range(20)]
    assert all(made == kept[0] for made in kept)
