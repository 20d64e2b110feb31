"""The journals of jobs in a bucket of S3 (`--storage-url s3://…`): one log of numbered parts. One request at a time.

    scaler-jobs/log/NUMBER               a part of the log (`journal_parts`)
    scaler-jobs/merged/FIRST-LAST-…      many of them in one
    scaler-jobs/alive/WRITER             what a scheduler that has the journals renews
    scaler-jobs/damaged/…                damaged parts as they were, where they are merged

S3 cannot append, but it can refuse a value whose key there is. So each part is written under the next number, and only as a new
value: who does not know what was written last adds nothing. A scheduler that takes the journals adds a part that says so, the
claim. The one before finds it at its next number, whatever it was about to write, and has lost the journals. Claims stay there.

The log is made shorter in the same way: a merged part is written first, and counts when a part of the log says so. Then the parts
that it stands for are deleted. What a scheduler that has lost the journals still deletes has been replaced before.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from scaler_protocol.service.process_identity import described, has_ended, this_process
from scaler_protocol.service.storage_url import S3Url
from scaler_scheduler.journal_parts import (
    Entry,
    Kind,
    Layout,
    Piece,
    pack,
    piece_of,
    uncovered,
    unpack,
)
from scaler_scheduler.journal_store import JournalStoreError, TakenError, taken_text
from scaler_scheduler.s3_bucket import DELETED_AT_ONCE, UNCONDITIONAL_TEXT, Listed, S3Bucket

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
"""What the store takes to answer is at most this, which is less than `HELD_SECONDS`."""

HELD_SECONDS = 15.0
GATHER_SECONDS = 0.25

PART_BYTES = 8 * 1024 * 1024
"""About so many bytes are written by one request."""

READ_AT_ONCE = 16
"""Parts that are asked for at once."""

CLAIM_TRIES = 5
CLAIM_KEPT = timedelta(days=30)
"""So long a claim stays: a scheduler that stood still for longer could add what nobody reads."""

TIDY_PAUSE_SECONDS = 30.0
"""When to try again what makes the log shorter, after it has failed."""

GARBAGE_MAX = 100_000
"""Most keys that are remembered for deleting them later. The next start finds the others."""

BASE = "scaler-jobs"
LOG, MERGED, ALIVE, DAMAGED = f"{BASE}/log/", f"{BASE}/merged/", f"{BASE}/alive/", f"{BASE}/damaged/"


class S3Journals:
    """A `JournalStore`."""

    held_seconds = HELD_SECONDS
    gather_seconds = GATHER_SECONDS

    def __init__(self, url: S3Url, endpoint: str | None, term: int) -> None:
        """`term`: of this scheduler. One with a higher term takes the journals from one with a lower."""
        self._bucket = S3Bucket(url, endpoint, REQUEST_SECONDS)
        self._term = term
        self._writer = os.urandom(16).hex()
        self._process = this_process()
        self._beat = 0
        self._seen = ("", b"")
        """Which other writer was seen, with what it renews."""
        self._seen_at = 0.0
        self._former = ""
        """The writer before this one."""
        self._next = 0
        """The number that the next part gets."""
        self._layout = Layout()
        self._staged: list[Entry] = []
        self._staged_bytes = 0
        self._pending: tuple[bytes, Callable[[int], None]] | None = None
        """A part that has been sent, and what is to be done once it is stored. It may be there, so it is sent again as it was."""
        self._garbage: list[str] = []
        """Keys that are to be deleted."""
        self._tidy_at = 0.0
        self._tidy_failure = ""
        self._merged = 0

    # --- whose the journals are

    def take(self) -> None:
        """See `JournalStore`."""
        for _ in range(CLAIM_TRIES):
            last = max(self._numbers(), default=0)
            if last and self._is_mine_or_free(last):
                self._next = last + 1
                return
            self._say_alive()
            claim = pack(Kind.CLAIM, self._writer, self._term)
            key = _log_key(last + 1)
            if not self._bucket.put_new(key, claim):
                # Somebody else was faster.
                continue
            if self._bucket.put_new(key, claim):
                raise JournalStoreError(UNCONDITIONAL_TEXT)
            self._next = last + 2
            if self._former:
                self._garbage.append(ALIVE + self._former)
            return
        raise JournalStoreError("other schedulers write there all the time")

    def _is_mine_or_free(self, last: int) -> bool:
        """Whether this scheduler has written the last part. Raises TakenError where another one did that has the journals."""
        data = self._bucket.get(_log_key(last))
        found = None if data is None else unpack(data)
        if found is None:
            return False
        if found.writer == self._writer:
            return True
        self._former = found.writer
        beat = self._bucket.get(ALIVE + found.writer)
        if beat is None or found.term < self._term or has_ended(_holder_of(beat)):
            return False
        if self._seen != (found.writer, beat):
            self._seen, self._seen_at = (found.writer, beat), time.monotonic()
        if time.monotonic() < self._seen_at + HELD_SECONDS:
            raise TakenError(taken_text(described(_holder_of(beat)), HELD_SECONDS))
        return False

    def _say_alive(self) -> None:
        self._beat += 1
        self._bucket.put(ALIVE + self._writer, json.dumps({**self._process, "beat": self._beat}).encode())

    def renew(self) -> None:
        """See `JournalStore`."""
        self._say_alive()
        # What this scheduler has sent may be there, though it was not told.
        mine = None if self._pending is None else self._pending[0]
        found = self._bucket.get(_log_key(self._next))
        if found is not None and found != mine:
            raise TakenError("another scheduler has taken them")

    def close(self) -> None:
        """See `JournalStore`."""
        self._bucket.delete([ALIVE + self._writer])

    # --- reading

    def load(self, note: Callable[[str], None]) -> Iterator[tuple[bytes, list[bytes]]]:
        """See `JournalStore`."""
        # Nobody else adds to it by now.
        log = {number: one for one in self._bucket.list(LOG) if (number := _number_of(one)) is not None}
        merged, claims = self._merged_and_claims(sorted(log, reverse=True))
        alone = uncovered(log, merged)
        lost = self._next - 1 - len(alone) - sum(last - first + 1 for first, last, _ in merged)
        pieces = sorted([*((*one, True) for one in merged), *((one, one, _log_key(one), False) for one in alone)])
        layout, jobs = Layout(), dict[bytes, list[bytes]]()
        for start in range(0, len(pieces), READ_AT_ONCE):
            some = pieces[start : start + READ_AT_ONCE]
            found = self._get_all([key for _, _, key, _ in some])
            for first, last, key, is_merged in some:
                data = found[key]
                lost += data is None
                kind, entries, is_damaged = self._read(key, data, note)
                size = len(data or b"")
                piece = piece_of(first, last, key, size, Kind.MERGED if is_merged else kind, entries)
                piece.is_damaged = is_damaged
                layout.add(piece)
                for job, record in entries:
                    if record is None:
                        jobs.pop(job, None)
                    else:
                        jobs.setdefault(job, []).append(record)
            self.renew()
        if lost:
            note(f"the store has lost {lost} parts of the journals: jobs may lack tasks and results")
        now = max((one.modified for one in log.values()), default=None)
        old = {one for one in claims if one in log and now is not None and log[one].modified < now - CLAIM_KEPT}
        layout.claims += sorted(claims & log.keys() - old)
        self._layout = layout
        self._garbage += [_log_key(one) for one in sorted(log.keys() - set(alone) - (claims - old))]
        known = {key for _, _, key in merged}
        self._garbage += [one.key for one in self._bucket.list(MERGED) if one.key not in known]
        yield from jobs.items()

    def _merged_and_claims(self, numbers: list[int]) -> tuple[list[tuple[int, int, str]], set[int]]:
        """Return what the last part says that lists merged ones: these, and which numbers of the log are claims."""
        for start in range(0, len(numbers), READ_AT_ONCE):
            keys = [_log_key(number) for number in numbers[start : start + READ_AT_ONCE]]
            for data in self._bucket.get_all(keys):
                part = None if data is None else unpack(data)
                if part is not None and part.kind is Kind.MERGE:
                    merged = [(int(first), int(last), str(key)) for first, last, key in part.header["merged"]]
                    return merged, set(map(int, part.header["claims"]))
        return [], set()

    def _get_all(self, keys: list[str]) -> dict[str, bytes | None]:
        """Return values by key. Numbers of which nothing is left have an empty key."""
        found: dict[str, bytes | None] = {"": b""}
        asked = [key for key in keys if key]
        found.update(zip(asked, self._bucket.get_all(asked), strict=True))
        return found

    @staticmethod
    def _read(key: str, data: bytes | None, note: Callable[[str], None]) -> tuple[Kind, list[Entry], bool]:
        """Return what a part is, what it has, and whether it has damage."""
        if not data:
            return Kind.RECORDS, [], False
        part = unpack(data)
        if part is None:
            note(f"the part {key} of the journals cannot be read: jobs may lack tasks and results")
            return Kind.RECORDS, [], True
        if part.damaged:
            note(f"the part {key} of the journals has {part.damaged} damaged places, which are passed over")
        return part.kind, part.entries, part.damaged > 0

    def _numbers(self) -> list[int]:
        return [number for one in self._bucket.list(LOG) if (number := _number_of(one)) is not None]

    # --- writing

    def append(self, job: bytes, records: list[bytes]) -> None:
        """See `JournalStore`."""
        if self._staged_bytes >= PART_BYTES:
            self.flush()
        self._staged += [Entry(job, record) for record in records]
        self._staged_bytes += sum(map(len, records))

    def drop(self, job: bytes) -> None:
        """See `JournalStore`."""
        self._staged.append(Entry(job, None))

    def flush(self) -> None:
        """See `JournalStore`."""
        self._finish_pending()
        if self._staged:
            data = pack(Kind.RECORDS, self._writer, self._term, self._staged)
            entries, self._staged, self._staged_bytes = self._staged, [], 0
            self._add(data, lambda number: self._layout.add(_records_piece(number, data, entries)))

    def _add(self, data: bytes, on_stored: Callable[[int], None]) -> None:
        """Add a part to the log. If this fails, it is done before anything else."""
        self._pending = (data, on_stored)
        self._finish_pending()

    def _finish_pending(self) -> None:
        if self._pending is None:
            return
        data, on_stored = self._pending
        key = _log_key(self._next)
        # Where its answer was lost, it is there.
        if not self._bucket.put_new(key, data) and self._bucket.get(key) != data:
            raise TakenError("another scheduler has taken them")
        self._pending = None
        self._next += 1
        on_stored(self._next - 1)

    # --- making it shorter

    def tidy(self) -> None:
        """See `JournalStore`."""
        if time.monotonic() < self._tidy_at:
            return
        try:
            if self._garbage:
                self._bucket.delete(self._garbage[:DELETED_AT_ONCE])
                del self._garbage[:DELETED_AT_ONCE]
            plan = self._layout.plan()
            if plan is not None and self._pending is None:
                self._merge(*plan)
            self._tidy_failure = ""
        except (JournalStoreError, ValueError) as error:
            self._tidy_at = time.monotonic() + TIDY_PAUSE_SECONDS
            if not self._tidy_failure:
                logger.warning("the journals of jobs in %s are not made shorter: %s", LOG, error)
            self._tidy_failure = str(error)

    def _merge(self, start: int, end: int) -> None:
        """Put one part in the place of these pieces."""
        layout = self._layout
        old = layout.pieces[start:end]
        entries: list[Entry] = []
        needed = [piece.key for piece in old if layout.must_be_read(start, piece)]
        for place in range(0, len(needed), READ_AT_ONCE):
            for key, data in self._get_all(needed[place : place + READ_AT_ONCE]).items():
                _, found, is_damaged = self._read(key, data, logger.error)
                entries += layout.kept(start, found)
                if data is None:
                    logger.error(
                        "the store has lost the part %s of the journals of jobs: jobs may lack tasks and results", key
                    )
                elif is_damaged:
                    # Whoever repairs it finds it there.
                    self._bucket.put(DAMAGED + key.replace("/", "-"), data)
            # Reading may have taken long.
            self._say_alive()
        first, last = old[0].first, old[-1].last
        data, key = b"", ""
        if entries:
            self._merged += 1
            data = pack(Kind.MERGED, self._writer, self._term, entries)
            key = f"{MERGED}{first:016}-{last:016}-{self._writer}-{self._merged}"
            self._bucket.put(key, data)
        piece = piece_of(first, last, key, len(data), Kind.MERGED, entries)
        merged, claims = layout.merged_pieces(start, end, piece), sorted(layout.claims)
        merge = pack(Kind.MERGE, self._writer, self._term, merged=merged, claims=claims)
        self._add(merge, partial(self._on_merged, start, end, piece, merge))

    def _on_merged(self, start: int, end: int, piece: Piece, merge: bytes, number: int) -> None:
        self._garbage += self._layout.replace(start, end, piece)
        del self._garbage[:-GARBAGE_MAX]
        self._layout.add(piece_of(number, number, _log_key(number), len(merge), Kind.MERGE, ()))


def _records_piece(number: int, data: bytes, entries: list[Entry]) -> Piece:
    return piece_of(number, number, _log_key(number), len(data), Kind.RECORDS, entries)


def _log_key(number: int) -> str:
    return f"{LOG}{number:016}"


def _number_of(listed: Listed) -> int | None:
    digits = listed.key.removeprefix(LOG)
    return int(digits) if digits.isdigit() else None


def _holder_of(beat: bytes) -> dict[str, object]:
    try:
        holder = json.loads(beat)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
