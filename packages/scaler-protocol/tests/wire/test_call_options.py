"""Options of calls: what is accepted, what is said of the rest, and the way over the wire."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.wire.call_options import (
    NO_OPTIONS,
    RECORD_BYTES_MAX,
    SECONDS_MAX,
    CallOptions,
    Prefer,
    Retries,
    asked_of,
    encode_record,
    join_records,
    read_records,
    tags_text,
)

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and text.strip()
)
OPTIONS = st.builds(
    CallOptions,
    st.one_of(st.just(""), TEXTS),
    st.dictionaries(TEXTS, st.one_of(st.just(""), TEXTS), max_size=4).map(lambda tags: tuple(sorted(tags.items()))),
    st.one_of(
        st.none(),
        st.builds(
            Retries,
            st.integers(1, 1000),
            st.lists(TEXTS.map("m.{}".format), min_size=1, max_size=3).map(tuple),
            st.floats(0, 1e6),
            st.floats(1, 1000),
            st.floats(0, 1e6),
        ),
    ),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.integers(-1_000_000, 1_000_000),
    st.booleans(),
    st.one_of(st.just(""), TEXTS),
    st.one_of(st.just(""), TEXTS, TEXTS.map(Prefer)),
    st.just(False),
    st.one_of(st.just(""), TEXTS),
    st.dictionaries(
        st.sampled_from(["gpu", "mem", "a.b"]), st.integers(1, 10**15).map(lambda n: n * 1000), max_size=3
    ).map(lambda amounts: tuple(sorted(amounts.items()))),
).map(
    lambda options: options._replace(
        detached=bool(options.name), retries=options.retries if options.idempotent else None
    )
)


@given(st.lists(OPTIONS, min_size=1, max_size=20))
def test_each_row_has_its_options_again(rows: list[CallOptions]) -> None:
    raw = join_records([encode_record(options) for options in rows])
    if not raw:
        assert set(rows) == {NO_OPTIONS}
        return
    records, places = read_records(raw)
    assert len(records) == len(set(rows))
    assert [records[place] for place in places or [0] * len(rows)] == rows


@given(st.binary(max_size=100))
def test_what_cannot_be_read_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="options of tasks"):
        read_records(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b"[]",
        b'{"records":[]}',
        b'{"records":[{}],"rows":[1]}',
        b'{"records":[{}],"rows":[-1]}',
        b'{"records":[{}],"rows":[true]}',
        b'{"records":[{}],"rows":7}',
        b'{"records":[{"label":7}]}',
        b'{"records":[{"colour":"red"}]}',
        b'{"records":[{"tags":["a"]}]}',
        b'{"records":[7]}',
        b"[" * 100_000,
    ],
)
def test_impossible_options_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="options of tasks"):
        read_records(raw)


def test_a_call_has_its_own_options_beside_those_of_the_client() -> None:
    ours = NO_OPTIONS.with_given({"label": "nightly", "tags": {"desk": "rates", "run": "1"}}, "with_options")
    assert ours == CallOptions("nightly", (("desk", "rates"), ("run", "1")))
    theirs = ours.with_given({"label": None, "tags": {"run": "2"}}, "map")
    assert theirs == CallOptions("nightly", (("desk", "rates"), ("run", "2")))
    assert tags_text(theirs) == "desk=rates,run=2"
    assert ours.with_given({"label": "other"}, "map").label == "other"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"labels": "x"}, TypeError, r"map\(\) has no option labels; the options are label, tags, retries, "),
        ({"detached": 1}, TypeError, "detached must be True or False, not 1"),
        ({"detached": True}, ValueError, "detached: such a task belongs to a job, which needs a name"),
        ({"name": "job"}, ValueError, "name: only a task with detached=True belongs to a job"),
        ({"detached": True, "name": "a\nb"}, ValueError, "name 'a.*b' is not one line"),
        ({"detached": True, "name": 7}, TypeError, "name must be a str, not 7"),
        ({"label": 7}, TypeError, "label must be a str, not 7"),
        ({"label": ""}, ValueError, "label '' is not one line"),
        ({"label": "a\nb"}, ValueError, "label .* is not one line"),
        ({"label": "x" * 101}, ValueError, "label .* has more than 100 characters"),
        ({"label": "\ud800"}, ValueError, "label .* is not one line"),
        ({"tags": ["rates"]}, TypeError, "tags must map names to values"),
        ({"tags": {7: "a"}}, TypeError, "tags: the name 7 is a int"),
        ({"tags": {"run": 7}}, TypeError, "tags: the value of 'run' is a int"),
        ({"tags": {"": "a"}}, ValueError, "tags: the name '' is not one line"),
        ({"tags": {"a": "\0"}}, ValueError, "tags: the value of 'a'"),
        ({"tags": {"a": "x" * 201}}, ValueError, "tags: the value of 'a'.* has more than 200 characters"),
        ({"tags": {str(n): "" for n in range(21)}}, ValueError, "tags has 21 entries; a task can have 20 at most"),
        ({"retries": -1}, ValueError, "retries must be from 0 to 1000, not -1"),
        ({"retries": True}, TypeError, "retries must be an int, not True"),
        ({"retries": 1.5}, TypeError, "retries must be an int, not 1.5"),
        ({"retries": Retries(1, on=())}, ValueError, "retries: `on` needs 1 to 20 exception classes"),
        ({"retries": Retries(1, on=int)}, TypeError, "retries: `on` needs exception classes, not <class 'int'>"),
        (
            {"retries": Retries(1, on="ValueErrors")},
            ValueError,
            "full names, such as 'package.module.Error'; 'ValueErrors' is",
        ),
        ({"retries": Retries(1, on="int")}, ValueError, "retries: `on` needs full names"),
        ({"retries": Retries(1, on="a.\ud800")}, ValueError, "retries: the name of an exception .* is not one line"),
        ({"retries": Retries(1, on=type("L" * 300, (Exception,), {}))}, ValueError, "has more than 200 characters"),
        ({"retries": Retries(1, wait_seconds=-1)}, ValueError, "retries: wait_seconds must be from 0"),
        (
            {"retries": Retries(1, wait_max_seconds=-1)},
            ValueError,
            "retries: wait_max_seconds must be from 0",
        ),
        ({"retries": Retries(1, backoff=0.5)}, ValueError, "retries: backoff must be from 1 to 1000, not 0.5"),
        ({"retries": {"times": 1, "often": True}}, TypeError, "retries has fields that Retries has not"),
        ({"timeout_seconds": 0}, ValueError, "timeout_seconds must be more than 0, not 0"),
        ({"timeout_seconds": "1"}, TypeError, "timeout_seconds must be a number, not '1'"),
        ({"timeout_seconds": np.True_}, TypeError, "timeout_seconds must be a number, not np.True_"),
        ({"timeout_seconds": float("nan")}, ValueError, "timeout_seconds must be a number, not nan"),
        ({"deadline_seconds": -2}, ValueError, "deadline_seconds must be more than 0, not -2"),
        ({"deadline_seconds": 10**400}, ValueError, "deadline_seconds is too large"),
        ({"priority": 1.0}, TypeError, "priority must be an int, not 1.0"),
        ({"priority": 10**7}, ValueError, "priority must be from -1000000 to 1000000"),
        ({"idempotent": 0}, TypeError, "idempotent must be True or False, not 0"),
        ({"idempotent": False, "retries": 1}, ValueError, "idempotent=False never runs twice"),
    ],
)
def test_impossible_values_are_named_with_their_option(
    given: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        NO_OPTIONS.with_given(given, "map")


def test_tags_of_client_and_call_together_are_bounded() -> None:
    ours = NO_OPTIONS.with_given({"tags": {f"a{n}": "" for n in range(15)}}, "with_options")
    with pytest.raises(ValueError, match="tags has 30 entries"):
        ours.with_given({"tags": {f"b{n}": "" for n in range(15)}}, "map")


def test_the_largest_record_is_bounded() -> None:
    wide = "\U0001f600"
    tags = {f"{n:02}{wide * 98}": wide * 200 for n in range(20)}
    retries = Retries(
        1000, on=tuple("m." + wide * 197 + str(n % 10) for n in range(20)), wait_seconds=1 / 3, backoff=4 / 3
    )
    limits = {"timeout_seconds": 1e7 / 3, "deadline_seconds": 1e7 / 3, "priority": -(10**6)}
    largest = NO_OPTIONS.with_given({"label": wide * 100, "tags": tags, "retries": retries, **limits}, "map")
    assert len(encode_record(largest)) < RECORD_BYTES_MAX


class OurError(ValueError):
    pass


def test_exceptions_are_known_by_their_full_names() -> None:
    options = NO_OPTIONS.with_given({"retries": Retries(2, on=(OSError, OurError))}, "map")
    assert options.retries is not None
    assert options.retries.on == ("builtins.OSError", f"{__name__}.OurError")
    assert options.retries.covers(["x.Own", "builtins.OSError", "builtins.Exception"])
    assert not options.retries.covers(["builtins.ValueError", "builtins.Exception"])
    assert NO_OPTIONS.with_given({"retries": 2}, "map").retries == Retries(2, ("builtins.Exception",))
    assert NO_OPTIONS.with_given({"retries": Retries(1, on=KeyError)}, "map").retries == Retries(
        1, ("builtins.KeyError",)
    )


def test_exceptions_may_be_named_as_programs_name_them() -> None:
    given = Retries(2, on=["ValueError", "scaler.TaskTimeoutError", "requests.exceptions.ConnectionError"])
    retries = NO_OPTIONS.with_given({"retries": given}, "map").retries
    assert retries is not None
    assert retries.on == (
        "builtins.ValueError",
        "scaler.errors.TaskTimeoutError",
        "requests.exceptions.ConnectionError",
    )
    of_set = NO_OPTIONS.with_given({"retries": Retries(2, on={ValueError, KeyError})}, "map").retries
    assert of_set is not None
    assert of_set.on == ("builtins.KeyError", "builtins.ValueError")


def test_numbers_of_other_libraries_are_numbers() -> None:
    given = {"timeout_seconds": Fraction(1, 2), "deadline_seconds": np.float32(2.5), "priority": np.int64(3)}
    options = NO_OPTIONS.with_given(given, "map")
    assert options[3:6] == (0.5, 2.5, 3)
    assert all(type(value) in (int, float) for value in options[3:6])
    unbounded = NO_OPTIONS.with_given({"retries": Retries(1, wait_max_seconds=float("inf"))}, "map").retries
    assert unbounded is not None
    assert unbounded.wait_max_seconds == SECONDS_MAX


def test_a_call_may_take_back_what_the_client_asks_for() -> None:
    ours = NO_OPTIONS.with_given(
        {"retries": 2, "timeout_seconds": 3, "deadline_seconds": 4, "priority": 5}, "with_options"
    )
    inf = float("inf")
    theirs = {"retries": 0, "timeout_seconds": inf, "deadline_seconds": inf, "priority": 0, "idempotent": True}
    assert ours.with_given(theirs, "map") == NO_OPTIONS


def test_each_wait_is_longer_up_to_a_bound() -> None:
    retries = Retries(9, wait_seconds=0.5, backoff=3.0, wait_max_seconds=10.0)
    assert [retries.wait_before(retry) for retry in (1, 2, 3, 4, 999)] == [0.5, 1.5, 4.5, 10.0, 10.0]
    assert Retries(9).wait_before(999) == 0.0
    assert Retries(9, wait_seconds=2, backoff=1.0).wait_before(999) == 2.0
    assert Retries(9, wait_seconds=90).wait_before(1) == 60.0


@given(OPTIONS)
def test_agents_get_what_they_must_know_once(options: CallOptions) -> None:
    sent = asked_of(options.for_agents)
    # Of jobs only the scheduler knows.
    bare = options._replace(label="", tags=(), worker="", host="", detached=False, name="")
    assert sent == bare._replace(deadline_seconds=0.0)
    assert (options.asks is None) == (bare == NO_OPTIONS)
    # The scheduler keeps these with what tasks ask of workers.
    assert bool(options.affinity) == bool(options.worker or options.host)
