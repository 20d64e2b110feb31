"""Trees of calls: merged, kept within bounds, written for other programs; no time is lost on the way."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.monitoring.profile_tree import (
    DEPTH_MAX,
    OTHER,
    TEXT_CHARACTERS_MAX,
    CallTable,
    ProfileTree,
    collapsed,
)
from scaler_protocol.monitoring.topics import (
    EVENTS,
    FIGURES,
    ProfileWanted,
    dump_topic,
    dumped_task,
    profile_topic,
    profile_wanted,
)


def table_of(*stacks: tuple[str, int]) -> CallTable:
    """A table with one node per frame of these ("f;g;h", microseconds), not merged."""
    texts = [""]
    parents, names, files, lines = (array("I") for _ in range(4))
    columns = (parents, names, files, lines, times := array("Q"))
    for stack, microseconds in stacks:
        frames = stack.split(";")
        for depth, frame in enumerate(frames):
            texts.append(frame)
            row = (len(parents) if depth else 0, len(texts) - 1, 0, 0, microseconds * (depth == len(frames) - 1))
            for column, number in zip(columns, row, strict=True):
                column.append(number)
    return CallTable(parents, names, files, lines, times, tuple(texts))


def lines_of(table: CallTable) -> dict[str, int]:
    pairs = [line.rsplit(" ", 1) for line in collapsed(table).splitlines()]
    return {stack: int(microseconds) for stack, microseconds in pairs}


def test_same_stacks_are_merged() -> None:
    tree = ProfileTree()
    assert not tree
    tree.add(table_of(("task;f;g", 3), ("task;f", 1)))
    tree.add(table_of(("task;f;g", 5), ("other task;f", 2)))
    assert lines_of(tree.table()) == {"task;f;g": 8, "task;f": 1, "other task;f": 2}
    assert len(tree.table().parents) == 5


def test_roots_get_the_names_of_functions() -> None:
    tree = ProfileTree()
    tree.add(table_of(("aa;f", 3), ("bb;aa", 4)), name_of={"aa": "square", "bb": "square"}.__getitem__)
    assert lines_of(tree.table()) == {"square;f": 3, "square;aa": 4}


def test_what_does_not_fit_is_counted_with_its_caller() -> None:
    tree = ProfileTree(nodes_max=3)
    tree.add(table_of(("task;f;g", 3), ("task;h;i;j", 4), ("task;f;k", 5), ("task;f;g", 1), ("new", 6)))
    assert lines_of(tree.table()) == {"task;f;g": 4, "task;(other)": 4, "task;f;(other)": 5, "(other)": 6}


def test_the_smallest_nodes_are_left_out_of_a_table() -> None:
    tree = ProfileTree()
    tree.add(table_of(("task;f;g", 30), ("task;h;i", 4), ("task;f;k", 5), ("task", 1)))
    assert lines_of(tree.table(3)) == {"task;f;g": 30, "task;f;(other)": 5, "task;(other)": 4, "task": 1}


def test_deep_stacks_are_cut_off() -> None:
    tree = ProfileTree()
    tree.add(table_of((";".join(["f"] * 5000), 7)))
    (stack, microseconds), *more = lines_of(tree.table()).items()
    assert (len(stack.split(";")), stack[-7:], microseconds, more) == (DEPTH_MAX, "(other)", 7, [])


def test_long_texts_are_shortened() -> None:
    tree = ProfileTree()
    tree.add(table_of(("x" * 5000 + "end", 7)))
    (name,) = [text for text in tree.table().texts if text]
    assert len(name) == TEXT_CHARACTERS_MAX
    assert name.endswith("end")


def test_separators_in_names_do_not_divide_stacks() -> None:
    table = CallTable([0, 1], [0, 1], [2, 2], [0, 5], [0, 9], ("a;b\nc", "", "my file;.py"))
    assert collapsed(table) == "a:b c (my file:.py:0);my file:.py:5 9\n"


def test_stacks_of_one_function() -> None:
    table = table_of(("task;f", 3), ("other;f", 2))
    assert collapsed(table, "other") == "other;f 2\n"
    assert collapsed(table, "none") == ""


STACKS = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), min_size=1, max_size=6).map(";".join), st.integers(0, 2**40)),
    max_size=30,
)


@given(STACKS, st.integers(1, 10), st.integers(1, 10))
def test_no_time_is_lost(stacks: list[tuple[str, int]], kept: int, shown: int) -> None:
    tree = ProfileTree(nodes_max=kept)
    for stack in stacks:
        tree.add(table_of(stack))
    table = tree.table(shown)
    assert sum(table.microseconds) == sum(microseconds for _, microseconds in stacks)
    assert all(parent <= row for row, parent in enumerate(table.parents))
    # One OTHER at most for each node, and one without a caller.
    others = sum(table.texts[name] == OTHER[0] for name in table.names)
    assert len(table.parents) - others <= min(kept, shown)
    assert others <= min(kept, shown) + 1
    again = ProfileTree()
    again.add(table)
    assert lines_of(again.table()) == lines_of(table)


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(0, 60))
def test_topics_of_profiles(token: int, rate: int, seconds: int) -> None:
    wanted = ProfileWanted(token, rate, seconds)
    topic = profile_topic(wanted)
    assert profile_wanted(topic) == wanted
    assert dumped_task(topic) is None


@pytest.mark.parametrize("topic", [b"", b"x" * 48, FIGURES, EVENTS, dump_topic(7)])
def test_other_topics_ask_for_no_profile(topic: bytes) -> None:
    assert profile_wanted(topic) is None
