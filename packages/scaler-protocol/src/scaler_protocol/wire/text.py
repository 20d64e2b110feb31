"""Text that UTF-8 can hold. Python's text may have lone surrogates, from names of files or from users, and UTF-8 has none."""

from __future__ import annotations


def writable(text: str) -> str:
    """Return `text` with a question mark for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()
