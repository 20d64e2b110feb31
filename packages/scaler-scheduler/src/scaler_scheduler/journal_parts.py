"""How journals of jobs lie in a store that cannot append: as numbered parts of one log, and merged ones. No I/O here.

Each part is what a file of `job_journals` is: records with checksums. The first one is a header (JSON) that says what the part is
and who wrote it. Behind it are entries, of many jobs: a record of a job, or that a job was dropped, with all that is before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from scaler_scheduler.job_journals import foreign_text, read_records, whole_file

SMALL_BYTES = 1024 * 1024
"""A part with fewer bytes of jobs that are there is merged with its neighbours."""

RUN_PARTS = 64
"""So many small parts in a row become one."""

RUN_PARTS_MAX = 1024
MERGED_BYTES = 16 * 1024 * 1024
"""A merged part gets about so many bytes."""

DEAD_BYTES = 64 * 1024 * 1024
"""So many bytes of dropped jobs may be in the store, and as many as there are bytes of others."""


_ENTRY_BYTES = 34
"""What a record takes beside its bytes."""


class Kind(StrEnum):
    """What a part of the log is."""

    RECORDS = "records"
    CLAIM = "claim"
    """Its writer has taken the journals. Such a part stays, as it keeps the writer before from adding anything."""
    MERGE = "merge"
    """Says which merged parts there are now, in place of which numbers of the log."""
    MERGED = "merged"
    """Such a part is not in the log itself."""


class Entry(NamedTuple):
    """A record of a job; None: the job was dropped."""

    job: bytes
    record: bytes | None


@dataclass(slots=True, frozen=True)
class Part:
    """A part that was read."""

    kind: Kind
    writer: str
    term: int
    header: dict[str, Any]
    entries: list[Entry]
    damaged: int
    """How many places of it cannot be read."""


def pack(kind: Kind, writer: str, term: int, entries: Iterable[Entry] = (), **more: Any) -> bytes:
    """Return the bytes of a part."""
    header = json.dumps({"kind": kind, "writer": writer, "term": term, **more}, separators=(",", ":")).encode()
    return whole_file([header, *map(_packed, entries)])


def unpack(data: bytes) -> Part | None:
    """Return a part; None where nothing of it can be read. Raises ValueError for one that is none, or of a later version."""
    trouble = foreign_text(data)
    if trouble:
        raise ValueError(trouble)
    records, end, damaged = read_records(data)
    damaged += end < len(data) and not damaged
    try:
        header = json.loads(records[0])
        kind, writer, term = Kind(header["kind"]), str(header["writer"]), int(header["term"])
        return Part(kind, writer, term, header, [_unpacked(one) for one in records[1:]], damaged)
    except (IndexError, KeyError, TypeError, ValueError):
        # The header is damaged, and so nobody knows what the rest is.
        return None


def _packed(entry: Entry) -> bytes:
    kind = b"D" if entry.record is None else b"R"
    return kind + bytes([len(entry.job)]) + entry.job + (entry.record or b"")


def _unpacked(data: bytes) -> Entry:
    end = 2 + data[1]
    job = data[2:end]
    if data[:1] == b"D":
        return Entry(job, None)
    if data[:1] != b"R":
        raise ValueError("an entry of a kind that is not known")
    return Entry(job, data[end:])


@dataclass(slots=True)
class Piece:
    """A part in the store, or numbers of the log of which nothing is left (no key)."""

    first: int
    last: int
    """Which numbers of the log it has."""
    key: str
    size: int
    jobs: dict[bytes, int] = field(default_factory=dict)
    """Bytes of its records, by job."""
    drops: list[bytes] = field(default_factory=list)
    """Jobs that it says were dropped."""
    is_claim: bool = False
    is_merged: bool = False
    is_damaged: bool = False
    live: int = 0
    """Bytes of jobs that are there."""


def piece_of(first: int, last: int, key: str, size: int, kind: Kind, entries: Iterable[Entry]) -> Piece:
    """Return the piece that a part is."""
    piece = Piece(first, last, key, size, is_claim=kind is Kind.CLAIM, is_merged=kind is Kind.MERGED)
    for job, record in entries:
        if record is None:
            piece.drops.append(job)
        else:
            piece.jobs[job] = piece.jobs.get(job, 0) + len(record) + _ENTRY_BYTES
    return piece


class Layout:
    """All parts in order, and which of them should be merged."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.claims: list[int] = []
        self._dropped: set[bytes] = set()
        """Jobs that were dropped, as long as some part has records of them."""
        self._total = 0
        self._live = 0

    def add(self, piece: Piece) -> None:
        """Add a part at the end."""
        if piece.is_claim:
            self.claims.append(piece.first)
        self.pieces.append(piece)
        self._count(piece)
        for job in piece.drops:
            self._drop(job)

    def _drop(self, job: bytes) -> None:
        if job in self._dropped:
            return
        for piece in self.pieces:
            if job in piece.jobs:
                self._dropped.add(job)
                piece.live -= piece.jobs[job]
                self._live -= piece.jobs[job]

    def _count(self, piece: Piece) -> None:
        piece.live = sum(size for job, size in piece.jobs.items() if job not in self._dropped)
        self._live += piece.live
        self._total += piece.size

    def plan(self) -> tuple[int, int] | None:
        """Return which pieces, from one index to before another, are to be merged now; None: none."""
        start = size = 0
        for index, piece in enumerate(self.pieces):
            if piece.live >= SMALL_BYTES:
                if index - start >= RUN_PARTS:
                    return start, index
                start, size = index + 1, 0
                continue
            size += piece.live
            if size >= MERGED_BYTES or index - start >= RUN_PARTS_MAX:
                return start, index + 1
        if len(self.pieces) - start >= RUN_PARTS:
            return start, len(self.pieces)
        if self._total - self._live > self._live + DEAD_BYTES:
            worst = max(range(len(self.pieces)), key=lambda at: self.pieces[at].size - self.pieces[at].live)
            return worst, worst + 1
        return None

    def kept(self, start: int, entries: Iterable[Entry]) -> list[Entry]:
        """Return what must be kept of the entries of pieces from index `start` on, when these are merged."""
        kept = []
        for entry in entries:
            if entry.record is not None:
                if entry.job not in self._dropped:
                    kept.append(entry)
            elif any(entry.job in piece.jobs for piece in self.pieces[:start]):
                kept.append(entry)
        return kept

    def must_be_read(self, start: int, piece: Piece) -> bool:
        """Whether a piece may have anything that must be kept when those from `start` on are merged."""
        if piece.is_damaged or piece.live > 0:
            return True
        return any(job in one.jobs for job in piece.drops for one in self.pieces[:start])

    def merged_pieces(self, start: int, end: int, piece: Piece) -> list[list[Any]]:
        """Return, for `Kind.MERGE`, all merged parts that there are once this one replaces others."""
        later = [*self.pieces[:start], piece, *self.pieces[end:]]
        return [[one.first, one.last, one.key] for one in later if one.is_merged]

    def replace(self, start: int, end: int, piece: Piece) -> list[str]:
        """Put a merged part in the place of others. Return the keys of those, which may be deleted."""
        old = self.pieces[start:end]
        for one in old:
            self._total -= one.size
            self._live -= one.live
        self.pieces[start:end] = [piece]
        self._count(piece)
        held = set().union(*(one.jobs for one in self.pieces))
        self._dropped &= held
        return [one.key for one in old if one.key and not one.is_claim]


def uncovered(numbers: Iterable[int], merged: Sequence[tuple[int, int, str]]) -> list[int]:
    """Return the numbers that no merged part has, in order."""
    ranges = sorted((first, last) for first, last, _ in merged)
    found, at = [], 0
    for number in sorted(numbers):
        while at < len(ranges) and ranges[at][1] < number:
            at += 1
        if at == len(ranges) or number < ranges[at][0]:
            found.append(number)
    return found
