"""Text that UTF-8 can hold. Python's text may have lone surrogates, from names of files or from users, and UTF-8 has none."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any


def writable(text: str) -> str:
    """Return `text` with a question mark for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()


def with_writable_text(value: Any) -> Any:
    """Return a message, or a part of one, with every text in it writable."""
    if isinstance(value, str):
        return writable(value)
    if type(value) is tuple or type(value) is list:
        return type(value)(map(with_writable_text, value))
    if is_dataclass(value) and not isinstance(value, type):
        texts = {f.name: with_writable_text(getattr(value, f.name)) for f in fields(value) if f.init}
        return replace(value, **texts)
    return value
