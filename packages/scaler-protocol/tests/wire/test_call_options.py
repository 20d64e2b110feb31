"""Options of calls: what is accepted, what is said of the rest, and the way over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.wire.call_options import (
    NO_OPTIONS,
    RECORD_BYTES_MAX,
    CallOptions,
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
        ({"labels": "x"}, TypeError, r"map\(\) has no option labels; the options are label, tags"),
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
    largest = NO_OPTIONS.with_given({"label": wide * 100, "tags": tags}, "map")
    assert len(encode_record(largest)) < RECORD_BYTES_MAX
