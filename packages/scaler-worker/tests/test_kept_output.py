"""The ring in which the output of tasks is kept: bounded, readable while it is written and after its writer died."""

from __future__ import annotations

import io
import logging
import os
import random
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from scaler_protocol.monitoring.kept_output import LOG, NOTE, STDERR, STDOUT, TEXT_BYTES_MAX, read_parts
from scaler_worker.processor import kept_output
from scaler_worker.processor.kept_output import (
    HEAD_BYTES,
    KEPT_BYTES_MIN,
    RECORD_BYTES_MAX,
    KeptLogHandler,
    KeptOutput,
    KeptReader,
    Writer,
    capacity_for,
    is_printed,
    pieces_of,
    region_bytes,
)
from scaler_worker.processor.output import OutputCapture
from scaler_worker.processor.page import KEPT_AT, RunningPage
from scaler_worker.processor.running_task import RunningTask
from scaler_worker.processor.streams import TaskBuffer
from scaler_worker.shell.output_shelf import ENDED_PROCESSORS_MAX, Kept, OutputShelf

ALICE, BOB = b"a" * 16, b"b" * 16


class Ring:
    """Both ends of one ring; `writer` is the task that writes."""

    def __init__(self, capacity: int) -> None:
        self.descriptor = RunningPage.create(region_bytes(capacity))
        self.writer: Writer | None = (1, ALICE)
        self._indexes: dict[Writer, int] = {}
        self.kept = KeptOutput(self.descriptor, KEPT_AT, capacity, lambda: self.writer, cast(RunningTask, self))
        self.reader = KeptReader(self.descriptor, KEPT_AT, capacity)

    @property
    def row(self) -> Any:
        """As the running task's: `writer` is that."""
        if self.writer is None:
            return None
        return SimpleNamespace(task_index=self._indexes.setdefault(self.writer, len(self._indexes)))

    def text(self, number: int = 1, client: bytes = b"") -> str:
        content = self.reader.read()
        return "" if content is None else "".join(piece.text for piece in pieces_of(content, number, client)[0])

    def dropped(self, number: int = 1) -> bool:
        content = self.reader.read()
        assert content is not None
        return pieces_of(content, number, b"")[1]


@contextmanager
def ring(capacity: int = KEPT_BYTES_MIN) -> Iterator[Ring]:
    made = Ring(capacity)
    try:
        yield made
    finally:
        made.reader.close()
        os.close(made.descriptor)


def test_each_task_has_what_it_has_written_in_order() -> None:
    with ring() as made:
        assert made.reader.read() is None
        made.kept.write(STDOUT, b"first\n")
        made.kept.write(STDERR, b"second\n")
        made.writer = (1, BOB)
        made.kept.write(STDOUT, "grüße\n".encode())
        made.writer = (2, ALICE)
        made.kept.write(LOG, b"WARNING x: y\n")
        content = made.reader.read()
        assert content is not None
        pieces, dropped = pieces_of(content, 1, ALICE)
        assert [(piece.stream, piece.text) for piece in pieces] == [(STDOUT, "first\n"), (STDERR, "second\n")]
        assert not dropped
        assert made.text(1, BOB) == "grüße\n"
        assert made.text(1) == "first\nsecond\ngrüße\n"
        assert made.text(2) == "WARNING x: y\n"
        assert made.text(3) == ""


def test_lines_bear_the_time_at_which_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(kept_output, "time", lambda: now[0])
    with ring() as one:
        for at, text in ((10.0, b"one "), (10.001, b"line\n"), (10.05, b"two\n"), (10.1, b"three\n")):
            now[0] = at
            one.kept.write(STDOUT, text)
        content = one.reader.read()
        assert content is not None
        pieces, _ = pieces_of(content, 1, ALICE)
        assert [(piece.at, piece.text) for piece in pieces] == [
            (10.0, "one line\n"),
            (10.05, "two\n"),
            (10.1, "three\n"),
        ]


