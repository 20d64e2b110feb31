"""The parts of a processor by themselves: records, object files, preload, printing."""

from __future__ import annotations

import json
import logging
import mmap
import os
import random
import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from scaler_protocol.ids import NO_ID
from scaler_protocol.objects.segments import Offer, adopt, mark_taken
from scaler_protocol.payloads.environments import Environments
from scaler_protocol.payloads.values import dump_result
from scaler_protocol.runtime.worker_plugins import PluginWorker
from scaler_protocol.service.memory import rss_bytes
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.status import Status
from scaler_worker.processor import memory, output, records
from scaler_worker.processor.chain_results import ChainResults
from scaler_worker.processor.channel import AgentGoneError, Channel
from scaler_worker.processor.descriptors import COUNT_MAX, FIRST_NUMBER, identity, moved_out_of_reach
from scaler_worker.processor.failures import FailureWriter, NotSerializableError
from scaler_worker.processor.forked import leave
from scaler_worker.processor.functions import Function, FunctionTable
from scaler_worker.processor.host_objects import PLACE_BYTES, HostObjects, PlaceGoneError
from scaler_worker.processor.inbox import Inbox
from scaler_worker.processor.map_chunks import MapChunks
from scaler_worker.processor.memory import OwnFile, peak_bytes, reset_peak
from scaler_worker.processor.object_files import drop_object, map_object, read_place, write_object, write_token
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.processor.output import LOG, STDERR, STDOUT, TASK_BYTES_MAX, OutputCapture, TaskLogHandler
from scaler_worker.processor.page import PAGE_BYTES, RunningPage
from scaler_worker.processor.preload import PreloadError, parse_preload, run_preload
from scaler_worker.processor.records import (
    PACKET_BYTES_MAX,
    Assembler,
    Kind,
    cancel_parts,
    object_answer_parts,
    packets,
    read_cancel,
    read_object_answer,
)
from scaler_worker.processor.result_buffer import LATEST_FLUSH_SECONDS
from scaler_worker.processor.result_records import Extra, one_result_parts, read_one_result, read_results, results_parts
from scaler_worker.processor.retirement import RetiredError
from scaler_worker.processor.running_task import RunningTask
from scaler_worker.processor.streams import TaskBuffer
from scaler_worker.processor.task_records import (
    ONE_TASK_BYTES_MAX,
    one_task_parts,
    read_one_task,
    read_tasks,
    tasks_parts,
)
from scaler_worker.processor.time_limit import TimeLimit

