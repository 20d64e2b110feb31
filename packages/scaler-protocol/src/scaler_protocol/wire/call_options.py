"""What a call may ask for beside its function and arguments, as one immutable record: `options` of `TaskBatch` and `GraphSubmit`.

A batch has each different record once, so a million tasks with one label carry it once per message, and tasks without options
carry nothing. A further option is a field here, with its check in `_checked` and its key in the schema's comment.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import inf, isfinite
from operator import index
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scaler_protocol.runtime.names import shown, shown_type

if TYPE_CHECKING:
    # Programs import this module with `scaler`, and few of them need what is imported late here.
    from scaler_protocol.runtime.resources import Amounts

LABEL_CHARACTERS_MAX = 100
TAGS_MAX = 20
TAG_NAME_CHARACTERS_MAX = 100
TAG_VALUE_CHARACTERS_MAX = 200

NAME_CHARACTERS_MAX = 300
"""Longest name of a worker or a host that a task can be sent to."""
JOB_NAME_CHARACTERS_MAX = 100

RETRIES_MAX = 1000
RETRY_EXCEPTIONS_MAX = 20
EXCEPTION_NAME_CHARACTERS_MAX = 200
SECONDS_MAX = 366 * 86400.0
BACKOFF_MAX = 1000.0
PRIORITY_MAX = 1_000_000

TIMEOUT_NAMES = (
    "scaler.errors.TaskTimeoutError",
    "scaler.errors.ScalerError",
    "builtins.TimeoutError",
    "builtins.OSError",
    "builtins.Exception",
    "builtins.BaseException",
    "builtins.object",
)
"""The full names of the error of a task that ran too long, and of its bases."""

RECORD_BYTES_MAX = 48 * 1024
"""More than any record takes."""

_REMEMBERED = 256
_REMEMBERED_BYTES_MAX = 1024


class Retries(NamedTuple):
    """How often, after which errors and when a task runs again that has failed.

    The first attempt is not counted: with `times=3` a task runs four times at most.
    """

    times: int
    """How often it runs again, at most."""
    on: Any = (Exception,)
    """An exception class or several: after these, and those derived from them. In the options of a call: their full names."""
    wait_seconds: float = 0.0
    """How long it waits before it runs for the second time. It waits at the scheduler, so that no worker is held."""
    backoff: float = 2.0
    """Each further wait is so many times longer."""
    wait_max_seconds: float = 60.0
    """But not longer than this."""

    def wait_before(self, retry: int) -> float:
        """Return how many seconds to wait before a retry, counted from 1."""
        wait = self.wait_seconds
        for _ in range(retry - 1 if wait else 0):
            wait *= self.backoff
            if wait >= self.wait_max_seconds or self.backoff == 1.0:
                break
        return min(wait, self.wait_max_seconds)

    def covers(self, names: Sequence[str]) -> bool:
        """Whether a task runs again after an exception whose class and bases have these full names."""
        return not set(self.on).isdisjoint(names)


class Prefer(NamedTuple):
    """A host that tasks go to while it takes tasks; otherwise they go elsewhere."""

    name: str
    """The name of the host."""


class CallOptions(NamedTuple):
    """The options of a call."""

    label: str = ""
    """What the work is called; empty: nothing."""
    tags: tuple[tuple[str, str], ...] = ()
    """Names with values, in the order of names."""
    retries: Retries | None = None
    """When a task that has failed runs again; None: never. `on` has full names."""
    timeout_seconds: float = 0.0
    """How long one attempt may run; 0: no limit."""
    deadline_seconds: float = 0.0
    """How long after it was submitted the task ends, whatever it does then; 0: no limit."""
    priority: int = 0
    """Tasks of higher priority go before others of the same client and depth."""
    idempotent: bool = True
    """Whether the task may run twice. If not, it ends with an error where it may have begun and its worker is lost."""
    worker: str = ""
    """The name of the only worker that may run it; empty: any."""
    host: str | Prefer = ""
    """The name of the only host that may run it, or of one that it prefers; empty: any."""
    detached: bool = False
    """Whether the task belongs to a job, and goes on when its client has gone."""
    name: str = ""
    """The name of that job."""
    resources: Amounts = ()
    """Counted resources that a task needs while it runs."""

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
        options = self._replace(**values)
        if options.retries is not None and not options.idempotent:
            raise ValueError("retries: a task with idempotent=False never runs twice, so it cannot have any")
        if options.detached and not options.name:
            raise ValueError("detached: such a task belongs to a job, which needs a name, as in name='overnight'")
        if options.name and not options.detached:
            raise ValueError("name: only a task with detached=True belongs to a job")
        return options

    @property
    def given(self) -> dict[str, Any]:
        """What `with_given` makes these options of."""
        given = {name: value for name, value in self._asdict().items() if value != getattr(NO_OPTIONS, name)}
        if self.tags:
            given["tags"] = dict(self.tags)
        if self.resources:
            from scaler_protocol.runtime.resources import format_amounts

            given["resources"] = format_amounts(self.resources)
        return given

    @property
    def asks(self) -> CallOptions | None:
        """These options without what is only for people, `affinity`, and the job; None where nothing is left."""
        asks = self._replace(label="", tags=(), worker="", host="", detached=False, name="")
        return None if asks == NO_OPTIONS else asks

    @property
    def affinity(self) -> tuple[tuple[str, int], ...]:
        """The worker and the host in the form of capabilities, as the scheduler keeps them."""
        from scaler_protocol.capabilities import affinity_to

        if isinstance(self.host, Prefer):
            return affinity_to(self.worker, preferred_host=self.host.name)
        return affinity_to(self.worker, self.host)

    @property
    def for_agents(self) -> bytes:
        """The `options` of a batch that goes to an agent, all rows of which ask for this; empty for nothing."""
        others = self._replace(label="", tags=(), deadline_seconds=0.0, worker="", host="", detached=False, name="")
        return join_records((encode_record(others),))

    @property
    def is_per_item(self) -> bool:
        """Whether each item of a map needs a task of its own, as what is asked for concerns single calls."""
        return self.retries is not None or self.timeout_seconds > 0.0 or not self.idempotent


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


def _as_retries(value: Any) -> Retries | None:
    if isinstance(value, Mapping):
        # From a record.
        try:
            value = Retries(**value)
        except TypeError:
            raise TypeError(f"retries has fields that Retries has not: {shown(value)}") from None
    retries = value if isinstance(value, Retries) else Retries(value)
    times = _as_int("retries", retries.times, 0, RETRIES_MAX)
    on = retries.on if isinstance(retries.on, tuple | list | set | frozenset) else (retries.on,)
    if not on or len(on) > RETRY_EXCEPTIONS_MAX:
        raise ValueError(f"retries: `on` needs 1 to {RETRY_EXCEPTIONS_MAX} exception classes, not {len(on)}")
    names = [_as_exception_name(one) for one in on]
    if isinstance(on, set | frozenset):
        names.sort()
    wait = _as_seconds("retries: wait_seconds", retries.wait_seconds)
    wait_max = _as_number("retries: wait_max_seconds", retries.wait_max_seconds)
    wait_max = SECONDS_MAX if wait_max == inf else _as_seconds("retries: wait_max_seconds", wait_max)
    backoff = _as_number("retries: backoff", retries.backoff)
    if not 1.0 <= backoff <= BACKOFF_MAX:
        raise ValueError(f"retries: backoff must be from 1 to {BACKOFF_MAX:g}, not {backoff:g}")
    return Retries(times, tuple(names), wait, backoff, wait_max) if times else None


def _as_exception_name(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, BaseException):
        name = exception_name(value)
    elif isinstance(value, str):
        name = _full_name(value)
    else:
        raise TypeError(f"retries: `on` needs exception classes, not {shown(value)}")
    return _one_line("retries: the name of an exception", name, EXCEPTION_NAME_CHARACTERS_MAX)


def _full_name(text: str) -> str:
    """Return the full name of an exception class that is named as programs do: what is built in has no module there."""
    module, _, name = text.rpartition(".")
    if module == "scaler":
        return f"scaler.errors.{name}"
    if not module:
        found = getattr(builtins, text, None)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            raise ValueError(
                f"retries: `on` needs full names, such as 'package.module.Error'; {shown(text)} is not built in"
            )
        return exception_name(found)
    return text


def exception_name(kind: type) -> str:
    """Return the full name of an exception class, by which it is known where a task runs."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _as_limit_of(what: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        seconds = _as_number(what, value)
        if seconds == inf:
            return 0.0
        if not seconds > 0.0:
            raise ValueError(f"{what} must be more than 0, not {seconds:g}; inf: no limit")
        return _as_seconds(what, seconds)

    return check


