"""The keyed content hash: XXH3 with 128 bits, at the speed of memory; of large contents, of samples.

It only finds candidates, which are compared byte for byte. Reading a whole segment that was just mapped would take longer
than everything else the server does with it, and contents of equal sizes and samples are mostly equal.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import xxhash

from scaler_protocol.wire.envelope import Frame

SEED_BYTES = 8

WHOLE_BYTES_MAX = 1024 * 1024
"""Larger buffers are not read whole."""

SAMPLES = 8
SAMPLE_BYTES = 256


class KeyedContentHash:
    """Hashes a list of buffers; the borders between them count. `seed` (8 bytes) should be random and stay secret."""

    def __init__(self, seed: bytes) -> None:
        self._seed = int.from_bytes(seed, "little")

    def __call__(self, buffers: Sequence[Frame]) -> bytes:
        state = xxhash.xxh3_128(struct.pack(f"<{len(buffers)}Q", *map(len, buffers)), seed=self._seed)
        for buffer in buffers:
            if len(buffer) <= WHOLE_BYTES_MAX:
                state.update(buffer)
                continue
            last = len(buffer) - SAMPLE_BYTES
            for number in range(SAMPLES):
                at = last * number // (SAMPLES - 1)
                state.update(buffer[at : at + SAMPLE_BYTES])
        return state.digest()
