"""Repairs the text in messages. Apart from `text`, which `import scaler` needs: records of messages bring `dataclasses`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from scaler_protocol.wire.text import writable


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
