"""Journals of jobs in a store, written by a thread of its own: the event loop never waits for the store.

Records are written as soon as the thread is free, all that came meanwhile together. What the store does not take is kept in
memory and tried again. The core hears when what it waits for is stored, and when so much waits that no further tasks may come.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from scaler_protocol.runtime.counted import counted
from scaler_protocol.service.errors import ServiceError
from scaler_scheduler.core.events import JournalsBehind, JournalsStored
from scaler_scheduler.journal_store import JournalStore, JournalStoreError, RecordsLostError, TakenError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
CLOSE_RETRY_SECONDS = 0.1
RENEWALS = 4
"""How often a scheduler says that it has the journals, in the time after which they are free."""

PART_BYTES = 1024 * 1024
"""About so many bytes of a job are written by one request."""

BEHIND_BYTES = 64 * 1024 * 1024
"""If so many bytes wait for the store, no further tasks are taken."""

CLOSE_SECONDS = 2.0
"""How long to wait at the end for what is not stored yet."""


class JournalsAwayError(ServiceError):
    """The store does not answer, or another scheduler has the journals there."""


class StoredJournals:
    """See the module. Methods are the event loop's; those of the thread are below."""

    def __init__(
        self, place: str, store: JournalStore, on_event: Callable[[JournalsBehind | JournalsStored], None]
    ) -> None:
        """`place` is for people. `on_event` is called in the thread."""
        self.place = place
        self._store = store
        self._on_event = on_event
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._hurries = threading.Event()
        """Set when what waits is to be written at once."""
        self._closes = threading.Event()
        self._closes_at = float("inf")
        self._is_loaded = threading.Event()
        self._loaded: list[tuple[bytes, list[bytes]]] = []
        self.trouble = "it has not answered yet"
        """Why the journals are not read."""
        self.lost = ""
        """Why this scheduler may write no more; empty while it may."""
        self._appended: dict[bytes, list[bytes]] = {}
        self._dropped: list[bytes] = []
        self._waits: list[int] = []
        self._waiting_bytes = 0
        """All four are changed under the lock, by both threads."""
        self._parts: dict[bytes, list[bytes]] = {}
        self._asked: dict[bytes, int] = {}
        """How many records of a job an unanswered request had: the store may have them, so it is sent again as it was."""
        self._drops: list[bytes] = []
        """What the thread has taken of them, and the store has not taken."""
        self._unflushed = 0
        """Bytes that the store has taken, and may not have stored."""
        self._unkept: set[bytes] = set()
        """Jobs whose journals the store has lost."""
        self._is_behind = False
        self._failure = ""
        self._renewed_at = 0.0
        self._thread = threading.Thread(target=self._run, name="scaler-job-journals", daemon=True)
        self._thread.start()

    # --- the event loop's

    def load(self, wait_seconds: float) -> list[tuple[bytes, list[bytes]]]:
        """Return each job with its records. Raises JournalsAwayError while they are not read; to be tried again."""
        if not self._is_loaded.wait(wait_seconds):
            raise JournalsAwayError(f"--storage-url {self.place}: {self.trouble}")
        loaded, self._loaded = self._loaded, []
        return loaded

    def append(self, job: bytes, record: bytes) -> None:
        """Append a record to a job's journal."""
        with self._lock:
            self._appended.setdefault(job, []).append(record)
            self._waiting_bytes += len(record)
            hurries = self._waiting_bytes >= PART_BYTES
        self._wake.set()
        if hurries:
            self._hurries.set()

    def sync(self, wait: int) -> None:
        """Say `JournalsStored` with this number once all that was appended and dropped so far is stored."""
        if wait:
            with self._lock:
                self._waits.append(wait)
            self._wake.set()
            self._hurries.set()

    def drop(self, job: bytes) -> None:
        """Remove a job's journal."""
        with self._lock:
            self._waiting_bytes -= sum(map(len, self._appended.pop(job, ())))
            self._dropped.append(job)
        self._wake.set()

    def begin_close(self) -> None:
        """Have stored what is left, and let go of the journals, within two seconds. To be followed by `close`. Idempotent."""
        if self._closes.is_set():
            return
        self._closes_at = time.monotonic() + CLOSE_SECONDS
        self._closes.set()
        self._wake.set()
        self._hurries.set()

    @property
    def has_closed(self) -> bool:
        """Whether `close` would not wait: the journals are let go of, or their time for that is over."""
        return self._closes.is_set() and (not self._thread.is_alive() or time.monotonic() >= self._closes_at)

    def close(self) -> None:
        """Have stored what is left, and let go of the journals. Waits for two seconds at most, from `begin_close` on."""
        self.begin_close()
        self._thread.join(max(0.0, self._closes_at - time.monotonic()))
        with self._lock:
            unstored = self._waiting_bytes
        if unstored:
            logger.error(
                "--storage-url %s: %s of journals were not stored before the end; their tasks run again",
                self.place,
                counted(unstored, "byte"),
            )

    # --- the thread's

    def _run(self) -> None:
        try:
            if self._open():
                self._write_until_closed()
        except TakenError as error:
            self.lost = str(error)
        except Exception as error:
            # Without this thread nothing would be stored any more, and nobody would know. The scheduler opens the store again.
            logger.exception("--storage-url %s: keeping the journals of jobs has failed", self.place)
            self.lost = f"keeping them has failed: {error!r}"
        finally:
            with contextlib.suppress(JournalStoreError):
                self._store.close()

    def _open(self) -> bool:
        """Read the journals. Return whether they were before the end."""
        while not self._closes.is_set():
            problems: list[str] = []
            try:
                self._store.take()
                self._loaded = list(self._store.load(problems.append))
            except TakenError as error:
                self.trouble = str(error)
            except (JournalStoreError, ValueError) as error:
                self.trouble = f"it cannot be read: {error}"
            except Exception as error:
                # It is tried again, as everything else: what a store answers may be of any kind.
                self.trouble = f"it cannot be read: {error!r}"
            else:
                for problem in problems:
                    logger.error("--storage-url %s: %s", self.place, problem)
                self._renewed_at = time.monotonic()
                self._is_loaded.set()
                return True
            self._closes.wait(RETRY_SECONDS)
        return False

    def _write_until_closed(self) -> None:
        while True:
            self._wake.clear()
            self._hurries.clear()
            closes = self._closes.is_set()
            waits = self._take_up()
            is_stored = self._write()
            if is_stored:
                for wait in waits:
                    self._on_event(JournalsStored(wait))
            else:
                with self._lock:
                    self._waits[:0] = waits
            self._note_backlog()
            if closes and (is_stored or time.monotonic() >= self._closes_at):
                return
            if is_stored:
                self._store.tidy()
                self._hurries.wait(self._store.gather_seconds)
                self._wake.wait(self._store.held_seconds / RENEWALS)
            elif closes:
                time.sleep(CLOSE_RETRY_SECONDS)
            else:
                # What comes meanwhile does not make the store answer sooner.
                self._closes.wait(RETRY_SECONDS)

    def _take_up(self) -> list[int]:
        with self._lock:
            appended, self._appended = self._appended, {}
            dropped, self._dropped = self._dropped, []
            waits, self._waits = self._waits, []
        for job in dropped:
            self._forget(self._parts.pop(job, []))
            self._asked.pop(job, None)
            self._unkept.discard(job)
            self._drops.append(job)
        for job, records in appended.items():
            if job in self._unkept:
                self._forget(records)
            else:
                self._parts.setdefault(job, []).extend(records)
        return waits

    def _forget(self, records: list[bytes]) -> None:
        """These records wait no more."""
        with self._lock:
            self._waiting_bytes -= sum(map(len, records))

    def _write(self) -> bool:
        """Write what there is. Return whether all of it is stored."""
        try:
            # First what makes room.
            while self._drops:
                self._store.drop(self._drops[0])
                del self._drops[0]
            for job in list(self._parts):
                self._write_job(job)
            self._store.flush()
            unflushed, self._unflushed = self._unflushed, 0
            with self._lock:
                self._waiting_bytes -= unflushed
            now = time.monotonic()
            if now >= self._renewed_at + self._store.held_seconds / RENEWALS:
                self._store.renew()
                self._renewed_at = now
        except JournalStoreError as error:
            was_failing, self._failure = bool(self._failure), str(error)
            if not was_failing:
                logger.error(
                    "--storage-url %s: the journals of jobs cannot be written, and are kept in memory until they can: %s",
                    self.place,
                    error,
                )
            return False
        self._note_stored()
        return True

    def _write_job(self, job: bytes) -> None:
        records = self._parts[job]
        while records:
            size, count = 0, self._asked.get(job, 0)
            if not count:
                while count < len(records) and size < PART_BYTES:
                    size += len(records[count])
                    count += 1
            self._asked[job] = count
            try:
                self._store.append(job, records[:count])
            except RecordsLostError:
                self._unkept.add(job)
                count = len(records)
                logger.error(
                    "--storage-url %s: the store has lost the journal of job %s: the job goes on, and ends with this scheduler",
                    self.place,
                    job.hex(),
                )
                self._forget(records)
            else:
                self._unflushed += sum(map(len, records[:count]))
            del self._asked[job]
            del records[:count]
        del self._parts[job]

    def _note_stored(self) -> None:
        if self._failure:
            self._failure = ""
            logger.info("--storage-url %s: the journals of jobs are written again", self.place)

    def _note_backlog(self) -> None:
        with self._lock:
            waiting = self._waiting_bytes
        if not self._is_behind and waiting >= BEHIND_BYTES:
            self._is_behind = True
            text = (
                f"jobs take no further tasks now: {waiting} bytes wait for the store of jobs ({self.place}), which does not "
                f"take them: {self._failure or 'it is slow'}. Try again later"
            )
            self._on_event(JournalsBehind(text))
        elif self._is_behind and waiting < BEHIND_BYTES // 2:
            self._is_behind = False
            self._on_event(JournalsBehind(""))
