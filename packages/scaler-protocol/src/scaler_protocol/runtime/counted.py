"""Counts in sentences: the noun agrees with its number."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 worker`, `2 workers`, `1,000 workers`. `plural`: of a noun that takes more than an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
