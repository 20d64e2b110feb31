"""The TOML file of settings, with a section for each command. People write it, so names may be misspelt."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from scaler_protocol.runtime.values import value as value_class
from scaler_protocol.service.errors import ConfigurationError

KNOWN_SECTIONS = frozenset(
    {
        "scheduler",
        "cluster",
        "object_storage_server",
        "webui",
        "top",
        "trace",
        "dump",
        "native_worker_adapter",
        "symphony_worker_adapter",
        "slurm_worker_adapter",
        "ecs_worker_adapter",
    }
)
"""Sections that some command of Scaler reads."""

ADAPTER_SUFFIX = "_worker_adapter"
"""The end of the names of all worker adapters' sections."""

SIMILAR = 0.7
"""Names at least this similar count as misspelt; 1 means equal."""


@value_class
class Suspicion:
    """Settings that nobody reads although they were probably meant for a section."""

    line: str
    """What is wrong, and where."""

    lost: frozenset[str]
    """Which settings."""


def read_document(path: Path) -> dict[str, Any]:
    """Return the content of the file. Raises ConfigurationError with one line if it cannot be read."""
    try:
        # Some editors put a byte-order mark first, which TOML does not know.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: it is not UTF-8: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is not valid TOML: it is nested too deeply") from None


def section_of(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return a section, empty if it is missing. Raises ConfigurationError for a value that is no section."""
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(f"{path}: {name!r} is not a section; write [{name}]")
    return section


def suspicions(document: Mapping[str, Any], name: str, keys: Collection[str], path: Path) -> Iterator[Suspicion]:
    """Yield each place with settings that were probably meant for section `name` (with `keys`) and are not in it."""
    for other, value in document.items():
        if not isinstance(value, dict) and not _is_list_of_tables(value):
            if other in keys:
                line = f"{path}: {other!r} stands outside of all sections and is ignored; put it under [{name}]"
                yield Suspicion(line, frozenset({other}))
        elif other not in KNOWN_SECTIONS and nearest(other, KNOWN_SECTIONS) == name and not _is_of_other_adapter(other):
            lost = value if isinstance(value, dict) else frozenset(key for table in value for key in table)
            yield Suspicion(f"{path}: nobody reads the section [{other}]; did you mean [{name}]?", frozenset(lost))


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that this one is probably misspelt from; None if none is similar."""
    by_form = {_form(each): each for each in known}
    found = difflib.get_close_matches(_form(name), by_form, 1, SIMILAR)
    return by_form[found[0]] if found else None


def hint(name: str, known: Collection[str]) -> str:
    """Return "did you mean …?" for the end of an error about an unknown name, or empty text."""
    similar = nearest(name, known)
    return f"; did you mean {similar!r}?" if similar is not None else ""


def _form(name: str) -> str:
    """Return a name in lower case with one kind of separator, for comparing spellings."""
    return name.casefold().replace("-", "_")


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _is_of_other_adapter(section: str) -> bool:
    """Whether a section belongs to an installed worker adapter of another package."""
    if not section.endswith(ADAPTER_SUFFIX):
        return False
    from importlib.metadata import entry_points

    names = {entry.name for entry in entry_points(group="scaler.worker_adapters")}
    return section.removesuffix(ADAPTER_SUFFIX) in names
