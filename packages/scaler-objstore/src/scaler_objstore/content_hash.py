"""The keyed content hash: XXH3 with 128 bits. It hashes small buffers whole, and samples of large ones.

The hash only finds candidates, which are then compared byte for byte. Reading a whole segment that was just mapped would take
longer than everything else the server does with it, and contents with equal sizes and samples are mostly equal.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import xxhash

from scaler_protocol.wire.envelope import Frame

SEED_BYTES = 8

WHOLE_BYTES_MAX = 1024 * 1024
"""Of larger buffers only samples are hashed."""

SAMPLES = 8
SAMPLE_BYTES = 256


class KeyedContentHash:
    """Hashes a list of buffers with their lengths. `seed` (8 bytes) should be random and stay secret."""

    def __init__(self, seed: bytes) -> None:
        self._seed = int.from_bytes(seed, "little")

    def __call__(self, buffers: Sequence[Frame]) -> bytes:
        """Return the hash of an object's buffers: of their lengths, their bytes, and samples of large ones."""
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
