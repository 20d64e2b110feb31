"""Jobs of a scheduler that is first, and is first no more: what it waits for, and what not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from test_stored_journals import JOB, Store

from scaler_protocol.testing.waiting import wait_until
from scaler_scheduler import stored_journals
from scaler_scheduler.core import SchedulerConfig, effects
from scaler_scheduler.kept_jobs import KeptJobs
from scaler_scheduler.settings import SchedulerSettings

CONFIG = SchedulerConfig(incarnation=b"s" * 16)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(KeptJobs, "_journal_store", lambda *_: store)
    return store


def in_a_loop(story: Callable[[KeptJobs], None]) -> None:
    async def run() -> None:
        arguments = ["tcp://127.0.0.1:0", "--storage-url", "s3://bucket/scaler"]
        kept = KeptJobs(SchedulerSettings.from_command_line(arguments), lambda _event: None)
        try:
            story(kept)
        finally:
            kept.close()

    asyncio.run(run())


def test_who_steps_down_does_not_wait_for_a_slow_store_and_takes_jobs_up_once_it_has_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would wait for so long.
    monkeypatch.setattr(stored_journals, "CLOSE_SECONDS", 20.0)

    def story(kept: KeptJobs) -> None:
        kept.new_core(CONFIG, 0.0, wait_seconds=30.0)
        store.passes.clear()
        kept.keep(effects.AppendJournal(JOB, b"record"))
        began = time.monotonic()
        kept.leave()
        assert time.monotonic() - began < stored_journals.CLOSE_SECONDS / 2
        # First again at once: the same journals are not written by two.
        assert kept.later_core(CONFIG, 0.0) is None
        store.passes.set()

        def is_taken_up() -> bool:
            kept.look(time.monotonic())
            return kept.later_core(CONFIG, 0.0) is not None

        wait_until(is_taken_up, 30)
        assert store.jobs == {JOB: [b"record"]}

    in_a_loop(story)


def test_the_end_of_the_process_waits_for_what_is_left(store: Store) -> None:
    def story(kept: KeptJobs) -> None:
        kept.new_core(CONFIG, 0.0, wait_seconds=30.0)
        kept.keep(effects.AppendJournal(JOB, b"record"))
        kept.leave()
        kept.close()
        assert store.jobs == {JOB: [b"record"]}
        assert store.closed

    in_a_loop(story)
