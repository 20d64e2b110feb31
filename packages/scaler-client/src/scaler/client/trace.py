"""Records where and when a client's tasks ran, from the scheduler's monitor stream, as a Chrome trace."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from scaler.errors import DisconnectedError
from scaler_protocol import messages as m
from scaler_protocol.codec import decode
from scaler_protocol.errors import TransportError, WireError
from scaler_protocol.monitor_topics import EVENTS, FIGURES
from scaler_protocol.timeline import TaskSpan, chrome_trace, start_times
from scaler_protocol.transport.publisher import Subscriber

logger = logging.getLogger("scaler")

SPANS_MAX = 500_000
"""Tasks in one trace; later ones are counted only."""

POLL_SECONDS = 0.1
LATE_SECONDS = 5.0
"""How long, at most, the end of a recording waits for what the scheduler has still to say."""

_NONE = 0xFFFF
_ENDS = {m.TaskEvent.SUCCESS: "success", m.TaskEvent.FAILED: "failed", m.TaskEvent.CANCELED: "canceled"}


class Recording:
    """What was heard so far. Fed by one thread, read by another when that has ended."""

    def __init__(self, client: bytes) -> None:
        self._client = client
        self._spans: list[TaskSpan] = []
        self._submitted: dict[int, float] = {}
        self._workers: dict[tuple[str, int], tuple[str, int]] = {}
        """(agent, slot) to (name, pid)."""
        self._stride = 1
        self._left_out = 0
        self.snapshots = 0
        self.heard = threading.Condition()

    def accept(self, message: m.Message) -> None:
        """Take one message of the monitor stream in."""
        if isinstance(message, m.MonitorEvents):
            self._accept_events(message)
        elif isinstance(message, m.MonitorSnapshot):
            slots: dict[str, int] = {}
            for worker in message.workers:
                slot = slots[worker.agent] = slots.get(worker.agent, -1) + 1
                self._workers[worker.agent, slot] = (worker.name, worker.pid)
            with self.heard:
                self.snapshots += 1
                self.heard.notify_all()

    def _accept_events(self, events: m.MonitorEvents) -> None:
        self._stride = max(self._stride, events.stride)
        ended = []
        for row, state in enumerate(events.states):
            if events.client_table[events.clients[row]] != self._client:
                continue
            if state == m.TaskEvent.SUBMITTED:
                self._submitted[events.numbers[row]] = events.time_seconds[row]
            elif state in _ENDS:
                if events.workers[row] != _NONE:
                    ended.append(row)
                else:
                    self._submitted.pop(events.numbers[row], None)
        agents = [events.worker_table[events.workers[row]] for row in ended]
        slots = [events.slots[row] if len(events.slots) and events.slots[row] != _NONE else -1 for row in ended]
        durations = [events.durations[row] / 1e6 for row in ended]
        told = [
            (None if slot < 0 else (agent, slot), events.time_seconds[row], duration_s)
            for row, agent, slot, duration_s in zip(ended, agents, slots, durations, strict=True)
        ]
        for row, agent, slot, duration_s, start in zip(ended, agents, slots, durations, start_times(told), strict=True):
            number = events.numbers[row]
            args: dict[str, Any] = {"task": number}
            worker = self._workers.get((agent, slot))
            if worker is not None and worker[1]:
                # As it is now: later another process may work for this worker.
                args["worker"], args["pid"] = worker
            submitted_at = self._submitted.pop(number, None)
            if submitted_at is not None:
                args["waited_us"] = max(0, round((start - submitted_at) * 1e6))
            if len(self._spans) >= SPANS_MAX:
                self._left_out += 1
                continue
            end = _ENDS[m.TaskEvent(events.states[row])]
            function = events.function_table[events.functions[row]]
            self._spans.append(TaskSpan(start, duration_s, agent, slot, function, end, args))

    def write(self, path: Path) -> None:
        """Write the trace."""
        names = {place: name for place, (name, _) in self._workers.items()}
        spans = [
            span._replace(args={"worker": worker[0], "pid": worker[1], **span.args})
            if (worker := self._workers.get((span.agent, span.slot))) is not None
            else span
            for span in self._spans
        ]
        remarks = {"client": self._client.hex(), "stride": self._stride, "left_out": self._left_out}
        with path.open("w", encoding="utf-8") as file:
            file.writelines(chrome_trace(spans, names, remarks))
        if self._stride > 1 or self._left_out:
            logger.warning(
                "%s: there were too many tasks for all to be told; 1 of %d is shown, and %d beyond %d are left out",
                path,
                self._stride,
                self._left_out,
                SPANS_MAX,
            )


@contextlib.contextmanager
def record(path: str | PathLike[str], client: bytes, monitor_address: str, timeout_seconds: float) -> Iterator[None]:
    """See `Client.trace`."""
    file = Path(path)
    if not monitor_address:
        raise DisconnectedError("the scheduler has not said where monitors connect to: nothing can be traced")
    # Now, so that a path that cannot be written to costs no work.
    file.write_text("", encoding="utf-8")
    recording = Recording(client)
    ending = threading.Event()
    try:
        # In this order: whoever is sent figures is sent events from then on.
        subscriber = Subscriber(monitor_address, (EVENTS, FIGURES))
    except TransportError as error:
        raise DisconnectedError(f"cannot listen to the scheduler at {monitor_address}: {error}") from None
    listener = threading.Thread(target=_listen, args=(subscriber, recording, ending), name="scaler-trace", daemon=True)
    listener.start()
    try:
        if not _wait_for_snapshots(recording, 1, timeout_seconds):
            raise DisconnectedError(
                f"the scheduler says nothing to monitors at {monitor_address} (waited {timeout_seconds:g} s): nothing can "
                "be traced from here"
            )
        try:
            yield
        finally:
            # The next one may have been on its way; what comes with the one after it is all there was.
            if not _wait_for_snapshots(recording, recording.snapshots + 2, min(LATE_SECONDS, timeout_seconds)):
                logger.warning("%s: the scheduler has gone silent; the last tasks may be missing", file)
    finally:
        ending.set()
        listener.join()
    recording.write(file)


def _wait_for_snapshots(recording: Recording, count: int, seconds: float) -> bool:
    with recording.heard:
        return recording.heard.wait_for(lambda: recording.snapshots >= count, seconds)


def _listen(subscriber: Subscriber, recording: Recording, ending: threading.Event) -> None:
    warned_at = float("-inf")
    try:
        while not ending.is_set():
            frames = subscriber.receive(POLL_SECONDS)
            if frames is None:
                continue
            try:
                recording.accept(decode(frames[1:]))
            except WireError as error:
                if time.monotonic() > warned_at + 60:
                    warned_at = time.monotonic()
                    logger.warning("a monitor message cannot be read: %s", error)
    finally:
        subscriber.close()
