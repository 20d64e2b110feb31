"""The thread that writes journals of jobs to a store: a store that fails, is slow, is another's, or has lost what it had."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from scaler_protocol.testing.waiting import wait_until
from scaler_scheduler import stored_journals
from scaler_scheduler.core.events import JournalsBehind, JournalsStored
from scaler_scheduler.journal_store import JournalStoreError, RecordsLostError, TakenError
from scaler_scheduler.stored_journals import JournalsAwayError, StoredJournals

JOB, OTHER = b"j" * 16, b"o" * 16


class Store:
    """A store in memory, which fails as it is told."""

    held_seconds = 4.0
    gather_seconds = 0.0

    def __init__(self) -> None:
        self.jobs: dict[bytes, list[bytes]] = {}
        self.failure: Exception | None = None
        self.passes = threading.Event()
        self.passes.set()
        self.requests = 0
        self.loses_answers = False
        self.unanswered: set[bytes] = set()
        self.closed = False

    def _ask(self) -> None:
        self.requests += 1
        assert self.passes.wait(30)
        if self.failure is not None:
            raise self.failure

    def take(self) -> None:
        self._ask()

    def load(self, note: Callable[[str], None]) -> Iterator[tuple[bytes, list[bytes]]]:
        self._ask()
        yield from {job: list(records) for job, records in self.jobs.items()}.items()

    def append(self, job: bytes, records: list[bytes]) -> None:
        self._ask()
        if job in self.unanswered:
            # It knows that it has these by the length of its list only, not by what is sent.
            self.unanswered.remove(job)
            return
        self.jobs.setdefault(job, []).extend(records)
        if self.loses_answers:
            self.unanswered.add(job)
            self.failure = JournalStoreError("the connection was reset")
            raise self.failure

    def drop(self, job: bytes) -> None:
        self._ask()
        self.jobs.pop(job, None)

    def flush(self) -> None:
        pass

    def tidy(self) -> None:
        pass

    def renew(self) -> None:
        self._ask()

    def close(self) -> None:
        self.closed = True


class Kept:
    """Journals in such a store, and what they have said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stored_journals, "RETRY_SECONDS", 0.02)
        monkeypatch.setattr(stored_journals, "CLOSE_SECONDS", 0.3)
        self.store = Store()
        self.told: list[JournalsBehind | JournalsStored] = []
        self.open: list[StoredJournals] = []

    def journals(self) -> StoredJournals:
        self.open.append(StoredJournals("the store", self.store, self.told.append))
        return self.open[-1]

    def loaded(self) -> StoredJournals:
        journals = self.journals()
        journals.load(30.0)
        return journals

    def wait_stored(self, journals: StoredJournals, wait: int) -> None:
        journals.sync(wait)
        wait_until(lambda: JournalsStored(wait) in self.told, 30)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    kept = Kept(monkeypatch)
    yield kept
    kept.store.passes.set()
    for journals in kept.open:
        journals.close()


def test_records_come_back(kept: Kept) -> None:
    journals = kept.loaded()
    for number in range(5):
        journals.append(JOB, b"%d" % number)
    journals.append(OTHER, b"other")
    kept.wait_stored(journals, 1)
    journals.drop(OTHER)
    journals.close()
    assert kept.store.closed
    assert kept.journals().load(30.0) == [(JOB, [b"0", b"1", b"2", b"3", b"4"])]


def test_what_comes_while_a_request_is_under_way_is_written_together(kept: Kept) -> None:
    journals = kept.loaded()
    kept.wait_stored(journals, 1)
    kept.store.passes.clear()
    journals.append(JOB, b"first")
    requests = kept.store.requests
    wait_until(lambda: kept.store.requests > requests, 30)
    for number in range(1000):
        journals.append(JOB, b"%d" % number)
    journals.sync(2)
    assert JournalsStored(2) not in kept.told
    kept.store.passes.set()
    kept.wait_stored(journals, 3)
    assert kept.store.requests <= requests + 3
    assert kept.store.jobs[JOB] == [b"first", *(b"%d" % number for number in range(1000))]
    assert kept.told.index(JournalsStored(2)) < kept.told.index(JournalsStored(3))