def test_nothing_is_kept_between_tasks() -> None:
    with ring() as made:
        made.writer = None
        made.kept.write(STDOUT, b"nobody's")
        assert made.reader.read() is None


def test_the_newest_output_overwrites_the_oldest() -> None:
    with ring() as made:
        for line in range(20_000):
            made.kept.write(STDOUT, b"line %d\n" % line)
        lines = made.text().splitlines()
        assert lines[-1] == "line 19999"
        assert lines[1:] == [f"line {line}" for line in range(20_000 - len(lines) + 1, 20_000)]
        assert KEPT_BYTES_MIN - 2 * RECORD_BYTES_MAX < len(made.text()) <= KEPT_BYTES_MIN
        assert made.dropped()
        made.writer = (2, ALICE)
        made.kept.write(STDOUT, b"whole\n")
        assert made.text(2) == "whole\n"
        assert not made.dropped(2)


def test_of_one_huge_print_the_end_is_kept_and_the_rest_is_counted() -> None:
    with ring() as made:
        made.kept.write(STDOUT, ("ü" * 1_000_000).encode() + b"end\n")
        content = made.reader.read()
        assert content is not None
        pieces, _ = pieces_of(content, 1, ALICE)
        assert pieces[0].stream == NOTE
        assert "bytes of one write are left out" in pieces[0].text
        text = "".join(piece.text for piece in pieces[1:])
        # No character was cut in two.
        assert set(text[:-4]) == {"ü"}
        assert text.endswith("end\n")


def test_bytes_that_are_no_text_are_shown_escaped() -> None:
    with ring() as made:
        made.kept.write(STDOUT, b"\xff\x00raw\n")
        made.kept.write(STDOUT, b"\x80" * 20_000)
        assert made.text().startswith("\\xff\0raw\n\\x80")


@pytest.mark.parametrize("seed", range(5))
def test_random_writes_are_read_back_as_long_as_there_is_room(seed: int) -> None:
    chance = random.Random(seed)
    written = {1: "", 2: "", 3: ""}
    with ring(128 * 1024) as made:
        for _ in range(3_000):
            number = chance.choice((1, 2, 3))
            text = chance.choice("abcü") * chance.choice((1, 10, 100, 9_000 if chance.random() < 0.05 else 3))
            made.writer = (number, ALICE)
            made.kept.write(chance.choice((STDOUT, STDERR)), text.encode())
            written[number] += text
        for number, text in written.items():
            kept = made.text(number)
            assert kept
            assert text.endswith(kept)


def test_it_is_read_while_threads_write() -> None:
    with ring() as made:
        going = True

        def write() -> None:
            line = 0
            while going:
                made.kept.write(STDOUT, b"%06d\n" % line)
                line += 1

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(200):
                text = made.text()
                # The first line may be cut where older ones were overwritten, and the last is under way.
                assert all(len(line) == 6 and line.isdigit() for line in text.split("\n")[1:-1])
        finally:
            going = False
            for thread in threads:
                thread.join()


