"""Spans of tasks: when they began, and that those of one track nest."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.monitoring.timeline import TaskSpan, chrome_trace, nested, start_times


def span(number: int, start: float, duration_s: float) -> TaskSpan:
    return TaskSpan(start, duration_s, "a", 0, "f", "success", {"task": number})


def test_tasks_of_one_batch_ran_one_after_another() -> None:
    ended = [
        ("w", 10.0, 1.0),
        ("v", 10.0, 4.0),
        ("w", 10.0, 2.0),
        ("w", 20.0, 1.0),
        (None, 20.0, 1.0),
        (None, 20.0, 2.0),
    ]
    assert start_times(ended) == [7.0, 6.0, 8.0, 19.0, 19.0, 18.0]


def test_spans_that_overlap_in_part_are_shortened_and_those_within_stay() -> None:
    track = [span(2, 2.0, 3.0), span(1, 0.0, 10.0), span(3, 9.0, 4.0)]
    placed = {one.args["task"]: (begin, end) for one, begin, end in nested(track, 0.0)}
    assert placed == {1: (0, 10_000_000), 2: (2_000_000, 5_000_000), 3: (10_000_000, 13_000_000)}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=30))
def test_all_spans_nest(times: list[tuple[int, int]]) -> None:
    track = [span(number, float(start), float(duration)) for number, (start, duration) in enumerate(times)]
    placed = list(nested(track, 0.0))
    assert sorted(one.args["task"] for one, _, _ in placed) == list(range(len(times)))
    open_ends: list[int] = []
    for _, begin, end in placed:
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        assert begin <= end
        assert not open_ends or end <= open_ends[-1]
        open_ends.append(end)


def test_a_trace_is_one_json_document() -> None:
    spans = [span(1, 5.0, 1.0), TaskSpan(6.0, 0.5, "b", -1, "g", "failed", {})]
    trace = json.loads("".join(chrome_trace(spans, {("a", 0): "worker one"}, {"stride": 2})))
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"]
    assert names == ["a", "b", "worker one", "b"]
    assert trace["otherData"] == {"origin_unix_seconds": 5.0, "stride": 2}
    first, second = (event for event in trace["traceEvents"] if event["ph"] == "X")
    assert (first["ts"], first["dur"], first["args"]) == (0, 1_000_000, {"task": 1, "duration_us": 1_000_000})
    assert (second["pid"], second["tid"], second["cat"]) == (2, 0, "failed")
    assert json.loads("".join(chrome_trace([], {}, {})))["traceEvents"] == []