def test_a_store_that_fails_is_said_once_and_gets_all_in_order_later(
    kept: Kept, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_journals, "BEHIND_BYTES", 100)
    caplog.set_level("INFO")
    journals = kept.loaded()
    kept.store.failure = JournalStoreError("it is away")
    journals.append(JOB, b"x" * 60)
    journals.append(OTHER, b"forgotten")
    journals.sync(1)
    requests = kept.store.requests
    wait_until(lambda: kept.store.requests > requests + 3, 30)
    assert kept.told == []
    journals.drop(OTHER)
    journals.append(JOB, b"y" * 60)
    wait_until(lambda: len(kept.told) == 1, 30)
    (behind,) = kept.told
    assert isinstance(behind, JournalsBehind)
    assert "120 bytes wait for the store of jobs (the store), which does not take them: it is away" in behind.text
    kept.store.failure = None
    wait_until(lambda: kept.told[1:] == [JournalsStored(1), JournalsBehind("")], 30)
    assert kept.store.jobs == {JOB: [b"x" * 60, b"y" * 60]}
    assert caplog.text.count("cannot be written, and are kept in memory until they can: it is away") == 1
    assert "are written again" in caplog.text


def test_a_request_whose_answer_was_lost_is_sent_again_as_it_was(kept: Kept) -> None:
    journals = kept.loaded()
    kept.store.loses_answers = True
    journals.append(JOB, b"one")
    wait_until(lambda: kept.store.failure is not None, 30)
    kept.store.loses_answers = False
    journals.append(JOB, b"two")
    requests = kept.store.requests
    wait_until(lambda: kept.store.requests > requests + 2, 30)
    kept.store.failure = None
    kept.wait_stored(journals, 1)
    assert kept.store.jobs == {JOB: [b"one", b"two"]}


def test_a_store_that_is_away_at_first_is_read_later(kept: Kept) -> None:
    kept.store.jobs[JOB] = [b"one"]
    kept.store.failure = JournalStoreError("it is away")
    journals = kept.journals()
    wait_until(lambda: "away" in journals.trouble, 30)
    with pytest.raises(JournalsAwayError, match="--storage-url the store: it cannot be read: it is away"):
        journals.load(0.0)
    kept.store.failure = TakenError("another scheduler keeps its jobs there")
    wait_until(lambda: "another scheduler" in journals.trouble, 30)
    kept.store.failure = None
    assert journals.load(30.0) == [(JOB, [b"one"])]


def test_who_has_lost_the_journals_writes_no_more(kept: Kept) -> None:
    journals = kept.loaded()
    kept.store.failure = TakenError("another scheduler has taken them")
    journals.append(JOB, b"one")
    wait_until(lambda: journals.lost, 30)
    kept.store.failure = None
    journals.append(JOB, b"two")
    journals.close()
    assert kept.store.jobs == {}


def test_an_error_that_nobody_expects_is_no_silence(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.store.failure = ZeroDivisionError("by zero")
    journals = kept.journals()
    wait_until(lambda: "ZeroDivisionError" in journals.trouble, 30)
    kept.store.failure = None
    assert journals.load(30.0) == []
    kept.store.failure = ZeroDivisionError("by zero")
    journals.append(JOB, b"one")
    wait_until(lambda: journals.lost, 30)
    assert "ZeroDivisionError" in journals.lost
    assert "keeping the journals of jobs has failed" in caplog.text
    wait_until(lambda: kept.store.closed, 30)


def test_a_job_whose_journal_the_store_has_lost_goes_on(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    journals = kept.loaded()
    kept.store.failure = RecordsLostError()
    journals.append(JOB, b"one")
    kept.wait_stored(journals, 1)
    assert f"the store has lost the journal of job {JOB.hex()}" in caplog.text
    kept.store.failure = None
    journals.append(JOB, b"two")
    journals.append(OTHER, b"other")
    kept.wait_stored(journals, 2)
    assert kept.store.jobs == {OTHER: [b"other"]}


def test_a_store_that_hangs_holds_nobody_for_long_at_the_end(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    journals = kept.loaded()
    kept.store.passes.clear()
    journals.append(JOB, b"12345")
    journals.close()
    assert "5 bytes of journals were not stored before the end" in caplog.text
