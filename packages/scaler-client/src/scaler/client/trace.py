"""Records where and when a client's tasks ran, from the scheduler's monitor stream, as a Chrome trace."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaler.client.sleepers import Sleepers
from scaler.client.steps import Start
from scaler.errors import DisconnectedError, ScalerError
from scaler_protocol.errors import TransportError, WireError
from scaler_protocol.monitoring.timeline import TaskSpan, chrome_trace, start_times
from scaler_protocol.monitoring.topics import EVENTS, FIGURES
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger("scaler")

SPANS_MAX = 500_000
"""Tasks in one trace; later ones are counted only."""

POLL_SECONDS = 0.1
LATE_SECONDS = 5.0
"""How long, at most, the end of a recording waits for what the scheduler has still to say."""

LISTENER_SECONDS = 5.0
"""How long the listener may take to end. It looks every `POLL_SECONDS` whether it should."""

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
        self.trouble: BaseException | None = None
        """Why nothing more is heard, where that is not because the block has ended."""
        self.is_over = False
        """Whether nothing more comes: then it may be read."""
        self.heard = Sleepers()
        """Woken by every snapshot, and by the end."""

    def accept(self, message: m.Message) -> None:
        """Take one message of the monitor stream in."""
        if isinstance(message, m.MonitorEvents):
            self._accept_events(message)
        elif isinstance(message, m.MonitorSnapshot):
            slots: dict[str, int] = {}
            for worker in message.workers:
                slot = slots[worker.agent] = slots.get(worker.agent, -1) + 1
                self._workers[worker.agent, slot] = (worker.name, worker.pid)
            self.snapshots += 1
            self.heard.wake()

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
                "%s: there were too many tasks to record all; 1 of %d is shown, and %d beyond %d are left out",
                path,
                self._stride,
                self._left_out,
                SPANS_MAX,
            )


class _Block:
    """Stands for the block that is recorded: the listener ends with it.

    The thread that leaves the block may be interrupted before it says so. Then nothing refers to this any more.
    """

    __slots__ = ("__weakref__", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False


@contextlib.contextmanager
def record(
    path: str | PathLike[str],
    client: bytes,
    monitor_address: str,
    timeout_seconds: float,
    unusable: Callable[[], ScalerError | None],
    security: PeerSecurity | None = None,
) -> Iterator[None]:
    """See `Client.trace`. `unusable` returns why the client's session has ended, or None: then nothing more is waited for."""
    file = Path(path)
    if not monitor_address:
        raise DisconnectedError("the scheduler has not named its monitor address: nothing can be traced")
    # Now, so that a path that cannot be written to costs no work.
    file.write_text("", encoding="utf-8")
    block, recording = _Block(), Recording(client)
    listener = Start(
        threading.Thread(
            target=_listen,
            args=(monitor_address, recording, weakref.ref(block), security),
            name="scaler-trace",
            daemon=True,
        )
    )

    def wait_for_snapshots(count: int, seconds: float) -> bool:
        """Return whether so many came in time."""
        deadline = time.monotonic() + seconds

        def is_settled() -> bool:
            return recording.snapshots >= count or recording.is_over or unusable() is not None

        while not is_settled() and (remaining := deadline - time.monotonic()) > 0:
            listener()
            recording.heard.sleep(is_settled, min(remaining, POLL_SECONDS))
        return recording.snapshots >= count

    try:
        if not wait_for_snapshots(1, timeout_seconds):
            ended = unusable()
            if ended is not None:
                raise ended.with_traceback(None)
            if recording.trouble is not None:
                raise DisconnectedError(f"cannot subscribe to the scheduler at {monitor_address}: {recording.trouble}")
            raise DisconnectedError(
                f"no message at the monitor address {monitor_address} (waited {timeout_seconds:g} s): nothing can "
                "be traced from here"
            )
        try:
            yield
        except GeneratorExit:
            # Nobody leaves the block any more: there is nobody to write it for.
            raise
        except BaseException:
            block.has_ended = True
            _write(recording, file)
            raise
        # The next one may have been on its way; what comes with the one after it is all there was.
        if not wait_for_snapshots(recording.snapshots + 2, min(LATE_SECONDS, timeout_seconds)):
            why = "the scheduler has gone silent" if recording.trouble is None else f"{recording.trouble}"
            logger.warning("%s: the last tasks may be missing: %s", file, why)
    finally:
        block.has_ended = True
    _write(recording, file)


def _write(recording: Recording, file: Path) -> None:
    """Write what was recorded, when the listener has ended, which was told to."""
    deadline = time.monotonic() + LISTENER_SECONDS
    while not recording.is_over and (remaining := deadline - time.monotonic()) > 0:
        recording.heard.sleep(lambda: recording.is_over, remaining)
    recording.write(file)


def _listen(address: str, recording: Recording, block: weakref.ref[_Block], security: PeerSecurity | None) -> None:
    """The thread: record until the block has ended."""
    try:
        # In this order: whoever is sent figures is sent events from then on.
        subscriber = Subscriber(address, (EVENTS, FIGURES), security=security)
        try:
            _record_all(subscriber, recording, block)
        finally:
            subscriber.close()
    except Exception as error:
        recording.trouble = error
        if not isinstance(error, TransportError):
            logger.exception("the recording of tasks cannot go on: %r", error)
    finally:
        recording.is_over = True
        recording.heard.wake()


def _record_all(subscriber: Subscriber, recording: Recording, block: weakref.ref[_Block]) -> None:
    warned_at = float("-inf")
    while (lasting := block()) is not None and not lasting.has_ended:
        # Not to be what keeps it alive.
        del lasting
        frames = subscriber.receive(POLL_SECONDS)
        if subscriber.watch.refusal:
            raise TransportError(subscriber.watch.refusal)
        if frames is None:
            continue
        try:
            recording.accept(decode(frames[1:]))
        except WireError as error:
            if time.monotonic() > warned_at + 60:
                warned_at = time.monotonic()
                logger.warning("a monitor message cannot be read: %s", error)
