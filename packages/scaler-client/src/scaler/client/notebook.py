"""How clients, futures and references look in a notebook, and what is shown there while programs run: bars, pages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any

_TEXT_CHARACTERS_MAX = 300

DRAW_SECONDS = 0.2
"""A bar is drawn at most so often: each drawing is a message to the browser."""


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """Return a small table as HTML; names and values are escaped, empty values left out, long ones cut."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{_cell(value)}</td></tr>'
        for name, value in facts.items()
        if value != ""
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


ROWS_MAX = 100


def rows_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with a row for each thing as HTML, of the first ones where there are very many; escaped as `facts_table`."""
    style = ' style="text-align:left"'
    head = "".join(f"<th{style}>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td{style}>{_cell(value)}</td>' for value in row)}</tr>" for row in rows[:ROWS_MAX])
    more = f"<div>and {len(rows) - ROWS_MAX:,} more</div>" if len(rows) > ROWS_MAX else ""
    return f"<div><strong>{escape(title)}</strong><table><tr>{head}</tr>{body}</table>{more or ('' if rows else 'none')}</div>"


def size_text(size: float) -> str:
    """Return a number of bytes in words: `812 bytes`, `37.1 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


class NotebookBar:
    """A progress bar as plain HTML: a saved notebook shows how it ended, and no widgets have to be installed."""

    def __init__(self, total: int | None, description: str) -> None:
        display: Any = import_module("IPython.display")
        self._total = total
        self._description = description
        self._done = 0
        self._began = self._drawn = time.monotonic()
        self._html = display.HTML
        self._handle: Any = display.display(display.HTML(self._text(ended=False)), display_id=True)

    def update(self, items: int) -> None:
        """So many more items are done."""
        self._done += items
        now = time.monotonic()
        if now >= self._drawn + DRAW_SECONDS:
            self._drawn = now
            self._draw(ended=False)

    def close(self) -> None:
        """Draw how it ended."""
        self._draw(ended=True)

    def _draw(self, *, ended: bool) -> None:
        if self._handle is not None:
            self._handle.update(self._html(self._text(ended=ended)))

    def _text(self, *, ended: bool) -> str:
        total = self._total
        value = (
            ""
            if total is None and not ended
            else f' value="{self._done}" max="{self._done if total is None else total}"'
        )
        counted = f"{self._done:,} items" if total is None else f"{self._done:,} of {total:,} items"
        stopped = " (ended early)" if ended and total is not None and self._done < total else ""
        label = f"{escape(self._description)} " if self._description else ""
        seconds = time.monotonic() - self._began
        return f"<div>{label}<progress{value}></progress> {counted}, {seconds:.1f} s{stopped}</div>"


def framed(url: str | None, width: int | str, height: int | str) -> Any:
    """Return the pages at `url` as a frame. Raises ValueError where no pages are known, ImportError without IPython."""
    if url is None:
        raise ValueError(
            "no dashboard is known: use SchedulerClusterCombo(dashboard=True), or start scaler_ui and tell the scheduler where "
            "it is with --dashboard-url"
        )
    try:
        display: Any = import_module("IPython.display")
    except ImportError:
        raise ImportError(
            f"dashboard() shows a frame in a notebook, which needs IPython; a browser shows {url}"
        ) from None
    return display.IFrame(url, width=width, height=height)


def _cell(value: object) -> str:
    text = escape(_short(value))
    is_link = isinstance(value, str) and value.startswith(("http://", "https://")) and text == escape(value)
    return f'<a href="{text}" target="_blank" rel="noopener">{text}</a>' if is_link else text


def _short(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[: _TEXT_CHARACTERS_MAX - 1] + "…"
