"""How clients and futures look in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_TEXT_CHARACTERS_MAX = 300


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """Return a small table as HTML; names and values are escaped, empty values left out, long ones cut."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{_cell(value)}</td></tr>'
        for name, value in facts.items()
        if value != ""
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def _cell(value: object) -> str:
    text = escape(_short(value))
    is_link = isinstance(value, str) and value.startswith(("http://", "https://")) and text == escape(value)
    return f'<a href="{text}" target="_blank" rel="noopener">{text}</a>' if is_link else text


def _short(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[: _TEXT_CHARACTERS_MAX - 1] + "…"
