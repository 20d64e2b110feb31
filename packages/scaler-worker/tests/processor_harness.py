"""The agent's end of one real processor, with nothing behind it."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scaler_protocol.ids import NO_ID
from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.records import PACKET_BYTES_MAX, Assembler, Bytes, Kind, cancel_parts, packets
from scaler_worker.processor.result_records import read_one_result, read_results
from scaler_worker.processor.task_records import one_task_parts, tasks_parts

CLIENT = b"c" * 16
FUNCTION = b"f" * 16

PROGRAM = """
import socket, sys
from scaler_worker.processor.channel import Channel
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.runner import Processor

tasks, control, page = map(int, sys.argv[3:])
sys.path.insert(0, sys.argv[1])
channels = [Channel(socket.socket(fileno=number)) for number in (tasks, control)]
options = ProcessorOptions("tcp://127.0.0.1:1", (), ObjectFolders(sys.argv[1]), task_modules=tuple(sys.argv[2].split()))
sys.exit(Processor(options, *channels, RunningPage(page)).run())
"""


class Agent:
    """The agent's end of one processor, with nothing behind it."""

    def __init__(self, folder: Path, modules: Sequence[str] = ()) -> None:
        """`folder`: for objects, and on the processor's path. `modules`: what it imports while it waits for its first task."""
        self._tasks, self._tasks_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, self._control_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._arguments = [str(folder), " ".join(modules)]
        self._process: subprocess.Popen[bytes] | None = None
        self._assembler = Assembler()
        self.answers: dict[int, int] = {}
        """Index to status."""
        self._next = 0

    def start(self) -> None:
        """Start the processor: it finds what was sent before."""
        page = RunningPage.create()
        descriptors = [self._tasks_end.fileno(), self._control_end.fileno(), page]
        command = [sys.executable, "-c", PROGRAM, *self._arguments, *map(str, descriptors)]
        self._process = subprocess.Popen(command, pass_fds=descriptors)
        self._tasks_end.close()
        self._control_end.close()
        os.close(page)

    def close(self) -> None:
        self._tasks.close()
        self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send(self, kind: Kind, parts: list[Bytes], control: bool = False) -> None:
        for packet in packets(kind, parts):
            (self._control if control else self._tasks).send(packet)

    def next_index(self) -> int:
        self._next += 1
        return self._next - 1

    def define(self, function: object, payload: bytes) -> int:
        """Send the function with its first task."""
        index = self.next_index()
        parts = tasks_parts(
            first_index=index,
            generation=0,
            depth=0,
            kind=0,
            flags=0,
            client=CLIENT,
            serializer=NO_ID,
            functions=[FUNCTION],
            function_indexes=[],
            numbers=[index],
            payload_lengths=[len(payload)],
            payload=payload,
            input_positions=[],
            inputs=[],
            input_sources=[],
            new_functions=[(FUNCTION, PICKLED + pickle.dumps(function))],
            forgotten=[],
        )
        self.send(Kind.TASKS, parts)
        return index

    def submit(self, payload: bytes) -> int:
        index = self.next_index()
        self.send(Kind.ONE_TASK, one_task_parts(index, 0, 0, 0, 0, index, CLIENT, FUNCTION, payload))
        return index

    def cancel(self, index: int) -> None:
        self.send(Kind.CANCEL, cancel_parts(index, int(Status.CANCELED), "cancelled"), control=True)

    def stop(self) -> None:
        self._send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send_signal(signal.SIGCONT)

    def _send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait_for(self, kind: Kind) -> None:
        """Take in what the processor says until it says this."""
        while self._take() != kind:
            pass

    def wait_for_answer(self, index: int) -> None:
        while index not in self.answers:
            self._take()

    def _take(self) -> int | None:
        """Take in one packet; return the kind of the record that is complete with it."""
        assert select.select([self._tasks], [], [], 20.0)[0], f"nothing more, after answers to {sorted(self.answers)}"
        record = self._assembler.add(self._tasks.recv(PACKET_BYTES_MAX))
        if record is None:
            return None
        kind, body = record
        if kind == Kind.ONE_RESULT:
            self.answers[read_one_result(body)[0]] = int(Status.SUCCESS)
        elif kind == Kind.RESULTS:
            results = read_results(body)
            statuses = results.reported.statuses or [int(Status.SUCCESS)] * results.rows
            self.answers.update({results.first_index + row: statuses[row] for row in range(results.rows)})
        return kind
