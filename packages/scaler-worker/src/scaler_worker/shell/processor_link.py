"""The agent's end of one processor: its channels, its page, and the last lines it wrote to its standard error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence

from scaler_protocol.ids import ID_BYTES, NO_ID
from scaler_protocol.service.child import describe_exit
from scaler_protocol.service.reactor import Reactor
from scaler_protocol.wire.batch_rows import CARRIED
from scaler_protocol.wire.plain_task import run_plainly
from scaler_worker.core import effects, events
from scaler_worker.core.slices import TaskSlice
from scaler_worker.processor.kept_output import KeptBytes, KeptReader, region_bytes
from scaler_worker.processor.output import STDERR
from scaler_worker.processor.page import KEPT_AT, RunningPage
from scaler_worker.processor.profile_records import read_profile, request_parts
from scaler_worker.processor.record_boxes import Boxes
from scaler_worker.processor.records import (
    PACKET_BYTES_MAX,
    PID_BYTES,
    TRUE,
    Bytes,
    Kind,
    cancel_parts,
    object_answer_parts,
    packets,
    read_chunk_failures,
    read_given_back,
    read_object_wanted,
    read_output,
    read_progress,
    read_relay,
    read_several,
    relay_parts,
)
from scaler_worker.processor.result_records import read_one_result, read_results
from scaler_worker.processor.task_records import ONE_TASK_BYTES_MAX, one_task_parts, tasks_parts
from scaler_worker.shell.arriving_records import ArrivingRecords, RecordAssembler, UnsentMessages
from scaler_worker.shell.task_memory import used_bytes

PACKETS_PER_TURN = 32
"""Packets read from one processor before the others are looked at."""

SOCKET_BUFFER_BYTES = 1024 * 1024

PACKETS_AT_THE_END_MAX = 8192
"""Packets read from a processor that has ended: more than its socket holds. Processes that it has started may write more."""

UNTAKEN_PACKETS_MAX = 1024
"""Packets that a processor has not taken from its control channel, after which messages to clients inside are dropped."""

STDERR_TAIL_BYTES = 2000
STDERR_READS_MAX = 16
SMALL_TABLE = 16
"""Function tables up to this size are passed on as they are."""


_LAST_FOR_NOW = frozenset((None, Kind.ONE_RESULT, Kind.SEVERAL, Kind.BLOCKED))


class _Sender:
    """Sends packets without blocking; keeps what the socket does not take. The core bounds how many tasks that can be."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, boxes: Boxes | None = None) -> None:
        self._loop = loop
        self._boxes = boxes
        self._socket = sock
        self._queue: deque[bytes] = deque()

    def send(self, kind: Kind, parts: Sequence[Bytes] = ()) -> None:
        cut = packets(kind, parts, self._boxes)
        queue = self._queue
        if queue:
            queue.extend(cut)
            return
        try:
            if len(cut) == 1 and self._socket.send(cut[0]):
                return
        except OSError:
            # The socket is full, or the processor is gone: `_flush` finds out which.
            pass
        queue.extend(cut)
        self._flush()
        if queue:
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    @property
    def untaken(self) -> int:
        """How many packets wait for the processor."""
        return len(self._queue)

    def _on_writable(self) -> None:
        self._flush()
        if not self._queue:
            self._loop.remove_writer(self._socket.fileno())

    def _flush(self) -> None:
        queue = self._queue
        while queue:
            try:
                self._socket.send(queue[0])
            except BlockingIOError:
                return
            except OSError:
                # The processor is gone; its exit is reported by the template.
                queue.clear()
                return
            queue.popleft()

    def close(self) -> None:
        if self._queue:
            self._loop.remove_writer(self._socket.fileno())
            self._queue.clear()
        self._boxes = None
        self._socket.close()


