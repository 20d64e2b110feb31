"""The lines of an agent that monitors may ask for, and how the core answers what it is asked."""

from __future__ import annotations

import logging

from agent_harness import CLIENT, AgentHarness

from scaler_protocol.monitoring.kept_output import read_parts
from scaler_protocol.wire import messages as m
from scaler_worker.core import effects, events
from scaler_worker.shell.agent_log import LINE_CHARACTERS_MAX, LINES_MAX, AgentLog


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("x", level, __file__, 1, text, (), None)


def test_the_last_lines_are_kept() -> None:
    log = AgentLog()
    for number in range(2 * LINES_MAX):
        log.handle(record(f"line {number}"))
    (part,) = read_parts(log.answer())
    assert part.dropped
    assert [piece.text for piece in part.pieces] == [f"line {number}" for number in range(LINES_MAX, 2 * LINES_MAX)]
    log.handle(record("x" * 10_000, logging.ERROR))
    last = read_parts(log.answer())[0].pieces[-1]
    assert (last.stream, last.text) == (logging.ERROR, "x" * LINE_CHARACTERS_MAX)


def test_lines_of_processors_have_the_level_that_they_name() -> None:
    log = AgentLog()
    log.note_stderr(7, b"[WARNING]2026-11-30 04:33:59+0000: careful\nplain \xff\n[NOLEVEL] x\n")
    (part,) = read_parts(log.answer())
    assert [(piece.stream, piece.text) for piece in part.pieces] == [
        (logging.WARNING, "processor 7: [WARNING]2026-11-30 04:33:59+0000: careful"),
        (logging.INFO, "processor 7: plain \\xff"),
        (logging.INFO, "processor 7: [NOLEVEL] x"),
    ]
    assert not part.dropped


def test_an_empty_log_is_an_answer() -> None:
    (part,) = read_parts(AgentLog().answer())
    assert part.pieces == ()


def test_the_core_has_it_looked_up_and_answers() -> None:
    harness = AgentHarness()
    harness.plain(m.OutputRequest(5, 17, CLIENT))
    assert harness.take(effects.ReadOutput) == [effects.ReadOutput(5, 17, CLIENT)]
    harness.step(events.OutputRead(5, b"found"))
    assert [message for message in harness.sent if isinstance(message, m.OutputReply)] == [m.OutputReply(5, b"found")]