def _as_seconds(what: str, value: Any) -> float:
    seconds = _as_number(what, value)
    if not 0.0 <= seconds <= SECONDS_MAX:
        raise ValueError(f"{what} must be from 0 to {SECONDS_MAX:g} seconds, not {seconds:g}")
    return seconds


def _as_number(what: str, value: Any) -> float:
    # numpy's numbers are no floats, but have this method; so have its truth values.
    if isinstance(value, str) or type(value).__name__ in ("bool", "bool_") or not hasattr(type(value), "__float__"):
        raise TypeError(f"{what} must be a number, not {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what} is too large: {shown(value)}") from None
    except Exception:
        raise TypeError(f"{what} must be a number, not {shown(value)}") from None
    if not isfinite(number) and number != inf:
        raise ValueError(f"{what} must be a number, not {number}")
    return number


def _as_int(what: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{what} must be an int, not {shown(value)}")
    try:
        number = int(index(value))
    except TypeError:
        raise TypeError(f"{what} must be an int, not {shown(value)}") from None
    if not least <= number <= most:
        raise ValueError(f"{what} must be from {least} to {most}, not {shown(number)}")
    return number


def _as_priority(value: Any) -> int:
    return _as_int("priority", value, -PRIORITY_MAX, PRIORITY_MAX)


def _as_idempotent(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"idempotent must be True or False, not {shown(value)}")
    return value


def _as_worker(value: Any) -> str:
    if isinstance(value, Prefer):
        raise TypeError("worker takes a name; a task can prefer a host, not a worker")
    return _as_name("worker", value)


def _as_host(value: Any) -> str | Prefer:
    if isinstance(value, list) and len(value) == 1:
        # From a record.
        value = Prefer(*value)
    if isinstance(value, Prefer):
        return Prefer(_as_name("host: Prefer", value.name))
    return _as_name("host", value)


def _as_name(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a name, not {shown(value)}")
    return _one_line(what, value, NAME_CHARACTERS_MAX)


def _as_detached(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"detached must be True or False, not {shown(value)}")
    return value


def job_name(value: Any) -> str:
    """Return the name of a job. Raises TypeError or ValueError for what is none."""
    if not isinstance(value, str):
        raise TypeError(f"name must be a str, not {shown(value)}")
    return _one_line("name", value, JOB_NAME_CHARACTERS_MAX)


def _as_resources(value: Any) -> Amounts:
    from scaler_protocol.runtime.resources import GPU, ONE, format_amount, parse_amounts

    if not isinstance(value, Mapping | str):
        raise TypeError(f"resources must map names to amounts, as in {{'gpu': 1, 'mem': '8GiB'}}, not {shown(value)}")
    amounts = parse_amounts(value)
    devices = dict(amounts).get(GPU, 0)
    if devices > ONE and devices % ONE:
        raise ValueError(
            f"resources: gpu is {format_amount(GPU, devices)}; above 1 it must be a whole number of devices"
        )
    return amounts


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "label": _as_label,
    "tags": _as_tags,
    "retries": _as_retries,
    "timeout_seconds": _as_limit_of("timeout_seconds"),
    "deadline_seconds": _as_limit_of("deadline_seconds"),
    "priority": _as_priority,
    "idempotent": _as_idempotent,
    "worker": _as_worker,
    "host": _as_host,
    "detached": _as_detached,
    "name": job_name,
    "resources": _as_resources,
}


@lru_cache(maxsize=_REMEMBERED)
def encode_record(options: CallOptions) -> bytes:
    """Return a record as bytes; empty for no options."""
    if options == NO_OPTIONS:
        return b""
    # Not with this module, which every client imports.
    import json

    record = options.given
    if options.retries is not None:
        record["retries"] = options.retries._asdict()
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def urgency_of(record: bytes) -> int:
    """Return 1 if a record of `encode_record` has a priority above 0, -1 if it has one below, and 0 without."""
    # Most have none, and then there is nothing to read.
    priority = read_records(join_records((record,)))[0][0].priority if b'"priority"' in record else 0
    return (priority > 0) - (priority < 0)


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


def asked_of(options: bytes) -> CallOptions:
    """Return what the rows of a batch to an agent ask for. Raises ValueError for anything but what `for_agents` returns."""
    return read_records(options)[0][0] if options else NO_OPTIONS


def tags_text(options: CallOptions) -> str:
    """Return the tags for people, as in "desk=rates,run=17"."""
    return ",".join(f"{name}={value}" for name, value in options.tags)
