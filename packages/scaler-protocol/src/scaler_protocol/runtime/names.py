"""Names of functions, values and types for people. Never raises; returns short text that can be encoded."""

from __future__ import annotations

import os
from typing import Any

from scaler_protocol.wire.text import writable

NAME_CHARACTERS_MAX = 200
_SHOWN_MAX = 100


def name_of(function: Any) -> str:
    """Return `module.qualname` of a callable."""
    name = _text(function, "__qualname__") or _text(function, "__name__") or _type_name(type(function))
    module = _text(function, "__module__") or _text(type(function), "__module__") or "?"
    return _bounded(f"{module}.{name}", NAME_CHARACTERS_MAX)


def default_client_name(hostname: str, pid: int) -> str:
    """Return the name of a client that was given none."""
    return f"client|{hostname}|{pid}"


def user_name() -> str:
    """Return who runs this process, as the system names them; empty where it has no name for them."""
    try:
        import pwd

        return writable(pwd.getpwuid(os.geteuid()).pw_name)
    except (ImportError, KeyError):
        # On Windows, and in containers whose user has only a number.
        return writable(os.environ.get("USERNAME", ""))


def shown_type(value: Any) -> str:
    """Return `module.qualname` of a value's type; without the module if that is `builtins`."""
    kind = type(value)
    module = _text(kind, "__module__")
    name = _type_name(kind)
    return _bounded(name if module in ("", "builtins") else f"{module}.{name}", NAME_CHARACTERS_MAX)


def shown(value: Any) -> str:
    """Return a short `repr`."""
    try:
        return _bounded(repr(value), _SHOWN_MAX)
    except Exception:
        return f"<{shown_type(value)}>"


def shown_error(error: BaseException) -> str:
    """Return the text of an error."""
    try:
        return writable(str(error)) or type(error).__name__
    except Exception:
        return f"{type(error).__name__}, which cannot be printed"


def _text(owner: Any, attribute: str) -> str:
    # Attributes of users' objects may be anything, and reading them may raise anything.
    try:
        value = getattr(owner, attribute, None)
    except Exception:
        return ""
    return str(value) if isinstance(value, str) else ""


def _type_name(kind: type) -> str:
    return _text(kind, "__qualname__") or type.__dict__["__qualname__"].__get__(kind)


def _bounded(text: str, limit: int) -> str:
    return writable(text if len(text) <= limit else f"{text[: limit - 1]}…")