class ProcessorLink:
    """One processor, from its start to its end.

    `report` takes the events it gives rise to; `import_ahead` the module a client inside it needs. `arriving` and `unsent`
    are those of all processors. `kept_bytes`: how much of what its tasks print is kept. `note_stderr` is given what it writes to
    its standard error.
    """

    def __init__(
        self,
        number: int,
        slot: int,
        reactor: Reactor,
        report: Callable[[events.Event], None],
        import_ahead: Callable[[str], None],
        arriving: ArrivingRecords,
        unsent: UnsentMessages,
        kept_bytes: int = 0,
        note_stderr: Callable[[int, bytes], None] = lambda _pid, _data: None,
    ) -> None:
        self.number = number
        self.slot = slot
        self.pid = 0
        self.was_stopped = False
        """Whether it is killed because it was stopped, and nothing let it go on."""
        self._reactor = reactor
        self._report = report
        self._tell_stderr = note_stderr
        self._import_ahead = import_ahead
        self._loop = asyncio.get_running_loop()
        self._unsent = unsent
        self._is_paused = False
        self._is_ready = False
        self._is_faulty = False
        """Whether it has sent something that cannot be read. Everything after that is ignored."""
        self._start_error = ""
        self._retirement = ""
        self._stderr_tail = b""
        self._tasks, tasks_end = _socket_pair()
        control, control_end = _socket_pair()
        page = RunningPage.create(region_bytes(kept_bytes))
        self._page = RunningPage(page)
        self._kept = KeptReader(page, KEPT_AT, kept_bytes) if kept_bytes else None
        self._boxes = RunningPage.boxes_for_agent(page)
        self._assembler = RecordAssembler(
            lambda held: arriving.note(self, held), arriving.record_bytes_max, self._boxes.to_agent
        )
        self._task_sender = _Sender(self._loop, self._tasks, self._boxes.to_processor)
        self._control_sender = _Sender(self._loop, control)
        self._stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._stderr, False)
        self.child_descriptors = [tasks_end.detach(), control_end.detach(), page, stderr_end]
        """To be passed to the processor, and closed here."""
        reactor.add_reader(self._tasks.fileno(), self._read_tasks_channel)
        self._loop.add_reader(self._stderr, self._read_stderr)

    # --- to the processor

    def send_tasks(self, effect: effects.SendTasks) -> None:
        """Send tasks, and the functions they need."""
        parts = _one_task_record(effect)
        if parts is not None:
            self._task_sender.send(Kind.ONE_TASK, parts)
        else:
            self._task_sender.send(Kind.TASKS, _tasks_record(effect))

    def end_environment(self, client: bytes) -> None:
        """Have the processor end what it has of a client's environment."""
        self._task_sender.send(Kind.CLIENT_GONE, [client])

    def answer_object(self, effect: effects.AnswerObject) -> None:
        """Tell the processor that an object is in the host's cache, or why not."""
        self._task_sender.send(Kind.OBJECT_ANSWER, object_answer_parts(effect.id, effect.status, effect.text))

    def cancel(self, effect: effects.CancelTask) -> None:
        """Have the processor cancel a task."""
        self._control_sender.send(Kind.CANCEL, cancel_parts(effect.index, effect.status, effect.text))

    def take_back(self) -> None:
        """Ask for the tasks that the processor has not begun."""
        self._control_sender.send(Kind.TAKE_BACK)

    def deliver_relay(self, client: bytes, frames: Sequence[Bytes]) -> None:
        """Pass a message to a client inside the task, which asks again for what it does not get."""
        if self._control_sender.untaken > UNTAKEN_PACKETS_MAX:
            return
        self._control_sender.send(Kind.RELAY_DELIVER, relay_parts(client, frames))

    def tell_storage_address(self, address: str) -> None:
        """Tell the processor where object storage is."""
        self._control_sender.send(Kind.STORAGE_ADDRESS, [address.encode()])

    def sample(self, seconds: float, rate: int) -> None:
        """Have the processor sample what its tasks run, or with 0 seconds do so no longer."""
        self._control_sender.send(Kind.PROFILE, request_parts(seconds, rate))

    def stop(self) -> None:
        """Have it end when it has nothing more to do."""
        with contextlib.suppress(OSError):
            self._tasks.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill the processor and its process group."""
        if self.pid:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            # A task may have put its process into another group.
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)

    def memory_used(self, index: int) -> int | None:
        """Return the bytes of memory that a task has taken; None before it has begun."""
        base_bytes = self._page.memory_at_begin(index)
        return used_bytes(self.pid, base_bytes) if base_bytes is not None else None

    def kept_output(self) -> KeptBytes | None:
        """Return what its tasks have written last; None where that is nothing."""
        return self._kept.read() if self._kept is not None else None

    def give_back_idle(self) -> None:
        """Return memory to the system that no long record has needed since the last call."""
        self._boxes.to_processor.give_back_idle()

    # --- from the processor

    def _read_tasks_channel(self) -> None:
        for _ in range(PACKETS_PER_TURN):
            # Behind these, for now, mostly nothing follows. Finding that out would cost a system call.
            if self._read_packet() in _LAST_FOR_NOW:
                return

    def _read_packet(self) -> int | None:
        """Read one packet. Return the kind of the record it completes; 0 if it completes none, None if there is no packet."""
        try:
            packet = self._tasks.recv(PACKET_BYTES_MAX)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        if not packet and _is_closed_by_peer(self._tasks):
            self._reactor.remove_reader(self._tasks.fileno())
            return None
        if self._is_faulty:
            return 0
        try:
            if not packet:
                raise ValueError("it is empty")
            record = self._assembler.add(packet)
            if record is None:
                return None if self._is_paused else 0
            event = self._event_of(*record)
        except (ValueError, IndexError, struct.error) as error:
            # A task may have written anything into the channel. That must not end the agent.
            record = (0, b"")
            event = self._faulty(f"sent a record that cannot be read ({error})")
        if event is not None:
            self._report(event)
        return record[0]

    def _faulty(self, fault: str) -> events.ProcessorFaulty:
        self._is_faulty = True
        return events.ProcessorFaulty(self.number, fault)

    def pause(self) -> None:
        """Read nothing more from its task channel. See `ArrivingRecords`."""
        self._is_paused = True
        self._reactor.remove_reader(self._tasks.fileno())

    def go_on(self) -> None:
        """Read from its task channel again."""
        self._is_paused = False
        self._reactor.add_reader(self._tasks.fileno(), self._read_tasks_channel)

    def give_up(self, fault: str) -> None:
        """Drop what has arrived of a record, and have the processor replaced."""
        self._report(self._faulty(fault))
        self._assembler.drop()

    def _event_of(self, kind: int, body: bytes) -> events.Event | None:
        """Return the event for the agent's core that a record stands for; None if it concerns this link only."""
        number = self.number
        if kind == Kind.ONE_RESULT:
            return events.ProcessorResults(number, *read_one_result(body))
        if kind == Kind.RESULTS:
            return events.ProcessorResults(number, *read_results(body))
        if kind == Kind.BLOCKED:
            return events.ProcessorBlocked(number, *read_given_back(body))
        if kind == Kind.UNBLOCKED:
            return events.ProcessorUnblocked(number, body == TRUE)
        if kind == Kind.UNFINISHED:
            return events.ProcessorUnfinished(number, body == TRUE)
        if kind == Kind.GAVE_BACK:
            return events.ProcessorGaveBack(number, *read_given_back(body))
        if kind == Kind.OUTPUT:
            output = events.ProcessorOutput(number, *read_output(body))
            if output.stream == STDERR:
                self._note_stderr(output.data)
            return output if self._unsent.admits(len(body)) else None
        if kind == Kind.PROGRESS:
            progress = events.ProcessorProgress(number, *read_progress(body))
            return progress if self._unsent.admits(len(body)) else None
        if kind == Kind.TEARDOWN:
            return events.ProcessorTeardown(number, body == TRUE)
        if kind == Kind.ENVIRONMENT:
            return events.ProcessorEnvironment(number, body.decode("utf-8", "replace"))
        if kind == Kind.CHUNK_FAILURES:
            return events.ChunkFailures(number, *read_chunk_failures(body))
        if kind in (Kind.RELAY, Kind.RELAY_UNFINISHED):
            client, frames = read_relay(body)
            if not self._unsent.admits(len(body)):
                return None
            return events.RelayFrames(number, client, list(frames), kind == Kind.RELAY_UNFINISHED)
        if kind == Kind.SEVERAL:
            for each in read_several(body):
                event = self._event_of_part(*each)
                if event is not None:
                    self._report(event)
            return None
        if kind == Kind.RELAY_OPEN and len(body) > ID_BYTES:
            self._import_ahead(body[ID_BYTES:].decode(errors="replace"))
            return events.RelayOpened(number, body[:ID_BYTES])
        if kind == Kind.RELAY_CLOSE and len(body) == ID_BYTES:
            return events.RelayClosed(number, body)
        if kind == Kind.OBJECT_WANTED:
            return events.ObjectWanted(number, *read_object_wanted(body))
        if kind == Kind.PROFILE_SAMPLES:
            return events.ProcessorSamples(number, *read_profile(body))
        # A second READY was written by a task: its number could be that of any process, which would be killed.
        if kind == Kind.READY and not self._is_ready:
            self._is_ready = True
            self.pid = self.pid or int.from_bytes(body[:PID_BYTES], "little")
            return events.ProcessorReady(number, self.pid)
        if kind == Kind.START_FAILED and not self._is_ready:
            self._start_error = body.decode(errors="replace")
        elif kind == Kind.RETIRED:
            self._retirement = body.decode(errors="replace")
        else:
            raise ValueError(f"kind {kind}, {len(body)} bytes")
        return None

    def _event_of_part(self, kind: int, body: bytes) -> events.Event | None:
        if kind == Kind.SEVERAL:
            raise ValueError("records within records within a record")
        return self._event_of(kind, body)

    def _read_stderr(self) -> bool:
        """Read what was written to standard error; return whether there was anything."""
        try:
            data = os.read(self._stderr, 65_536)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._stderr)
            return False
        self._note_stderr(data)
        self._tell_stderr(self.pid, data)
        # A terminal may be gone, and a pipe without a reader.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(data.decode(errors="backslashreplace"))
            sys.stderr.flush()
        return True

    def _note_stderr(self, data: bytes) -> None:
        """Keep what was written last, to the descriptor or for a client: it may say why the processor dies."""
        self._stderr_tail = (self._stderr_tail + data)[-STDERR_TAIL_BYTES:]

    # --- the end

    def end(
        self, status: int | None, peak_bytes: int, why: str = "", *, exceeded: bool = False
    ) -> events.ProcessorExited:
        """Read what it sent last, release everything, and return the event to report.

        `status` is None if it is not known; `why` says which fence ended it, as the end of a sentence. For `exceeded` see the
        event.
        """
        self._stop_waiting()
        for _ in range(PACKETS_AT_THE_END_MAX):
            if self._read_packet() is None:
                break
        with contextlib.suppress(OSError):
            # Bounded, because processes that it has started may go on writing.
            for _ in range(STDERR_READS_MAX):
                if not self._read_stderr():
                    break
        event = events.ProcessorExited(
            self.number,
            self._page.begun_index,
            self._reason(status, peak_bytes, why),
            bool(self._start_error),
            bool(self._retirement),
            exceeded,
        )
        self.close()
        return event

    def _stop_waiting(self) -> None:
        """What is read from here on has arrived already, and is no reason for others to wait."""
        self._assembler.note(0)
        self._assembler.note = lambda _held: None
        self._is_paused = False

    def close(self) -> None:
        """Close all channels."""
        self._stop_waiting()
        self._reactor.remove_reader(self._tasks.fileno())
        self._loop.remove_reader(self._stderr)
        self._task_sender.close()
        self._control_sender.close()
        os.close(self._stderr)
        self._page.close()
        self._boxes.close()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _reason(self, status: int | None, peak_bytes: int, why: str) -> str:
        if self._start_error:
            return self._start_error
        if self._retirement:
            return f"processor {self.pid} is replaced: {self._retirement}"
        how = "ended together with the process it was forked from" if status is None else _ended_how(status)
        if self.was_stopped:
            how += " because it was stopped (SIGSTOP) and did not go on"
        text = f"processor {self.pid} {how}{why}"
        if peak_bytes:
            text += f", peak memory {peak_bytes / 1024**2:.0f} MiB"
        lines = self._stderr_tail.decode(errors="backslashreplace").strip().splitlines()[-5:]
        if lines:
            text += "; last lines of stderr: " + " | ".join(lines)
        return text


