"""The processor's second thread: it obeys the agent, and looks after what the main thread cannot while it is inside a task.

A task may replace functions of any module, for as long as it runs. So what the thread calls is bound before, and what raises all
the same ends only what the thread was about to do.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from os import eventfd_read, eventfd_write
from typing import Any

from scaler_worker.processor.alarm import Alarm
from scaler_worker.processor.channel import AgentGoneError, Channel
from scaler_worker.processor.descriptors import moved_out_of_reach
from scaler_worker.processor.inbox import Inbox
from scaler_worker.processor.nested_clients import NestedClients
from scaler_worker.processor.output import OutputCapture
from scaler_worker.processor.profile_records import read_request
from scaler_worker.processor.progress import ProgressReports
from scaler_worker.processor.records import Kind, read_cancel
from scaler_worker.processor.result_buffer import LATEST_FLUSH_SECONDS, ResultBuffer
from scaler_worker.processor.running_task import RunningTask
from scaler_worker.processor.sampler import Sampler
from scaler_worker.processor.time_limit import TimeLimit

logger = logging.getLogger(__name__)

ALARM_SECONDS = 0.002
"""How long the main thread may put off what costs less together with what comes next."""

AWAKE_TICKS = 10
"""Times `LATEST_FLUSH_SECONDS` the thread stays awake without finding anything."""


_ANYTHING = Exception
_AGENT_GONE = AgentGoneError


class Awakening:
    """How the main thread wakes the control thread: only where that sleeps, for it costs a system call."""

    __slots__ = ("alarm", "descriptor", "is_awake")

    def __init__(self) -> None:
        self.descriptor = moved_out_of_reach(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self.alarm = Alarm(ALARM_SECONDS)
        """Wakes it for what clients inside tasks have put off."""
        self.is_awake = False
        """Whether the control thread looks around every few milliseconds. It alone sets this back."""

    def keep_awake(self) -> None:
        """Have the control thread look around every few milliseconds, as long as there is something to look after."""
        if not self.is_awake:
            self.is_awake = True
            eventfd_write(self.descriptor, 1)

    def look_soon(self) -> None:
        """Have the control thread look around, which stays awake where it finds something.

        Called from inside tasks: a signal handler of theirs may raise anywhere here, which leaves nothing wrong.
        """
        if not self.is_awake:
            try:
                eventfd_write(self.descriptor, 1)
            except OSError:
                # A task has closed it.
                return

    def wake(self) -> None:
        """Have the control thread look again how long it may sleep."""
        eventfd_write(self.descriptor, 1)


class ControlThread:
    """Reads the control channel (cancel, take back, messages for clients inside tasks), and sends what waits for long."""

    def __init__(
        self,
        channel: Channel,
        awakening: Awakening,
        running: RunningTask,
        inbox: Inbox,
        results: ResultBuffer,
        clients: NestedClients,
        capture: OutputCapture,
        limit: TimeLimit,
        progress: ProgressReports,
        sampler: Sampler,
    ) -> None:
        self.storage_address = ""
        """Where object storage is, as the agent last said; empty where there is none."""
        self._channel = channel
        self._awakening = awakening
        self._running = running
        self._inbox = inbox
        self._results = results
        self._clients = clients
        self._capture = capture
        self._limit = limit
        self._progress = progress
        self._sampler = sampler
        self._thread = threading.Thread(target=self._serve, name="scaler-control", daemon=True)
        self.start = self._thread.start
        self.is_alive = self._thread.is_alive

    def _serve(self) -> None:
        awakening, results = self._awakening, self._results
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLIN)
        poller.register(awakening.descriptor, select.POLLIN)
        poller.register(awakening.alarm.descriptor, select.POLLIN)
        idle_ticks = 0
        try:
            while True:
                timeout = LATEST_FLUSH_SECONDS * 1000 if awakening.is_awake else self._poll_milliseconds()
                for descriptor, _ in poller.poll(timeout):
                    if descriptor == awakening.descriptor:
                        eventfd_read(awakening.descriptor)
                    elif descriptor == awakening.alarm.descriptor:
                        awakening.alarm.take()
                        self._safely(self._clients.catch_up)
                    else:
                        self._safely(self._obey, *self._channel.receive())
                self._safely(self._clients.attend)
                self._safely(self._progress.send_due)
                if self._is_something_left():
                    idle_ticks = 0
                    awakening.is_awake = True
                elif awakening.is_awake:
                    idle_ticks += 1
                    if idle_ticks >= AWAKE_TICKS:
                        idle_ticks = 0
                        awakening.is_awake = False
                        # What was buffered just before saw us awake.
                        awakening.is_awake = bool(results.results) or self._capture.has_pending or self._limit.is_set
        except _AGENT_GONE:
            # The agent has gone, or wants us to: the main thread sees its own channel closed. A task that goes on
            # regardless is ended by the agent, or by the kernel when the agent's helper has died.
            return

    def _poll_milliseconds(self) -> float | None:
        progress = self._progress.poll_milliseconds
        clients = self._clients.poll_milliseconds
        return clients if progress is None else progress if clients is None else min(clients, progress)

    def _is_something_left(self) -> bool:
        """As `_look_around`; what fails is tried again."""
        try:
            return self._look_around()
        except _AGENT_GONE:
            raise
        except _ANYTHING:
            return True

    def _look_around(self) -> bool:
        """Do for the main thread what has waited too long; return whether anything waits."""
        self._running.signal_again()
        is_left = self._limit.is_set
        if self._capture.has_pending:
            self._capture.flush_late()
            is_left = True
        if self._results.results:
            self._results.flush_late()
            is_left = True
        return is_left

    def _safely(self, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except _AGENT_GONE:
            raise
        except _ANYTHING:
            # A client inside a task could not take its message; the next one concerns somebody else.
            try:
                logger.exception("the processor's control thread could not carry out a request")
            except _ANYTHING:
                # A task has replaced what logging needs.
                return

    def _obey(self, kind: int, body: bytes) -> None:
        if kind == Kind.CANCEL:
            self._running.cancel(*read_cancel(body))
        elif kind == Kind.TAKE_BACK:
            self._inbox.give_back()
        elif kind == Kind.RELAY_DELIVER:
            self._clients.deliver(body)
        elif kind == Kind.STORAGE_ADDRESS:
            self.storage_address = body.decode()
        elif kind == Kind.PROFILE:
            self._sampler.ask(*read_request(body))
