"""Log lines: whatever a peer calls itself, it writes no line of its own and controls no terminal."""

from __future__ import annotations

import json
import logging
import re

import pytest

from scaler_protocol.runtime.log_lines import LINE_CHARACTERS_MAX, formatter, harmless


def written(text: str, *arguments: object, log_format: str = "text") -> str:
    record = logging.LogRecord("scaler", logging.WARNING, "file", 1, text, arguments, None)
    return formatter("json" if log_format == "json" else "text").format(record)


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_a_name_begins_no_line(separator: str) -> None:
    lines = written("client %s connected", f"x{separator}[ERROR]2026-01-01 00:00:00+0000: forged").splitlines()
    assert [bool(re.match(r"\[", line)) for line in lines] == [True, *[False] * (len(lines) - 1)]
    assert len(json.loads(written("%s", f"x{separator}y", log_format="json"))["message"]) > 2


def test_control_characters_are_shown_and_not_sent_to_the_terminal() -> None:
    assert harmless("\x1b[2Jx\0\x07\x9b\u202e") == "\\x1b[2Jx\\x00\\x07\\x9b\\u202e"


HOSTILE = "\x1b]52;c;aGk=\x07\x9b2J\r\b\x7f\u202e\u2066name"
"""Writes the clipboard, clears the screen, moves the cursor, and turns the direction of text."""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_neither_messages_nor_tracebacks_control_a_terminal(log_format: str) -> None:
    try:
        raise ValueError(f"client {HOSTILE}\n[ERROR]2026-01-01 00:00:00+0000: forged")
    except ValueError as error:
        record = logging.LogRecord("scaler", 30, "f", 1, "%s", (HOSTILE,), (ValueError, error, error.__traceback__))
    lines = formatter("json" if log_format == "json" else "text").format(record).split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines[1:] if line.startswith("[")] == []
    if log_format == "json":
        assert json.loads(lines[0])["message"] == HOSTILE


@pytest.mark.parametrize("text", ["", "plain", "tab\there", "Grüße, 東京, עברית", "100 %"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_further_lines_are_indented() -> None:
    assert harmless("it ended:\nTraceback\n  File x") == "it ended:\n    Traceback\n      File x"


def test_endless_text_is_cut() -> None:
    assert len(harmless("x" * 10 * LINE_CHARACTERS_MAX)) < LINE_CHARACTERS_MAX + 100