def _ended_how(status: int) -> str:
    return f"ended with exit code {status}" if status >= 0 else f"was {describe_exit(status)}"


def _is_closed_by_peer(sock: socket.socket) -> bool:
    """Whether nobody has the other end any more. An empty packet, which tasks can write, reads like the end of the channel."""
    poller = select.poll()
    poller.register(sock, 0)
    return any(found & select.POLLHUP for _, found in poller.poll(0))


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return (ours, non-blocking; theirs, blocking)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    ours.setblocking(False)
    return ours, theirs


def _one_task_record(effect: effects.SendTasks) -> list[Bytes] | None:
    """Return the short form; None unless this is one plain task."""
    tasks = effect.tasks
    batch, start = tasks.batch, tasks.start
    size = batch.payloads.lengths[start]
    if (
        tasks.stop - start > 1
        or effect.functions
        or effect.forgotten
        or not run_plainly(batch)
        or size > ONE_TASK_BYTES_MAX
    ):
        return None
    indexes, data = batch.function_indexes, batch.payloads.data
    if len(data) > size:
        data = memoryview(data)[tasks.first_byte : tasks.first_byte + size]
    return one_task_parts(
        effect.first_index,
        effect.generation,
        batch.depth,
        batch.kind,
        batch.flags,
        batch.numbers[start],
        batch.client,
        batch.functions[indexes[start] if indexes else 0],
        data,
    )


