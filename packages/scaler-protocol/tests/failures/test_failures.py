"""What a task raised is what arrives: compared field by field, for ordinary, peculiar and hostile exceptions."""

from __future__ import annotations

import gc
import importlib
import linecache
import pickle
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

import hypothesis
import hypothesis.strategies as st
import pytest

from scaler_protocol.failures import (
    TEXT_MAX,
    StandIn,
    failure_payload,
    load_exception,
    named_failure_payload,
    named_text_of,
    result_error,
    text_of,
)
from scaler_protocol.failures.facts import (
    args_of,
    attributes_of,
    cause_of,
    context_of,
    members_of_group,
    suppresses_context,
    traceback_of,
)
from scaler_protocol.failures.simple import SIMPLE
from scaler_protocol.failures.texts import LINES_MAX, full_text
from scaler_protocol.payloads.framing import Failure

raising = importlib.import_module("packages.scaler-protocol.tests.failures.raising")

Raiser = Callable[[], object]


class Described(Exception):
    """What these tests make of an exception that cannot be restored."""

    def __init__(self, known: StandIn) -> None:
        super().__init__(known.type_name)
        self.known = known


def caught(raiser: Raiser) -> BaseException:
    try:
        raiser()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def read(payload: bytes) -> Failure:
    return Failure(*pickle.loads(payload[1:]))


def sent(error: BaseException) -> tuple[Failure, BaseException]:
    """Return the failure, and the exception made of it."""
    failure = read(failure_payload(error))
    return failure, load_exception(failure.pickled, Described)


def chain_of(error: BaseException | None, depth: int = 0, seen: tuple[int, ...] = ()) -> Any:
    """Return everything that can be said about an exception, as plain values."""
    if error is None or depth > 60:
        return None
    if id(error) in seen:
        return ("seen", len(seen) - seen.index(id(error)))
    seen = (*seen, id(error))
    return (
        type(error),
        text_of(error),
        repr_of(args_of(error)),
        {name: repr_of(value) for name, value in attributes_of(error).items()},
        suppresses_context(error),
        chain_of(cause_of(error), depth + 1, seen),
        chain_of(context_of(error), depth + 1, seen),
        [chain_of(member, depth + 1, seen) for member in members_of_group(error) or ()],
        [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(traceback_of(error))],
    )


def repr_of(value: object) -> str:
    if isinstance(value, TracebackType):
        return "traceback"
    try:
        return repr(value) if "object at" not in repr(value) else type(value).__name__
    except Exception as error:
        return f"raises {type(error)}"


@pytest.mark.parametrize("name", raising.RESTORED)
def test_an_exception_arrives_as_it_was(name: str) -> None:
    error = caught(raising.RESTORED[name])
    failure, copy = sent(error)
    assert chain_of(copy) == chain_of(error)
    assert failure.traceback_text == full_text(error, text_of(error))
    # And once more, as what a nested task raised goes through its parent.
    assert chain_of(sent(copy)[1]) == chain_of(error)


