"""Keeps the jobs of a scheduler where its settings say, in files or in a store. Takes them up whenever the scheduler is first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from scaler_protocol.runtime.counted import counted
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.storage_url import RedisUrl
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events
from scaler_scheduler.job_journals import JobJournals, JournalsInUseError, sync_files
from scaler_scheduler.journal_store import JournalStore, JournalStoreError
from scaler_scheduler.settings import SchedulerSettings

if TYPE_CHECKING:
    from scaler_scheduler.stored_journals import StoredJournals

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""How long a scheduler waits for a store when it becomes first. Later it looks now and then, and serves others meanwhile."""


class KeptJobs:
    """See the module."""

    def __init__(
        self, settings: SchedulerSettings, on_event: Callable[[events.JournalsBehind | events.JournalsStored], None]
    ) -> None:
        """`on_event` is called in the event loop."""
        self._path = settings.storage_path
        self._url = settings.read_storage_url()
        self._endpoint = settings.storage_endpoint
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._files: JobJournals | None = None
        self._store: StoredJournals | None = None
        self._leaving: StoredJournals | None = None
        """Those of an earlier core, while what is left of them is being stored."""
        self.is_due = False
        """Whether this scheduler is first, and could not take the jobs up so far."""
        self._reason = ""
        """Why not, as the log has it."""

    # --- cores

    def new_core(self, config: SchedulerConfig, now: float, wait_seconds: float = WAIT_SECONDS) -> SchedulerCore:
        """Return a core that has the jobs, where it is first. Raises ServiceError where they cannot be taken up."""
        if not config.is_first or (self._path is None and self._url is None):
            self.is_due = False
            return SchedulerCore(config, now)
        if self._url is not None:
            journals = self._opened_store(config.term)
            loaded: Iterable[tuple[bytes, list[bytes]]] = journals.load(wait_seconds)
            config, place = replace(config, keeps_jobs=True, journals_wait=True), journals.place
        else:
            assert self._path is not None
            told: list[JobJournals] = []
            self._files = JobJournals(self._path, partial(self._tell_soon, told))
            told.append(self._files)
            loaded = self._files.load()
            config, place = replace(config, keeps_jobs=True, journals_wait=True), str(self._files.folder)
        core = SchedulerCore(config, now)
        count = 0
        for job, records in loaded:
            for problem in core.restore_job(job, records, now):
                logger.error("the journal of job %s: %s", job.hex(), problem)
            count += 1
        if count or self.is_due:
            logger.info("took up %s from %s", counted(count, "job"), place)
        self.is_due = False
        self._reason = ""
        return core

    def first_core(self, config: SchedulerConfig, now: float) -> SchedulerCore:
        """Return the first core of this process. Raises ServiceError where jobs cannot be kept.

        Where another scheduler has them, that is most likely the standby that took over from this one before, and says so soon. A
        store that is away now may be there later.
        """
        try:
            return self.new_core(config, now)
        except ServiceError as error:
            if self._url is None and not isinstance(error, JournalsInUseError):
                raise
            return self.core_without(config, str(error), now)

    def core_without(self, config: SchedulerConfig, reason: str, now: float) -> SchedulerCore:
        """Return a core that refuses jobs. They are taken up as soon as that is possible."""
        self._note(reason)
        self.is_due = True
        return SchedulerCore(replace(config, jobs_are_elsewhere=True), now)

    def later_core(self, config: SchedulerConfig, now: float) -> SchedulerCore | None:
        """Return a core that has the jobs, if they can be taken up by now."""
        try:
            return self.new_core(config, now, wait_seconds=0.0)
        except ServiceError as error:
            if self._url is not None:
                self._note(str(error))
            return None

    def _note(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            logger.error("jobs are not taken up yet, and are refused until then: %s", reason)

    def _opened_store(self, term: int) -> StoredJournals:
        if self._store is None:
            # Not needed by most schedulers.
            from scaler_scheduler.stored_journals import JournalsAwayError, StoredJournals

            self._end_leaving()
            if self._leaving is not None:
                raise JournalsAwayError(f"--storage-url {self._url}: what is left from before is being stored")
            told: list[StoredJournals] = []
            self._store = StoredJournals(str(self._url), self._journal_store(term), partial(self._tell, told))
            told.append(self._store)
        return self._store

    def _journal_store(self, term: int) -> JournalStore:
        # Imported late: each needs a library that is installed only where it is used.
        if isinstance(self._url, RedisUrl):
            from scaler_scheduler.redis_journals import RedisJournals

            return RedisJournals(self._url, term)
        from scaler_scheduler.s3_journals import S3Journals

        assert self._url is not None
        try:
            return S3Journals(self._url, self._endpoint, term)
        except JournalStoreError as error:
            raise ServiceError(f"--storage-url {self._url}: {error}") from None

    def _tell(self, told: list[StoredJournals], event: events.JournalsBehind | events.JournalsStored) -> None:
        # The loop may have been closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_told, told, event)

    def _tell_soon(self, told: list[JobJournals], event: events.JournalsBehind | events.JournalsStored) -> None:
        # The core that is to hear it may be the caller.
        self._loop.call_soon(self._on_told, told, event)

    def _on_told(
        self, told: list[StoredJournals] | list[JobJournals], event: events.JournalsBehind | events.JournalsStored
    ) -> None:
        # What those of an earlier core say is not for this one.
        if any(one is self._store or one is self._files for one in told):
            self._on_event(event)

    # --- journals

    def keep(self, effect: effects.AppendJournal | effects.SyncJournal | effects.DropJournal) -> None:
        """Do what the core says."""
        if self._store is not None:
            if isinstance(effect, effects.AppendJournal):
                self._store.append(effect.job, effect.record)
            elif isinstance(effect, effects.SyncJournal):
                self._store.sync(effect.wait)
            else:
                self._store.drop(effect.job)
        elif self._files is not None:
            if isinstance(effect, effects.AppendJournal):
                self._files.append(effect.job, effect.record)
            elif isinstance(effect, effects.SyncJournal):
                if effect.wait:
                    self._files.sync_all(effect.wait)
                else:
                    self._files.sync(effect.job)
            else:
                self._files.drop(effect.job)

    def look(self, now: float) -> None:
        """Write again what the disk did not take. To be called now and then."""
        self._end_leaving()
        if self._files is not None and (due := self._files.look(now)):
            self._loop.run_in_executor(None, sync_files, due)

    @property
    def lost(self) -> str:
        """Why this scheduler keeps its jobs no more; empty while it does."""
        return "" if self._store is None else self._store.lost

    def leave(self) -> None:
        """Let go of the journals, because this scheduler is first no more. What is left for a store is written meanwhile."""
        if self._store is not None:
            if self._leaving is not None:
                # Of the core before that.
                self._leaving.close()
            self._store.begin_close()
            self._leaving, self._store = self._store, None
        self._close_files()

    def _end_leaving(self) -> None:
        if self._leaving is not None and self._leaving.has_closed:
            self._leaving.close()
            self._leaving = None

    def close(self) -> None:
        """Write what is left, and let go of the journals."""
        self._close_files()
        for store in (self._leaving, self._store):
            if store is not None:
                store.close()
        self._leaving = self._store = None

    def _close_files(self) -> None:
        """Write what is left in files, and let go of them."""
        if self._files is not None:
            self._files.close()
            self._files = None
