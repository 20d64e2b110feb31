"""The port of storage below the server's memory: records of bytes by name.

A tier knows nothing of objects, owners or clients. The server gives each content a name and a header of its own, and finds
both again after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from scaler_protocol.wire.envelope import Frame

NAME_CHARACTERS_MAX = 64
"""Longest name of a record. Names consist of the digits 0-9 and a-f."""

HEADER_BYTES_MAX = 1 << 20
"""Largest header of a record."""


class TierError(Exception):
    """A tier could not do what was asked. The text names the record, the tier and the reason."""


class NotStoredError(TierError):
    """The tier has no record of this name."""


class DamagedError(TierError):
    """A record has another length or checksum than it was written with. It is never returned."""


class TierFullError(TierError):
    """The tier has no room for the record. What it held before is as it was."""


class TierUnavailableError(TierError):
    """The tier did not answer in time, refused the connection or reported a failure. A later call may succeed."""


@dataclass(slots=True, frozen=True)
class Record:
    """A record that was read."""

    header: bytes
    buffers: Sequence[Frame]
    """They are read-only, and may be views of a mapping that stays while they are referenced."""


@dataclass(slots=True, frozen=True)
class StoredRecord:
    """What a tier knows of a record without reading its buffers."""

    name: str
    header: bytes
    size_bytes: int
    """What the record counts for in `Tier.used_bytes`."""


class Tier(Protocol):
    """Keeps records until they are deleted.

    All methods block, and may be called in several threads at once, though not for one name at the same time. Each ends within
    deadlines of the tier, and raises only `TierError`.
    """

    @property
    def used_bytes(self) -> int:
        """Bytes of all records that this process has found or written, as far as it knows. Never blocks."""

    def write(self, name: str, header: bytes, buffers: Sequence[Frame]) -> None:
        """Store a record, whole or not at all. It replaces one of the same name.

        Raises `TierFullError` or `TierUnavailableError`. After the latter the record may be there, whole.
        """

    def read(self, name: str) -> Record:
        """Return a record as it was written. Raises `NotStoredError`, `DamagedError` or `TierUnavailableError`."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete these records. One that does not exist is no error. Raises `TierUnavailableError`."""

    def records(self) -> Iterator[StoredRecord]:
        """Return all records, in any order; for the start: nothing may be written meanwhile.

        Damaged and unfinished ones are removed, and a line in the log says how many. Raises `TierUnavailableError`.
        """

    def close(self) -> None:
        """Free connections and files. Records stay, if the tier outlives the process at all."""


def is_name(name: str) -> bool:
    """Whether `name` can be the name of a record."""
    return 0 < len(name) <= NAME_CHARACTERS_MAX and all(character in "0123456789abcdef" for character in name)


def check_name(name: str) -> None:
    """Raise ValueError if `name` cannot be the name of a record."""
    if not is_name(name):
        raise ValueError(
            f"{name!r:.80} cannot name a record: give 1 to {NAME_CHARACTERS_MAX} of the digits 0-9 and a-f"
        )