@pytest.mark.parametrize("name", raising.RESTORED)
def test_an_exception_arrives_as_it_was_where_it_must_be_proved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most are simple, and are not tried: the way of the others must do for them as well."""
    monkeypatch.setattr("scaler_protocol.failures.transport.dump_simple", lambda *_: None)
    error = caught(raising.RESTORED[name])
    assert chain_of(sent(error)[1]) == chain_of(error)


def _noted(error: BaseException, notes: list[str]) -> BaseException:
    for note in notes:
        error.add_note(note)
    return error


class OwnSlots(LookupError):
    __slots__ = ("place",)


class OwnText(ValueError):
    def __str__(self) -> str:
        return f"own {self.args}"


class OwnState(ValueError):
    def __reduce__(self) -> Any:
        return OwnState, (1,)


def _with_cause(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    error.__context__ = cause
    return error


def _of(error: BaseException, **attributes: object) -> BaseException:
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("is_simple", "error"),
    [
        (True, _of(raising.Plain("own", 5), number=5)),
        (True, _of(OwnSlots("slots"), place="here")),
        (True, _noted(KeyError("noted"), ["one", "two"])),
        (True, _with_cause(RuntimeError("caused"), raising.Plain("by", 1))),
        (True, _with_cause(raising.Plain("a", 1), _with_cause(ValueError("b"), OSError(2, "c")))),
        (False, _of(raising.Plain("own", 5), number=[5])),
        (False, _of(OwnSlots("slots"), place=object)),
        (False, OwnText("x")),
        (False, OwnState("x")),
        (False, _with_cause(RuntimeError("caused"), OwnText("x"))),
        (False, ExceptionGroup("group", [ValueError(1)])),
        (False, OSError(None, None)),
    ],
    ids=str,
)
def test_which_exceptions_need_no_proof(is_simple: bool, error: BaseException) -> None:
    failure, copy = sent(error)
    assert (failure.pickled[:1] == SIMPLE) is is_simple
    assert chain_of(copy) == chain_of(error)
    assert getattr(copy, "place", None) == getattr(error, "place", None)


@pytest.mark.parametrize("name", raising.RESTORED)
def test_the_text_is_the_interpreters(name: str) -> None:
    error = caught(raising.RESTORED[name])
    if name in ("wide group", "raises in comparison", "raises in str", "text of its own kind"):
        pytest.skip("the standard library raises, or shows less")
    assert full_text(error, text_of(error)) == "".join(traceback.format_exception(error))


@pytest.mark.parametrize("name", raising.DESCRIBED)
def test_what_cannot_be_pickled_is_described(name: str) -> None:
    error = caught(raising.DESCRIBED[name])
    failure, copy = sent(error)
    assert isinstance(copy, Described)
    known = copy.known
    assert known.type_name == failure.type_name == f"{type(error).__module__}.{type(error).__qualname__}"
    assert known.text == str(error)
    assert known.arguments_text == repr(error.args)
    assert "cannot pickle" in known.reason
    assert known.traceback_text == failure.traceback_text
    assert "raising.py" in known.traceback_text


@pytest.mark.parametrize("name", {**raising.RESTORED, **raising.DESCRIBED, **raising.HOSTILE})
def test_nothing_raises_on_the_road(name: str) -> None:
    error = caught({**raising.RESTORED, **raising.DESCRIBED, **raising.HOSTILE}[name])
    failure, copy = sent(error)
    kind: Any = type.__dict__["__qualname__"].__get__(type(error))
    assert failure.type_name.endswith(kind)
    assert isinstance(failure.text, str)
    assert kind in failure.traceback_text
    assert isinstance(named_text_of(error), str)
    assert type(copy) is type(error) or type(copy) is Described


def test_a_cause_that_cannot_be_pickled_spoils_nothing_else() -> None:
    error = caught(raising.HOSTILE["lock in the cause"])
    _, copy = sent(error)
    assert type(copy) is raising.Plain
    assert isinstance(copy.__cause__, Described)
    assert copy.__cause__.known.text == "5: with a lock"
    assert copy.__traceback__ is not None

    member = raising.RequiredArguments(1, "fine")
    member.__dict__["lock"] = threading.Lock()
    group = ExceptionGroup("group", [ValueError(1), member])
    _, copy = sent(group)
    assert isinstance(copy, ExceptionGroup)
    assert [type(member) for member in copy.exceptions] == [ValueError, Described]


def test_a_long_chain_is_cut_where_nobody_reads_it() -> None:
    began = time.monotonic()
    failure, copy = sent(caught(raising.HOSTILE["long chain"]))
    assert copy.args == (1999,)
    depth = 0
    while (cause := copy.__cause__) is not None:
        copy, depth = cause, depth + 1
    assert 100 < depth < 1000
    assert len(failure.traceback_text) < LINES_MAX * 2
    assert time.monotonic() - began < 5


def test_large_exceptions_have_short_texts() -> None:
    large = b"\xff" * (30 * 1024 * 1024)
    for error in (ValueError(large), ValueError("x" * len(large)), raising.Plain("a", [large]), KeyError(large)):
        began = time.monotonic()
        failure, copy = sent(error)
        assert time.monotonic() - began < 5
        assert len(failure.text) <= 1.1 * TEXT_MAX
        assert len(failure.traceback_text) <= 1.1 * LINES_MAX
        assert copy.args == error.args


def test_text_of_many_notes_is_bounded() -> None:
    error = ValueError("noted")
    for _ in range(1000):
        error.add_note("n" * 10_000)
    failure, copy = sent(error)
    assert len(failure.traceback_text) <= 1.1 * LINES_MAX
    assert failure.traceback_text.startswith("ValueError: noted")
    assert copy.__notes__ == error.__notes__


def test_what_runs_user_code_may_stop_it() -> None:
    class Stop(BaseException):
        pass

    calls = []

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(function)
        raise Stop

    failure = read(failure_payload(caught(lambda: (_ for _ in ()).throw(raising.SleepsInStr("s"))), run))
    assert calls
    assert failure.type_name.endswith("SleepsInStr")
    assert "Stop" in failure.text
    copy = load_exception(failure.pickled, Described)
    assert isinstance(copy, Described)


def test_leading_frames_are_left_out() -> None:
    def outer() -> NoReturn:
        inner()

    def inner() -> NoReturn:
        raise ValueError("x")

    error = caught(outer)
    failure = read(failure_payload(error, is_own_code=lambda code: code.co_name == "caught"))
    assert "in caught" not in failure.traceback_text
    copy = load_exception(failure.pickled)
    assert [frame.name for frame in traceback.extract_tb(copy.__traceback__)] == ["outer", "inner"]
    # The exception itself is left as it was: it may be frozen, or be looked at by whoever holds it.
    assert "caught" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_lines_of_files_that_exist_elsewhere_only() -> None:
    name = "/somewhere/else/module.py"
    linecache.cache[name] = (20, None, ["def far() -> None:\n", "    raise KeyError('far')  # here\n"], name)
    scope: dict[str, Any] = {}
    exec(compile("".join(linecache.getlines(name)), name, "exec"), scope)
    failure = read(failure_payload(caught(scope["far"])))
    del linecache.cache[name]
    assert "raise KeyError('far')  # here" in failure.traceback_text
    copy = load_exception(failure.pickled)
    assert "raise KeyError('far')  # here" in "".join(traceback.format_exception(copy))
    linecache.cache.pop(name, None)


def test_a_class_that_is_another_one_where_it_arrives() -> None:
    payload = read(failure_payload(raising.OwnReduce(3))).pickled
    with pytest.raises(AttributeError):
        load_exception(payload.replace(b"OwnReduce", b"NoSuchOne"))


def test_errors_of_ours_travel_by_name() -> None:
    failure = read(named_failure_payload("MissingObjects", "object 12 is not there", ValueError("why")))
    assert failure[:3] == (b"", "MissingObjects", "object 12 is not there")
    assert "ValueError: why" in failure.traceback_text


def test_results_that_cannot_be_pickled() -> None:
    error = result_error(threading.Lock(), raising.RaisesInStr())
    assert "_thread.lock" in str(error)
    assert "RaisesInStr" in str(error)


def _linked(error: BaseException, name: str, other: BaseException) -> BaseException:
    setattr(error, name, other)
    return error


exceptions = st.recursive(
    st.builds(
        lambda kind, args: kind(*args),
        st.sampled_from([ValueError, KeyError, OSError, raising.Plain, SystemExit, RuntimeError, ImportError]),
        st.lists(st.one_of(st.integers(), st.text(), st.binary(), st.none(), st.floats(allow_nan=False)), max_size=3),
    ),
    lambda inner: st.one_of(
        st.builds(lambda e, c: _linked(e, "__cause__", c), inner, inner),
        st.builds(lambda e, c: _linked(e, "__context__", c), inner, inner),
        st.builds(
            lambda text, members: BaseExceptionGroup(text, members), st.text(), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(_noted, inner, st.lists(st.text(), max_size=2)),
    ),
    max_leaves=8,
)


@hypothesis.given(exceptions)
@hypothesis.settings(max_examples=300)
def test_any_tree_of_exceptions(error: BaseException) -> None:
    assert chain_of(sent(error)[1]) == chain_of(error)


def test_a_recursion_has_all_its_frames() -> None:
    error = caught(raising.RESTORED["recursion"])
    copy = sent(error)[1]
    assert len(traceback.extract_tb(copy.__traceback__)) == len(traceback.extract_tb(error.__traceback__)) > 900
    assert sys.getrecursionlimit() == 1000


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no 5"),
        ValueError(),
        KeyError("k", 2.5),
        IndexError(-1, True, None),
        RuntimeError(""),
        LookupError("\udc80"),
    ],
    ids=repr,
)
def test_the_short_way_of_simple_exceptions_says_what_the_long_one_does(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising_it() -> NoReturn:
        raise error

    error = caught(raising_it)
    failure, copy = sent(error)
    monkeypatch.setattr("scaler_protocol.failures.payload.is_simple", lambda _: False)
    monkeypatch.setattr("scaler_protocol.failures.facts.is_simple", lambda _: False)
    longer, copied = sent(error)
    assert failure[1:] == longer[1:]
    assert chain_of(copy) == chain_of(copied) == chain_of(error)


def _simple_with(name: str, value: object, error: BaseException) -> BaseException:
    setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    "error",
    [
        _simple_with("value", threading.Lock(), StopIteration(1)),
        _simple_with("name", raising.Plain("n", []), ImportError("no module")),
        _simple_with("code", [1, 2], SystemExit(3)),
        _simple_with("args", (["a list"],), ValueError()),
        _simple_with("extra", 1, ValueError("with an attribute")),
    ],
    ids=repr,
)
def test_a_field_that_is_no_plain_value_takes_the_long_way(error: BaseException) -> None:
    failure, copy = sent(error)
    assert failure.text == str(error)
    if type(copy) is not Described:
        assert chain_of(copy) == chain_of(error)
        assert getattr(copy, "code", 0) == getattr(error, "code", 0)


def test_the_lines_of_a_known_place_are_told_again_to_who_has_forgotten_them() -> None:
    name = "/somewhere/else/twice.py"
    linecache.cache[name] = (20, None, ["def far() -> None:\n", "    raise KeyError('again')\n"], name)
    scope: dict[str, Any] = {}
    exec(compile("".join(linecache.getlines(name)), name, "exec"), scope)
    failure = read(failure_payload(caught(scope["far"])))
    for _ in range(2):
        linecache.clearcache()
        copy = load_exception(failure.pickled)
        assert "raise KeyError('again')" in "".join(traceback.format_exception(copy))
    linecache.cache.pop(name, None)


def test_who_changes_a_traceback_changes_no_other() -> None:
    payload = read(failure_payload(caught(lambda: int("x")))).pickled
    first, second = load_exception(payload).__traceback__, load_exception(payload).__traceback__
    assert first is not None
    assert second is not None
    first.tb_next = None
    assert second.tb_next is not None


class Kept:
    """Something a caller has in a local variable."""


def test_a_restored_traceback_keeps_nothing_of_who_restored_it_alive() -> None:
    def restore() -> tuple[BaseException, weakref.ref[Kept]]:
        kept = Kept()
        payload = pickle.loads(failure_payload(caught(lambda: 1 / 0))[1:])
        return load_exception(payload[0]), weakref.ref(kept)

    for _ in range(2):
        error, reference = restore()
        gc.collect()
        assert reference() is None
        frames = error.__traceback__
        assert frames is not None
        assert frames.tb_frame.f_back is None


def test_many_failures_at_one_place_share_its_frames() -> None:
    def restore() -> BaseException:
        return load_exception(pickle.loads(failure_payload(caught(lambda: int("x")))[1:])[0])

    first, second = restore(), restore()
    assert first is not second
    assert first.__traceback__ is not None
    assert second.__traceback__ is not None
    assert first.__traceback__ is not second.__traceback__
    assert first.__traceback__.tb_frame is second.__traceback__.tb_frame
    before = traceback.format_exception(second)
    traceback.clear_frames(first.__traceback__)
    assert traceback.format_exception(second) == before