OBJECT_ID = b"o" * 16
MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, PACKET_BYTES_MAX - 2, PACKET_BYTES_MAX - 1, 3 * PACKET_BYTES_MAX, 1_000_001])
def test_records_of_any_size_are_put_together_again(size: int) -> None:
    body = random.Random(size).randbytes(size)
    assembler = Assembler()
    cut = packets(7, [body[: size // 2], body[size // 2 :]])
    assert all(len(packet) <= PACKET_BYTES_MAX for packet in cut)
    records = [record for packet in cut if (record := assembler.add(packet)) is not None]
    assert records == [(7, body)]


def test_tasks_round_trip() -> None:
    parts = tasks_parts(
        first_index=2**40,
        generation=3,
        depth=4,
        kind=1,
        flags=3,
        client=b"c" * 16,
        serializer=b"s" * 16,
        functions=[b"f" * 16, b"g" * 16],
        function_indexes=[1, 0, 1],
        numbers=[7, 8, 2**63],
        payload_lengths=[1, 0, 2],
        payload=memoryview(b"abb"),
        input_positions=[0, 2, 2],
        inputs=[b"x", b"", b"zz"],
        input_sources=[0, 1, 0],
        new_functions=[(b"g" * 16, b"body of g")],
        forgotten=[b"h" * 16],
    )
    tasks = read_tasks(b"".join(parts))
    assert tasks.first_index == 2**40
    assert (tasks.generation, tasks.depth, tasks.kind, tasks.flags) == (3, 4, 1, 3)
    assert (tasks.client, tasks.serializer) == (b"c" * 16, b"s" * 16)
    assert (tasks.functions, list(tasks.function_indexes)) == ([b"f" * 16, b"g" * 16], [1, 0, 1])
    assert (list(tasks.numbers), tasks.payloads) == ([7, 8, 2**63], [b"a", b"", b"bb"])
    assert tasks.inputs == {0: [b"x"], 2: [2**40 + 1, b"zz"]}
    assert tasks.new_functions == [(b"g" * 16, b"body of g")]
    assert tasks.forgotten == [b"h" * 16]


def test_results_round_trip() -> None:
    results = [
        (5, b"one", 10, None),
        (6, b"", 2**40, Extra(1)),
        (
            7,
            b"three",
            30,
            Extra(0, {"cpu_times": 400, "memory_peaks": 500, "read_times": 7_000}, OBJECT_ID, 600, 2**33),
        ),
    ]
    read = read_results(b"".join(results_parts(results)))
    assert (read.first_index, read.rows, list(read.payload_lengths), read.payloads) == (5, 3, [3, 0, 5], b"onethree")
    assert (list(read.reported.durations), list(read.reported.statuses)) == ([10, 2**40, 30], [0, 1, 0])
    assert (list(read.reported.cpu_times), list(read.reported.memory_peaks)) == ([0, 0, 400], [0, 0, 500])
    assert (list(read.reported.read_times), list(read.reported.write_times)) == ([0, 0, 7_000], [])
    assert (list(read.object_positions), read.objects, list(read.object_sizes)) == ([2], (OBJECT_ID,), [600])
    assert list(read.reported.object_bytes) == [0, 0, 2**33], (
        "what is told others is the size, not what the cache counts"
    )


def test_plain_results_carry_no_optional_columns() -> None:
    read = read_results(b"".join(results_parts([(0, b"a", 1, None), (1, b"b", 2, None)])))
    assert read.reported._replace(durations=()) == Reported()
    assert not len(read.objects)


@pytest.mark.parametrize("payload", [b"", b"x" * ONE_TASK_BYTES_MAX])
def test_the_short_form_of_a_task_says_what_the_long_one_does(payload: bytes) -> None:
    client, function = b"c" * 16, b"f" * 16
    short = one_task_parts(2**40, 3, 4, 1, 3, 2**63, client, function, payload)
    assert len(packets(Kind.ONE_TASK, short)) == 1
    long = tasks_parts(
        first_index=2**40,
        generation=3,
        depth=4,
        kind=1,
        flags=3,
        client=client,
        serializer=NO_ID,
        functions=[function],
        function_indexes=(),
        numbers=[2**63],
        payload_lengths=[len(payload)],
        payload=payload,
        input_positions=(),
        inputs=(),
        input_sources=(),
        new_functions=(),
        forgotten=(),
    )
    read = read_tasks(b"".join(long))
    assert read_one_task(b"".join(short)) == read._replace(numbers=tuple(read.numbers))


def test_the_short_form_of_a_result_says_what_the_long_one_does() -> None:
    result = (2**40, b"value", 2**40, None)
    read = read_results(b"".join(results_parts([result])))
    first_index, rows, lengths, payloads, reported = read_one_result(b"".join(one_result_parts(result)))
    assert (first_index, rows, payloads) == (read.first_index, read.rows, read.payloads)
    assert list(lengths) == list(read.payload_lengths)
    assert list(map(list, reported)) == list(map(list, read.reported))


# --- objects


def test_objects_are_mapped_as_written_and_writing_to_a_mapping_changes_nobody_else(tmp_path: Path) -> None:
    buffers: list[bytes | bytearray] = [b"header", b"", random.Random(1).randbytes(100_001), bytearray(64)]
    assert write_object(str(tmp_path), OBJECT_ID, buffers) == sum(map(len, buffers))
    first, second = map_object(str(tmp_path), OBJECT_ID), map_object(str(tmp_path), OBJECT_ID)
    assert first is not None
    assert second is not None
    assert [bytes(view) for view in first] == [bytes(buffer) for buffer in buffers]
    first[2][0:4] = b"1234"
    assert bytes(second[2]) == buffers[2]
    drop_object(str(tmp_path), OBJECT_ID)
    drop_object(str(tmp_path), OBJECT_ID)
    assert bytes(second[2]) == buffers[2]
    assert map_object(str(tmp_path), OBJECT_ID) is None
    assert os.listdir(tmp_path) == []


def test_an_object_of_many_buffers(tmp_path: Path) -> None:
    buffers = [bytes([i % 256]) * i for i in range(2000)]
    write_object(str(tmp_path), OBJECT_ID, buffers)
    mapped = map_object(str(tmp_path), OBJECT_ID)
    assert mapped is not None
    assert [bytes(view) for view in mapped] == buffers


def test_an_object_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_object(str(tmp_path / "missing"), OBJECT_ID, [b"x"])


@pytest.fixture
def store() -> Iterator[Offer]:
    """An object storage server's offer: its end of segments."""
    offer = Offer(b"s" * 16)
    yield offer
    offer.close()


def test_without_a_token_a_large_result_is_a_file(tmp_path: Path) -> None:
    objects = HostObjects(ObjectFolders(str(tmp_path)))
    assert objects.write(OBJECT_ID, [b"header", bytes(MIB)]) == MIB + 6
    assert [bytes(buffer) for buffer in objects.read(OBJECT_ID) or ()] == [b"header", bytes(MIB)]
    assert read_place(str(tmp_path), OBJECT_ID) is None


def test_with_a_token_a_large_result_lies_in_a_segment_and_a_small_one_in_a_file(tmp_path: Path, store: Offer) -> None:
    folder = str(tmp_path)
    write_token(folder, store.token)
    objects = HostObjects(ObjectFolders(folder))
    assert objects.write(OBJECT_ID, [b"header", b"\1" * MIB]) == PLACE_BYTES
    assert objects.write(b"p" * 16, [b"small"]) == 5
    place = read_place(folder, OBJECT_ID)
    assert place is not None
    assert (place.pid, read_place(folder, b"p" * 16)) == (os.getpid(), None)
    assert map_object(folder, OBJECT_ID) is None
    first, second = objects.read(OBJECT_ID), HostObjects(ObjectFolders(folder)).read(OBJECT_ID)
    assert first is not None
    assert second is not None
    first[1][0] = 7
    assert bytes(second[1]) == b"\1" * MIB
    drop_object(folder, OBJECT_ID)
    assert objects.read(OBJECT_ID) is None
    write_token(folder, None)
    assert objects.write(OBJECT_ID, [bytes(MIB)]) == MIB


def test_a_result_is_kept_until_the_server_holds_it(tmp_path: Path, store: Offer) -> None:
    write_token(str(tmp_path), store.token)
    objects = HostObjects(ObjectFolders(str(tmp_path)))
    places = []
    for number in (1, 2, 3):
        objects.write(bytes([number]) * 16, [bytes([number]) * MIB])
        place = read_place(str(tmp_path), bytes([number]) * 16)
        assert place is not None
        places.append(place)
    assert len({place.descriptor for place in places}) == 3
    adopted = adopt(places[1], store.token, store.device)
    assert adopted is not None
    mark_taken(adopted.place)
    held = bytes(adopted.buffers[0])
    del adopted
    # The server has let go of it again: it may be used.
    objects.write(b"q" * 16, [bytes(MIB)])
    place = read_place(str(tmp_path), b"q" * 16)
    assert place is not None
    assert place.descriptor == places[1].descriptor
    assert held == b"\2" * MIB
    with pytest.raises(PlaceGoneError):
        objects.read(b"\2" * 16)
    others = [objects.read(bytes([number]) * 16) for number in (1, 3)]
    assert [bytes(buffers[0][:2]) for buffers in others if buffers] == [b"\1\1", b"\3\3"]


@pytest.mark.parametrize(("measured", "told"), [(-5, 0), (2**70, 2**64 - 1), (2**40, 2**40), (7, 7)])
def test_times_that_no_clock_should_say_fit_into_records(measured: int, told: int) -> None:
    assert list(read_one_result(b"".join(one_result_parts((3, b"P", measured, None))))[4].durations) == [told]
    extra = Extra(0, {"cpu_times": measured, "memory_peaks": measured})
    read = read_results(b"".join(results_parts([(3, b"P", measured, extra)])))
    assert (list(read.reported.durations), list(read.reported.cpu_times)) == ([told], [told])


def test_texts_that_utf8_cannot_hold_reach_the_other_side() -> None:
    assert read_cancel(b"".join(cancel_parts(1, 2, "a\udcff"))) == (1, 2, "a?")
    assert read_object_answer(b"".join(object_answer_parts(OBJECT_ID, 2, "a\udcff"))) == (OBJECT_ID, 2, "a?")


# --- preload


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkg.mod:func", ("pkg.mod", "func", [], {})),
        ("pkg.mod:func()", ("pkg.mod", "func", [], {})),
        ("mod:Class.method(1, 'a, b', x=[1, 2], y=-1)", ("mod", "Class.method", [1, "a, b"], {"x": [1, 2], "y": -1})),
    ],
)
def test_preload_texts(text: str, expected: Any) -> None:
    assert parse_preload(text) == expected


@pytest.mark.parametrize("text", ["", "mod", "mod:", ":f", "mod:f(", "mod:f(x)", "mod:f(**{})", "a b:f", "mod:f()()"])
def test_preload_texts_that_are_none(text: str) -> None:
    with pytest.raises(PreloadError, match="--preload"):
        parse_preload(text)


def test_a_preload_that_fails_says_how() -> None:
    with pytest.raises(PreloadError, match=r"--preload math:sqrt\(-1\): ValueError"):
        run_preload("math:sqrt(-1)")
    with pytest.raises(PreloadError, match="AttributeError"):
        run_preload("math:no_such_function")
    run_preload("math:sqrt(4)")


# --- output


def test_output_is_kept_in_order_and_to_the_running_task() -> None:
    sent: list[tuple[int, int, bytes, int]] = []
    capture = OutputCapture(lambda *record: sent.append(record))
    assert not capture.write(STDOUT, b"of nobody")
    capture.begin(5)
    for stream, text in ((STDOUT, "a"), (STDOUT, "b"), (STDERR, "c"), (STDOUT, "ä")):
        assert capture.write(stream, text.encode())
    capture.end()
    assert not capture.capturing
    assert sent == [(5, STDOUT, b"ab", 0), (5, STDERR, b"c", 0), (5, STDOUT, "ä".encode(), 0)]


def test_what_the_task_has_to_say_before_it_dies_is_sent_at_once() -> None:
    sent: list[tuple[int, int, bytes, int]] = []
    capture = OutputCapture(lambda *record: sent.append(record))
    capture.begin(5)
    capture.write(STDOUT, b"kept\n")
    assert sent == []
    capture.flush()
    capture.write(STDERR, b"half a line, ")
    capture.write(STDERR, b"and its end\n")
    assert sent == [(5, STDOUT, b"kept\n", 0), (5, STDERR, b"half a line, and its end\n", 0)]
    capture.write_record(record("at once"))
    assert sent[2][1] == LOG


def test_what_waits_is_sent_by_whole_lines_when_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(output, "perf_counter", lambda: now[0])
    sent: list[tuple[int, int, bytes, int]] = []
    looks: list[bool] = []
    capture = OutputCapture(lambda *record: sent.append(record), look_soon=lambda: looks.append(capture.has_pending))
    capture.begin(5)
    capture.write(STDOUT, b"a line")
    now[0] += LATEST_FLUSH_SECONDS / 2
    capture.flush_late()
    capture.write(STDOUT, b"\nhalf of ")
    assert sent == []
    now[0] += LATEST_FLUSH_SECONDS / 2
    capture.flush_late()
    capture.write(STDOUT, b"the next")
    capture.flush_late()
    assert [data for _, _, data, _ in sent] == [b"a line\n"]
    now[0] += LATEST_FLUSH_SECONDS
    capture.flush_late()
    assert [data for _, _, data, _ in sent] == [b"a line\n", b"half of the next"]
    # Whoever sends it is told once for all that waits, and when it is there.
    assert looks == [True]
    capture.write(STDOUT, b"more")
    assert looks == [True, True]
    capture.end()
    assert not capture.has_pending
    capture.flush_late()
    assert [data for _, _, data, _ in sent] == [b"a line\n", b"half of the next", b"more"]


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("their.module", logging.WARNING, "/srv/model.py", 7, text, arguments, None, "fit")


def test_log_records_are_sent_in_order_with_what_is_printed() -> None:
    sent: list[tuple[int, int, bytes, int]] = []
    capture = OutputCapture(lambda *record: sent.append(record))
    handler = TaskLogHandler(capture)
    handler.handle(record("of nobody"))
    capture.begin(5)
    capture.write(STDOUT, b"a")
    handler.handle(record("%d%% done", 50))
    handler.handle(record("all done"))
    capture.write(STDOUT, b"b")
    capture.end()
    assert [(index, stream) for index, stream, _, _ in sent] == [(5, STDOUT), (5, LOG), (5, LOG), (5, STDOUT)]
    entries = [json.loads(data) for _, stream, data, _ in sent if stream == LOG]
    assert [entry["message"] for entry in entries] == ["50% done", "all done"]
    assert (entries[0]["logger"], entries[0]["level"], entries[0]["function"]) == ("their.module", 30, "fit")


def test_a_log_record_over_the_budget_is_dropped_whole() -> None:
    sent: list[tuple[int, int, bytes, int]] = []
    capture = OutputCapture(lambda *record: sent.append(record))
    capture.begin(1)
    capture.write_record(record("x" * TASK_BYTES_MAX))
    capture.write_record(record("short"))
    capture.end()
    assert [json.loads(data)["message"] for _, _, data, _ in sent if data] == ["short"]
    assert sent[-1][3] > TASK_BYTES_MAX


def test_memory_figures_are_plausible() -> None:
    reset_peak()
    before = rss_bytes()
    # Not from the heap, where earlier tests may have left as much room.
    with mmap.mmap(-1, 30_000_000) as pages:
        pages.write(b"x" * len(pages))
    # The kernel adds pages up in portions for each processor.
    assert peak_bytes() > before + 29_000_000


def test_a_file_that_a_task_closes_or_puts_another_in_place_of_is_opened_again() -> None:
    kept = OwnFile("statm", os.O_RDONLY)
    kept.open()
    number, before = kept.descriptor, identity(kept.descriptor)
    kept.open()
    assert kept.descriptor == number
    with tempfile.TemporaryFile() as other:
        os.dup2(other.fileno(), number)
        try:
            kept.open()
            # Not the number itself: what is there now is not ours to close.
            assert kept.descriptor != number
            assert identity(kept.descriptor) == before != identity(number)
            os.close(kept.descriptor)
            kept.open()
            assert os.pread(kept.descriptor, 10, 0).split()
        finally:
            os.close(number)
            os.close(kept.descriptor)


def test_who_closes_what_figures_are_read_from_gets_those_that_are_left() -> None:
    reset_peak()
    os.close(memory._sizes.descriptor)
    assert 0 < peak_bytes() < 1 << 40
    reset_peak()
    assert abs(peak_bytes() - rss_bytes()) < 100_000_000


def test_the_running_page_tells_what_was_begun() -> None:
    descriptor = RunningPage.create()
    ours, theirs = RunningPage(descriptor), RunningPage(descriptor)
    os.close(descriptor)
    assert ours.begun_index is None
    theirs.word[0] = 41 + 1
    assert ours.begun_index == 41
    for page in (ours, theirs):
        page.close()


# --- what tasks may do to their process


def test_a_channel_sends_to_its_agent_or_nowhere() -> None:
    """A task may put another socket in the place of the processor's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, left, right:
        channel = Channel(theirs)
        channel.send(Kind.UNBLOCKED)
        assert ours.recv(100) == bytes((Kind.UNBLOCKED, 0))
        os.dup2(left.fileno(), theirs.fileno())
        assert not channel.is_intact
        with pytest.raises(AgentGoneError):
            channel.send(Kind.UNBLOCKED)
        right.setblocking(False)
        with pytest.raises(BlockingIOError):
            right.recv(100)


def test_a_fork_has_no_channel() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        channel = Channel(theirs)
        channel.abandon()
        with pytest.raises(AgentGoneError):
            channel.send(Kind.UNBLOCKED)
        assert ours.recv(100) == b""
        theirs.detach()


def test_descriptors_out_of_reach_are_above_those_that_programs_close() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = os.memfd_create("here")
    same = identity(before)
    moved = moved_out_of_reach(before)
    try:
        assert identity(moved) == same
        assert identity(before) is None
        assert moved >= min(FIRST_NUMBER, limit[0] - COUNT_MAX)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == limit
    finally:
        os.close(moved)


def test_results_whose_lengths_do_not_fit_are_refused() -> None:
    """They come from a processor in which a task has changed what `len` means."""
    body = bytearray(b"".join(results_parts([(0, b"abc", 1, None), (1, b"d", 1, None)])))
    assert read_results(bytes(body)).payloads == b"abcd"
    with pytest.raises(ValueError, match="4 bytes"):
        read_results(bytes(body) + b"more")


def test_a_record_whose_arguments_cannot_be_printed_is_told_by_logging(capsys: pytest.CaptureFixture[str]) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise KeyError("no text")

    capture = OutputCapture(lambda *record: None)
    capture.begin(1)
    TaskLogHandler(capture).handle(record("a %s", Unprintable()))
    assert "--- Logging error ---" in capsys.readouterr().err


def test_what_is_written_in_another_encoding_reaches_the_client_in_utf_8() -> None:
    sent: list[tuple[int, int, bytes, int]] = []
    capture = OutputCapture(lambda *record: sent.append(record))
    capture.begin(1)
    buffer = TaskBuffer(STDOUT, "<stdout>", lambda: "latin-1", capture)
    assert buffer.write("äöü".encode("latin-1")) == 3
    capture.end()
    assert sent == [(1, STDOUT, "äöü".encode(), 0)]


@pytest.mark.parametrize(
    ("error", "status"), [(None, 0), (SystemExit(), 0), (SystemExit(3), 3), (SystemExit("no"), 1), (ValueError(), 1)]
)
def test_a_fork_that_comes_back_ends_as_a_program_would(error: BaseException | None, status: int) -> None:
    pid = os.fork()
    if not pid:
        leave(error)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status


def test_a_record_of_more_ids_than_it_has_bytes_costs_no_memory() -> None:
    # A task may write this: it would keep its agent busy for minutes, and fill the host's memory.
    many = bytes(4) + b"\xff" * 4
    with pytest.raises(ValueError, match="ids in a record of"):
        records.Reader(many, 0).ids(2**32 - 1)


def test_the_page_that_an_agent_reads_cannot_shrink() -> None:
    descriptor = RunningPage.create()
    try:
        for size in (0, 2 * PAGE_BYTES):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def test_tasks_of_a_generation_that_a_processor_did_not_begin_end_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def handed(index: int, generation: int) -> bytes:
        parts = one_task_parts(index, generation, 0, 1, 0, index, b"c" * 16, b"f" * 16, b"payload")
        return b"".join(bytes(part) for part in parts)

    with ours, theirs:
        inbox = Inbox(Channel(theirs), FunctionTable(Environments(PluginWorker("w"))), ChainResults())
        assert inbox.take_in(Kind.ONE_TASK, handed(0, 0))
        inbox.give_back()
        assert inbox.take_in(Kind.ONE_TASK, handed(1, 0)), "on its way when those before it were given back"
        assert not inbox.rows
        with pytest.raises(RetiredError, match="in the name of its processor"):
            inbox.take_in(Kind.ONE_TASK, handed(0, 2))
        assert inbox.take_in(Kind.ONE_TASK, handed(0, 1))
        assert [row.task_index for row in inbox.rows] == [0]


def test_only_the_first_failure_of_a_function_is_looked_after_at_once() -> None:
    function = Function(b"f", len)
    raised, stopped = int(Status.FAILED), int(Status.CANCELED)
    assert [function.has_raised_before(status) for status in (raised, raised, raised)] == [False, True, True]
    assert [function.has_raised_before(status) for status in (stopped, raised, raised)] == [False, False, True]


def test_a_function_that_only_raises_is_known_to_be_quick_too() -> None:
    function = Function(b"f", len)
    function.note_seconds(0.001)
    assert function.seconds == 0.001
    function.note_seconds(0.002)
    assert function.seconds == pytest.approx(0.0012)


def test_why_an_item_failed_is_told_of_its_own_chunk() -> None:
    limit = TimeLimit(lambda: None)
    descriptor = RunningPage.create()

    def fails(item: object) -> object:
        if item is None:
            raise ConnectionError
        return item

    with closing(RunningPage(descriptor)) as page:
        os.close(descriptor)
        running = RunningTask(page, limit, lambda: None)
        chunks = MapChunks(running, FailureWriter(limit), lambda *_: ((), {}))
        function = Function(b"f", fails)
        found = []
        for item in (None, Lock(), 1):
            values, failures = chunks.run((False, [item]), function, None)
            chunks.dump(values, failures, lambda value: dump_result(value, None))
            found.append((chunks.failed_with, len(failures)))
    assert found == [(ConnectionError, 1), (NotSerializableError, 1), (BaseException, 0)]
