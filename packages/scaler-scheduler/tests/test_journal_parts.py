"""Parts of the log in which journals of jobs lie in S3: what is read of them, and which of them become one."""

from __future__ import annotations

import itertools
import random

import pytest

from scaler_scheduler import journal_parts
from scaler_scheduler.journal_parts import Entry, Kind, Layout, pack, piece_of, uncovered, unpack

A, B = b"a" * 16, b"b" * 16


def test_a_part_comes_back_as_it_was() -> None:
    entries = [Entry(A, b"one"), Entry(B, b""), Entry(A, None), Entry(b"", b"\0" * 100)]
    part = unpack(pack(Kind.MERGE, "w", 7, entries, claims=[1, 2]))
    assert part is not None
    assert (part.kind, part.writer, part.term, part.header["claims"], part.damaged) == (Kind.MERGE, "w", 7, [1, 2], 0)
    assert part.entries == entries


def test_damage_costs_what_is_damaged() -> None:
    data = bytearray(pack(Kind.RECORDS, "w", 7, [Entry(A, b"x" * 50), Entry(B, b"y" * 50), Entry(A, b"z" * 50)]))
    data[data.index(b"yyy")] ^= 1
    part = unpack(bytes(data))
    assert part is not None
    assert part.entries == [Entry(A, b"x" * 50), Entry(A, b"z" * 50)]
    assert part.damaged == 1
    cut = unpack(bytes(data[:-1]))
    assert cut is not None
    assert (cut.entries, cut.damaged) == ([Entry(A, b"x" * 50)], 1)
    data[data.index(b"records")] ^= 1
    assert unpack(bytes(data)) is None


def test_what_another_version_has_written_is_left_alone() -> None:
    with pytest.raises(ValueError, match="does not begin like a journal"):
        unpack(b"something else that is long enough")
    data = bytearray(pack(Kind.CLAIM, "w", 7))
    data[9] = 99
    with pytest.raises(ValueError, match="it has version 99"):
        unpack(bytes(data))


class Log:
    """A log and its merged parts in memory: what is there if it is read."""

    def __init__(self) -> None:
        self.layout = Layout()
        self.parts: dict[str, list[Entry]] = {}
        self.next = 1

    def add(self, *entries: Entry, kind: Kind = Kind.RECORDS) -> None:
        key = f"log/{self.next}"
        data = pack(kind, "w", 1, entries)
        self.parts[key] = list(entries)
        self.layout.add(piece_of(self.next, self.next, key, len(data), kind, entries))
        self.next += 1

    def merge(self) -> bool:
        plan = self.layout.plan()
        if plan is None:
            return False
        start, end = plan
        old = self.layout.pieces[start:end]
        read = [entry for one in old if self.layout.must_be_read(start, one) for entry in self.parts[one.key]]
        entries = self.layout.kept(start, read)
        key = f"merged/{old[0].first}-{old[-1].last}-{self.next}" if entries else ""
        if key:
            self.parts[key] = entries
        size = len(pack(Kind.MERGED, "w", 1, entries)) if entries else 0
        piece = piece_of(old[0].first, old[-1].last, key, size, Kind.MERGED, entries)
        listed = self.layout.merged_pieces(start, end, piece)
        assert [piece.first, piece.last, piece.key] in listed
        for gone in self.layout.replace(start, end, piece):
            del self.parts[gone]
        self.add(kind=Kind.MERGE)
        return True

    def read(self) -> dict[bytes, list[bytes]]:
        jobs: dict[bytes, list[bytes]] = {}
        for piece in self.layout.pieces:
            for job, record in self.parts[piece.key] if piece.key else ():
                if record is None:
                    jobs.pop(job, None)
                else:
                    jobs.setdefault(job, []).append(record)
        return jobs

    def size(self) -> int:
        return sum(piece.size for piece in self.layout.pieces)


def test_many_small_parts_become_one_and_large_ones_stay() -> None:
    log = Log()
    log.add(Entry(B, b"b" * 2_000_000))
    for number in range(journal_parts.RUN_PARTS - 1):
        log.add(Entry(A, b"%d" % number))
        assert log.layout.plan() is None
    log.add(Entry(A, b"last"))
    before = log.read()
    assert log.merge()
    assert [(one.first, one.last) for one in log.layout.pieces] == [(1, 1), (2, 65), (66, 66)]
    assert not log.merge()
    assert log.read() == before


def test_claims_stay_in_the_store() -> None:
    log = Log()
    for _ in range(journal_parts.RUN_PARTS):
        log.add(kind=Kind.CLAIM)
    assert log.merge()
    assert len(log.parts) == journal_parts.RUN_PARTS + 1, "all of them, and what says that they count no more"
    assert log.layout.claims == list(range(1, journal_parts.RUN_PARTS + 1))


def test_nothing_is_left_of_dropped_jobs_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_parts, "DEAD_BYTES", 10_000)
    log = Log()
    for _ in range(3):
        log.add(Entry(A, b"a" * 2_000_000))
    log.add(Entry(B, b"b" * 1_500_000))
    log.add(Entry(A, None))
    while log.merge():
        assert log.read() == {B: [b"b" * 1_500_000]}
    assert log.size() < 1_600_000


@pytest.mark.parametrize("seed", range(20))
def test_what_is_read_never_depends_on_what_was_merged(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_parts, "SMALL_BYTES", 300)
    monkeypatch.setattr(journal_parts, "RUN_PARTS", 5)
    monkeypatch.setattr(journal_parts, "MERGED_BYTES", 2000)
    monkeypatch.setattr(journal_parts, "DEAD_BYTES", 3000)
    draw = random.Random(seed)
    log, model = Log(), dict[bytes, list[bytes]]()
    jobs = 0
    for _ in range(400):
        entries = []
        for _ in range(draw.randrange(1, 4)):
            choice = draw.random()
            if choice < 0.15 or not model:
                jobs += 1
                model[b"%016d" % jobs] = []
            job = draw.choice(list(model))
            if choice > 0.9:
                del model[job]
                entries.append(Entry(job, None))
            else:
                model[job].append(draw.randbytes(draw.choice([1, 50, 400])))
                entries.append(Entry(job, model[job][-1]))
        log.add(*entries, kind=Kind.CLAIM if draw.random() < 0.05 else Kind.RECORDS)
        if draw.random() < 0.5:
            log.merge()
        assert log.read() == {job: records for job, records in model.items() if records}
    while log.merge():
        pass
    live = sum(len(record) + 34 for records in model.values() for record in records)
    assert log.size() <= 2 * live + 3000 + 200 * len(log.layout.pieces)
    assert len(log.layout.pieces) <= live // 50 + 30
    numbers = [(one.first, one.last) for one in log.layout.pieces]
    assert numbers[0][0] == 1
    assert all(one[1] + 1 == two[0] for one, two in itertools.pairwise(numbers))


def test_numbers_that_no_merged_part_has() -> None:
    assert uncovered([9, 1, 2, 5, 3, 20], [(2, 3, "x"), (8, 10, "")]) == [1, 5, 20]
    assert uncovered([1], []) == [1]