def test_a_handler_that_prints_while_something_is_kept_destroys_nothing() -> None:
    with ring() as made:

        def writer() -> Writer:
            return (1, ALICE)

        made.kept._writer = writer
        put = made.kept._put

        def put_and_print(position: int, data: bytes) -> None:
            made.kept.write(STDERR, b"from a signal handler")
            put(position, data)

        made.kept._put = put_and_print  # type: ignore[method-assign]
        made.kept.write(STDOUT, b"one\n")
        made.kept.write(STDOUT, b"two\n")
        assert made.text() == "one\ntwo\n"


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("step", range(1, 30))
@pytest.mark.parametrize("first", [b"", b"before\n"])
def test_what_raises_while_something_is_kept_destroys_nothing(step: int, first: bytes) -> None:
    # As the signal handler of a cancelled task, which may raise at any call.
    with ring() as made:
        made.kept.write(STDOUT, first)
        left = step

        def raise_sometimes(frame: FrameType, event: str, _argument: object) -> None:
            nonlocal left
            if event in ("call", "c_call", "c_return") and frame.f_code.co_filename == kept_output.__file__:
                left -= 1
                if not left and not frame.f_code.co_name.startswith("__"):
                    raise Interrupted

        sys.setprofile(raise_sometimes)
        try:
            made.kept.write(STDOUT, b"interrupted\n")
        except Interrupted:
            pass
        finally:
            sys.setprofile(None)
        for number in range(3):
            made.kept.write(STDOUT, b"line %d\n" % number)
        lines = made.text().splitlines()
        assert lines[-3:] == ["line 0", "line 1", "line 2"]
        assert set(lines[:-3]) <= {"before", "interrupted"}
        assert ("before" in lines) == bool(first)
        # And the ring goes on, past its end.
        made.writer = (2, ALICE)
        for _ in range(200):
            made.kept.write(STDOUT, b"x" * 999 + b"\n")
        assert set(made.text(2)) == {"x", "\n"}
        assert len(made.text(2)) > KEPT_BYTES_MIN - 2 * RECORD_BYTES_MAX


def test_pieces_of_lines_of_two_threads_and_a_handler_are_all_there() -> None:
    lines = 2_000
    with ring(16 * KEPT_BYTES_MIN) as made:
        adding = made.kept._mapping

        class Interrupting:
            """The mapping, and a signal handler of the task's that prints while something is put there."""

            def __setitem__(self, where: slice, data: bytes) -> None:
                if threading.get_ident() == made.kept._own_thread:
                    made.kept.write(STDOUT, b"[from a signal handler]")
                adding[where] = data

            def __getitem__(self, where: slice) -> bytes:
                return adding[where]

            def __getattr__(self, name: str) -> Any:
                return getattr(adding, name)

        made.kept._mapping = cast(Any, Interrupting())

        def write(name: bytes) -> None:
            for number in range(lines):
                for piece in (name, b" %d" % number, b"\n"):
                    made.kept.write(STDOUT, piece)

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b")]
        for thread in threads:
            thread.start()
        write(b"c")
        for thread in threads:
            thread.join()
        text = made.text()
        # Pieces of different threads mix, as anywhere; those of each are there once and in order.
        for name in "abc":
            assert text.count(name) == lines
        assert "[from a signal handler]" not in text
        assert text.count("\n") == 3 * lines
        assert len(text) == 3 * sum(len(f"a {number}\n") for number in range(lines))


def test_a_fork_writes_nothing() -> None:
    with ring() as made:
        made.kept.write(STDOUT, b"parent\n")
        made.kept.abandon()
        made.kept.write(STDOUT, b"child\n")
        assert made.text() == "parent\n"


@pytest.mark.parametrize("seed", range(20))
def test_what_a_task_writes_over_the_ring_is_no_danger_to_its_reader(seed: int) -> None:
    chance = random.Random(seed)
    with ring() as made:
        for line in range(3_000):
            made.kept.write(STDOUT, b"line %d\n" % line)
        for _ in range(50):
            at = chance.choice((chance.randrange(16), HEAD_BYTES + chance.randrange(KEPT_BYTES_MIN)))
            os.pwrite(made.descriptor, chance.randbytes(chance.randrange(1, 64)), KEPT_AT + at)
            made.text()
            made.kept.write(STDOUT, b"more\n" * 300)


def test_positions_that_make_no_sense_are_nothing() -> None:
    with ring() as made:
        made.kept.write(STDOUT, b"line\n")
        for head, tail in ((1, 5), (1 << 60, 0), (1, 1 << 63)):
            os.pwrite(made.descriptor, struct.pack("=QQ", head, tail), KEPT_AT)
            assert made.reader.read() is None


