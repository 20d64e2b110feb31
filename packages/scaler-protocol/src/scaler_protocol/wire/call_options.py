"""What a call may ask for beside its function and arguments, as one immutable record: `options` of `TaskBatch` and `GraphSubmit`.

A batch has each different record once, so a million tasks with one label carry it once per message, and tasks without options
carry nothing. A further option is a field here, with its check in `_checked` and its key in the schema's comment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from scaler_protocol.runtime.names import shown, shown_type

LABEL_CHARACTERS_MAX = 100
TAGS_MAX = 20
TAG_NAME_CHARACTERS_MAX = 100
TAG_VALUE_CHARACTERS_MAX = 200

RECORD_BYTES_MAX = 32 * 1024
"""More than any record takes."""

_REMEMBERED = 256
_REMEMBERED_BYTES_MAX = 1024


class CallOptions(NamedTuple):
    """The options of a call."""

    label: str = ""
    """What the work is called; empty: nothing."""
    tags: tuple[tuple[str, str], ...] = ()
    """Names with values, in the order of names."""

    def with_given(self, given: Mapping[str, Any], call: str, keywords: tuple[str, ...] = ()) -> CallOptions:
        """Return these options with others in place of them; None leaves one as it is, tags are joined by name.

        Raises TypeError for an option that does not exist and for values of the wrong type, ValueError for other values that
        are impossible; each error names the option, and the first one `call`, with its own `keywords` beside the options.
        """
        unknown = given.keys() - set(self._fields)
        if unknown:
            there_are = ", ".join((*keywords, *self._fields))
            raise TypeError(f"{call}() has no option {', '.join(sorted(unknown))}; the options are {there_are}")
        values = {name: _CHECKS[name](value) for name, value in given.items() if value is not None}
        if "tags" in values:
            values["tags"] = _as_tags({**dict(self.tags), **dict(values["tags"])})
        return self._replace(**values)


NO_OPTIONS: Final = CallOptions()


def _as_label(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"label must be a str, not {shown(value)}")
    return _one_line("label", value, LABEL_CHARACTERS_MAX)


def _as_tags(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise TypeError(f"tags must map names to values, as in {{'desk': 'rates'}}, not {shown(value)}")
    if len(value) > TAGS_MAX:
        raise ValueError(f"tags has {len(value)} entries; a task can have {TAGS_MAX} at most")
    for name, text in value.items():
        if not isinstance(name, str):
            raise TypeError(f"tags: the name {shown(name)} is a {shown_type(name)}, not a str")
        if not isinstance(text, str):
            raise TypeError(f"tags: the value of {shown(name)} is a {shown_type(text)}, not a str")
        _one_line("tags: the name", name, TAG_NAME_CHARACTERS_MAX)
        if text:
            _one_line(f"tags: the value of {shown(name)}:", text, TAG_VALUE_CHARACTERS_MAX)
    return tuple(sorted((str(name), str(text)) for name, text in value.items()))


def _one_line(what: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise ValueError(f"{what} {shown(text)} has more than {limit} characters")
    if not text.isprintable() or not text.strip():
        raise ValueError(f"{what} {shown(text)} is not one line of printable characters")
    return str(text)


_CHECKS: dict[str, Callable[[Any], Any]] = {"label": _as_label, "tags": _as_tags}


@lru_cache(maxsize=_REMEMBERED)
def encode_record(options: CallOptions) -> bytes:
    """Return a record as bytes; empty for no options."""
    if options == NO_OPTIONS:
        return b""
    # Not with this module, which every client imports.
    import json

    record = {name: dict(value) if name == "tags" else value for name, value in options._asdict().items() if value}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def join_records(rows: Sequence[bytes]) -> bytes:
    """Return the `options` of a batch whose rows have these records; empty where none has any."""
    places: dict[bytes, int] = {}
    numbers = [places.setdefault(record, len(places)) for record in rows]
    if not any(places):
        return b""
    records = b",".join(record or b"{}" for record in places)
    if len(places) == 1:
        return b'{"records":[%b]}' % records
    return b'{"records":[%b],"rows":[%b]}' % (records, b",".join(b"%d" % number for number in numbers))


def read_records(options: bytes) -> tuple[Sequence[CallOptions], Sequence[int]]:
    """Return the records of a batch, and for each row its record's place; no places where all rows have the first record.

    Raises ValueError for anything but what `join_records` returns, whatever the bytes are.
    """
    return _read_again(options) if len(options) <= _REMEMBERED_BYTES_MAX else _read(options)


def _read(options: bytes) -> tuple[Sequence[CallOptions], Sequence[int]]:
    import json

    try:
        data = json.loads(options)
        records = [NO_OPTIONS.with_given(record, "a record") for record in data["records"]]
        rows = data.get("rows", [])
    except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError(f"options of tasks that cannot be read: {shown(error)}") from None
    if not records or not isinstance(rows, list):
        raise ValueError("options of tasks without a record")
    if any(type(row) is not int or not 0 <= row < len(records) for row in rows):
        raise ValueError("options of tasks name a record that is not there")
    return records, rows


# Most messages of a client have the same options.
_read_again = lru_cache(maxsize=_REMEMBERED)(_read)


def tags_text(options: CallOptions) -> str:
    """Return the tags for people, as in "desk=rates,run=17"."""
    return ",".join(f"{name}={value}" for name, value in options.tags)
