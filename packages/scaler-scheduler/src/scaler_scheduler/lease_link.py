"""Which of several schedulers is first, where a lease in Redis or Valkey decides (`--standby-lease`). `core.lease` has the rules.

A thread of its own follows the rules, so that a scheduler that is busy for seconds keeps the lease: while it takes up many jobs,
say. It tells the event loop what this scheduler becomes. A second thread asks the store, one request at a time. Some hang for
longer than their time limit, as while a name server does not answer. A holder is first no more in time all the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.service.storage_url import RedisUrl
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, encode_envelope
from scaler_scheduler.config import SchedulerConfig
from scaler_scheduler.core.lease import NOBODY, Exchange, Lease
from scaler_scheduler.core.succession import Change
from scaler_scheduler.lease_store import LeaseStore, LeaseStoreError

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""How long to wait at the end until the lease is given back."""

WAIT_SECONDS_MAX = 60.0

AGAIN_SECONDS = 5.0
"""How long after an unforeseen error the lease is asked for again."""

NO_STANDBY_TEXT = "a lease decides which scheduler is first here (--standby-lease), so none takes --standby-of it"

_Requests = queue.SimpleQueue[Exchange | None]
_Answers = queue.SimpleQueue[bytes | LeaseStoreError | None]


class LeaseLink:
    """What the shell of a scheduler asks, as it asks `SuccessionLink` where there is no lease."""

    def __init__(self, url: RedisUrl, lease_seconds: float, on_change: Callable[[], None]) -> None:
        """`on_change`: called when `change` is set."""
        self._url = url
        self._lease_seconds = lease_seconds
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._store = LeaseStore(url, lease_seconds)
        self._rules = self._new_rules()
        """Only the thread that follows them has them."""
        self._is_first = False
        self._known_term = 0
        self._changes: deque[tuple[Change, int]] = deque()
        """What this scheduler is to become, in order, and with which term."""
        self._asked_term = 0
        self._closes = False
        self._trouble = ""
        """What the log says last; empty while the store answers."""
        self._told_of = ""
        """Which other holder the log has named."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._requests: _Requests = queue.SimpleQueue()
        """For the thread that asks the store; None ends it."""
        self._answers: _Answers = queue.SimpleQueue()
        self._asked: tuple[Exchange, float] | None = None
        """The request that has no answer yet, and when it was made."""
        self._was_told_first = False
        """Whether the event loop was told last that this scheduler is first."""
        self._thread = threading.Thread(target=self._run, name="scaler-standby-lease", daemon=True)
        self.standby: bytes | None = None
        """No other scheduler is connected here."""
        self._thread.start()

    @property
    def term(self) -> int:
        """The term of this scheduler, or the highest that it knows of."""
        return self._known_term

    @property
    def change(self) -> Change | None:
        """What this scheduler is to become; None once it is. The shell takes it with `take_change`."""
        return self._changes[0][0] if self._changes else None

    def log_start(self) -> None:
        """Say in the log that this scheduler waits for the lease."""
        logger.info(
            "the lease at %s decides which scheduler is first; it is free when it was not renewed for %g s",
            self._url,
            self._lease_seconds,
        )

    def take_change(self) -> Change | None:
        """Return, and forget, what this scheduler is to become next."""
        change, self._known_term = self._changes.popleft()
        self._is_first = change is Change.TAKE_OVER
        if self._is_first:
            logger.warning("this scheduler has the lease: it is first now (term %d)", self.term)
        else:
            logger.warning("this scheduler has the lease at %s no more: it is a standby now", self._url)
        if self._changes:
            self._loop.call_soon(self._on_change)
        return change

    def config(self, of_first: SchedulerConfig) -> SchedulerConfig:
        """Return what a new core is told now: this if it is first; a standby asks nobody for workers."""
        scaling = of_first.scaling if self._is_first else None
        return replace(of_first, is_first=self._is_first, term=self.term, incarnation=new_id(), scaling=scaling)

    def on_asked(self, term: int) -> None:
        """A peer says hello to a scheduler that is not first, or that has a lower term than the peer has obeyed."""
        if term > max(self._asked_term, self._known_term):
            self._asked_term = term
            self._wake.set()

    def answer(self, peer: bytes, status: m.SchedulerStatus) -> list[Frame]:
        """Another scheduler has connected. Return the message that answers it: there is nothing to say."""
        return [encode_envelope(UNSEQUENCED), *encode(m.Refused(NO_STANDBY_TEXT))]

    def last_words(self) -> None:
        """Nobody waits for any."""

    def close(self) -> None:
        """Give the lease back, if it is this scheduler's."""
        self._closes = True
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _new_rules(self) -> Lease:
        name = f"process {os.getpid()} on {socket.gethostname()}"
        return Lease(new_id(), name, lease_seconds=self._lease_seconds, now=time.monotonic())

    # --- the thread that asks the store

    def _ask_store(self, store: LeaseStore, requests: _Requests, answers: _Answers) -> None:
        while (request := requests.get()) is not None:
            answer: bytes | LeaseStoreError | None
            try:
                answer = store.exchange(request)
            except LeaseStoreError as error:
                answer = error
            except Exception as error:
                # What a library raises may be of any kind. Without an answer nothing would be asked any more.
                logger.exception("the lease at %s: asking for it has failed", self._url)
                answer = LeaseStoreError(repr(error))
            answers.put(answer)
            self._wake.set()
        store.close()

    # --- the thread that follows the rules

    def _run(self) -> None:
        while True:
            asks = threading.Thread(
                target=self._ask_store,
                args=(self._store, self._requests, self._answers),
                name="scaler-standby-lease-store",
                daemon=True,
            )
            try:
                asks.start()
                self._follow()
                return
            except Exception:
                logger.exception(
                    "the lease at %s: following it has failed. This scheduler counts as one that has lost it, and asks for it "
                    "again in %g s",
                    self._url,
                    AGAIN_SECONDS,
                )
            # First of all: another one may have the lease as soon as this one has not renewed it.
            if self._was_told_first:
                self._note(Change.STEP_DOWN)
            # As another process would, which knows of nothing that is under way.
            self._requests.put(None)
            self._requests, self._answers, self._asked = queue.SimpleQueue(), queue.SimpleQueue(), None
            self._store = LeaseStore(self._url, self._lease_seconds)
            self._rules = self._new_rules()
            self._rules.on_asked(self._known_term, time.monotonic())
            self._closing.wait(AGAIN_SECONDS)
            if self._closes:
                return

    def _follow(self) -> None:
        rules = self._rules
        while True:
            self._wake.clear()
            if self._asked is not None and not self._answers.empty():
                request, began = self._asked
                self._asked = None
                self._take(request, self._answers.get(), began)
            closes = self._closes
            now = time.monotonic()
            if closes:
                rules.on_end()
            else:
                self._note(rules.on_asked(self._asked_term, now))
                self._note(rules.tick(now))
            if self._asked is None:
                now = time.monotonic()
                next_request = rules.next_request(now)
                if next_request is not None:
                    self._asked = next_request, now
                    self._requests.put(next_request)
                elif closes:
                    self._requests.put(None)
                    return
            # The next request waits for this one's answer, which wakes this thread.
            deadline = rules.next_deadline() if self._asked is None else rules.held_until
            # A wait has a longest time.
            self._wake.wait(min(max(0.0, deadline - time.monotonic()), WAIT_SECONDS_MAX))

    def _take(self, request: Exchange, found: bytes | LeaseStoreError | None, began: float) -> None:
        rules = self._rules
        if isinstance(found, LeaseStoreError):
            rules.on_silence(request)
            if str(found) != self._trouble and not self._closes:
                self._trouble = str(found)
                logger.error(
                    "the lease at %s cannot be asked for: %s. It is tried again; who cannot renew it is first no more",
                    self._url,
                    found,
                )
            return
        change = rules.on_answer(request, found, began, time.monotonic())
        if self._closes:
            return
        if found is not None and rules.holder is None:
            self._tell(
                "what is stored there is no lease of a scheduler: nobody can be first. Delete it, or name another prefix"
            )
            return
        if self._trouble:
            self._trouble = ""
            logger.info("the lease at %s answers", self._url)
        self._note(change)
        self._tell_holder()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.error("the lease at %s: %s", self._url, trouble)

    def _tell_holder(self) -> None:
        rules, holder = self._rules, self._rules.holder
        if rules.is_first:
            self._told_of = ""
            return
        if holder is None or holder.is_returned or holder.holder.startswith(NOBODY):
            return
        if holder.holder not in (self._told_of, rules.incarnation):
            self._told_of = holder.holder
            logger.info("another scheduler has the lease at %s (%s): this one is its standby", self._url, holder.name)

    def _note(self, change: Change | None) -> None:
        if change is not None:
            self._was_told_first = change is Change.TAKE_OVER
            self._loop.call_soon_threadsafe(self._on_changed, change, self._rules.term)

    def _on_changed(self, change: Change, term: int) -> None:
        self._changes.append((change, term))
        self._on_change()