def _tasks_record(effect: effects.SendTasks) -> list[Bytes]:
    tasks = effect.tasks
    batch = tasks.batch
    functions, indexes = _function_table(tasks)
    positions, inputs, sources = tasks.inputs()
    return tasks_parts(
        first_index=effect.first_index,
        generation=effect.generation,
        depth=batch.depth,
        kind=batch.kind,
        flags=batch.flags,
        client=batch.client,
        serializer=batch.serializer or NO_ID,
        functions=functions,
        function_indexes=indexes,
        numbers=tasks.numbers,
        payload_lengths=tasks.payload_lengths,
        payload=tasks.payload(),
        input_positions=positions,
        inputs=inputs,
        input_sources=sources,
        carried=[getattr(batch, spec.name)[tasks.start : tasks.stop] for spec in CARRIED],
        new_functions=effect.functions,
        forgotten=effect.forgotten,
        options=batch.options,
        devices=",".join(effect.devices).encode(),
    )


def _function_table(tasks: TaskSlice) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return a table of the functions these rows use, and the rows' indexes into it."""
    table, indexes = tasks.batch.functions, tasks.function_indexes
    if not len(indexes):
        return table[:1], ()
    if len(table) <= SMALL_TABLE:
        return table, indexes
    used = sorted(set(indexes))
    position = {index: at for at, index in enumerate(used)}
    return [table[index] for index in used], [position[index] for index in indexes]