def test_sizes() -> None:
    assert capacity_for(0) == region_bytes(0) == 0
    assert capacity_for(1) == KEPT_BYTES_MIN
    assert capacity_for(KEPT_BYTES_MIN + 1) == 2 * KEPT_BYTES_MIN


def test_streams_keep_what_they_write_whether_a_client_listens_or_not() -> None:
    sent: list[bytes] = []
    capture = OutputCapture(lambda _index, _stream, data, _dropped: sent.append(data))
    with ring() as made:
        buffer = TaskBuffer(STDERR, "<stderr>", lambda: "latin-1", capture, made.kept)
        buffer.write("grüße 1 ".encode("latin-1"))
        capture.begin(3)
        buffer.write("grüße 2\n".encode("latin-1"))
        capture.end()
        assert made.text() == "grüße 1 grüße 2\n"
        assert b"".join(sent).decode() == "grüße 2\n"


def test_log_records_are_kept_where_nothing_prints_them() -> None:
    logger = logging.getLogger("tests.kept_output")
    with ring() as made:
        handler = KeptLogHandler(made.kept)
        handler.handle(logging.LogRecord("my.log", logging.WARNING, __file__, 1, "%d left", (3,), None))
        assert made.text() == "WARNING my.log: 3 left\n"
    logger.propagate = False
    assert not is_printed(logger)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    try:
        assert is_printed(logger)
    finally:
        logger.handlers.clear()


class NeverEqual(io.StringIO):
    def __eq__(self, _other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


def test_logging_bears_with_streams_that_a_task_made_or_took_away(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("test of odd streams")
    handler = logging.StreamHandler(NeverEqual())
    logger.addHandler(handler)
    try:
        assert not is_printed(logger)
        monkeypatch.delattr(sys, "stdout")
        monkeypatch.delattr(sys, "stderr")
        assert not is_printed(logger)
    finally:
        logger.removeHandler(handler)


def test_of_processors_that_have_ended_the_last_are_kept() -> None:
    with ring() as made:
        made.kept.write(STDOUT, b"x" * 1000)
        content = made.reader.read()
        assert content is not None
    shelf = OutputShelf(5 * len(content.records))
    for pid in range(10):
        shelf.keep(Kept("w", pid, "it was killed", content))
    parts = read_parts(shelf.find([Kept("w", 10, "", content)], 1, ALICE))
    assert [part.pid for part in parts] == [5, 6, 7, 8, 9, 10]
    assert [part.ended for part in parts] == ["it was killed"] * 5 + [""]
    assert shelf.find([], 2, ALICE) == b""
    many = OutputShelf(1 << 30)
    for pid in range(2 * ENDED_PROCESSORS_MAX):
        many.keep(Kept("w", pid, "it ended", content))
    assert len(read_parts(many.find([], 1, b""))) == ENDED_PROCESSORS_MAX


def test_an_answer_is_bounded() -> None:
    with ring(1024 * 1024) as made:
        for line in range(100_000):
            made.kept.write(STDOUT, b"line %d\n" % line)
        content = made.reader.read()
        assert content is not None
    answer = OutputShelf(0).find([Kept("w", pid, "", content) for pid in range(3)], 1, ALICE)
    assert len(answer) < 2 * TEXT_BYTES_MAX
    parts = read_parts(answer)
    assert parts[-1].dropped
    assert parts[-1].pieces[-1].text.endswith("line 99999\n")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"parts": 1}', b'{"parts": [{}]}', b'{"parts": [null]}', b"[" * 100_000]
)
def test_an_answer_that_is_none_is_one_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_parts(data)


@pytest.mark.parametrize("at", ["NaN", "1e999", "-1e300"])
def test_times_that_are_none_are_refused(at: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_parts(
            b'{"parts": [{"worker": "", "pid": 1, "ended": "", "dropped": false, "pieces": [[1, %s, ""]]}]}'
            % at.encode()
        )
