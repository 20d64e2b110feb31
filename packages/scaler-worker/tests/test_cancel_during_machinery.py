"""A task is cancelled while the machinery works on its behalf: what it was reading or sending is not lost."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler_protocol.ids import NO_ID
from scaler_protocol.payloads.framing import PICKLED, Argument, Source, frame_arguments
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.records import PACKET_BYTES_MAX, Assembler, Bytes, Kind, cancel_parts, packets
from scaler_worker.processor.result_records import read_one_result, read_results
from scaler_worker.processor.task_records import one_task_parts, tasks_parts

CLIENT = b"c" * 16
FUNCTION = b"f" * 16
OBJECT = b"o" * 16
ROUNDS = 300
PROGRAM = """
import socket, sys
from scaler_worker.processor.channel import Channel
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.runner import Processor

tasks, control, page = map(int, sys.argv[2:])
channels = [Channel(socket.socket(fileno=number)) for number in (tasks, control)]
sys.exit(Processor(ProcessorOptions("tcp://127.0.0.1:1", (), ObjectFolders(sys.argv[1])), *channels, RunningPage(page)).run())
"""


class Agent:
    """The agent's end of one processor, with nothing behind it."""

    def __init__(self, folder: Path) -> None:
        self._tasks, tasks_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, control_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        page = RunningPage.create()
        descriptors = [tasks_end.fileno(), control_end.fileno(), page]
        command = [sys.executable, "-c", PROGRAM, str(folder), *map(str, descriptors)]
        self._process = subprocess.Popen(command, pass_fds=descriptors)
        tasks_end.close()
        control_end.close()
        os.close(page)
        self._assembler = Assembler()
        self.answers: dict[int, int] = {}
        """Index to status."""
        self._next = 0

    def close(self) -> None:
        self._tasks.close()
        self._control.close()
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
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

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


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    try:
        yield agent
    finally:
        agent.close()


def test_a_cancel_while_a_task_waits_for_its_object_loses_no_task_behind_it(agent: Agent) -> None:
    small = PICKLED + pickle.dumps((([1, 2],), {}))
    waiting = frame_arguments([Argument(Source.OBJECT, OBJECT)], {})
    agent.wait_for(Kind.READY)
    agent.wait_for_answer(agent.define(len, small))
    for _ in range(ROUNDS):
        blocked = agent.submit(waiting)
        agent.wait_for(Kind.OBJECT_WANTED)
        # Both find the processor at the same moment: the record on its way in, and the cancel.
        agent.stop()
        behind = [agent.submit(small) for _ in range(3)]
        agent.cancel(blocked)
        agent.go_on()
        agent.wait_for_answer(behind[-1])
        assert agent.answers.pop(blocked) == Status.CANCELED
        assert [agent.answers.pop(index) for index in behind] == [Status.SUCCESS] * 3
