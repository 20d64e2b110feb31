"""What `--share` may say."""

from __future__ import annotations

import pytest

from scaler_scheduler.group_shares import GroupShare, parse_shares, share_texts

DEFAULT = GroupShare("default", 1.0)


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        ("pricing=3,research=1", (GroupShare("pricing", 3), GroupShare("research", 1), DEFAULT)),
        (["pricing=3", " research = 0.5 "], (GroupShare("pricing", 3), GroupShare("research", 0.5), DEFAULT)),
        ("a=3:max_running=100:max_waiting=1000", (GroupShare("a", 3, 100, 1000), DEFAULT)),
        ("default=2,a=1", (GroupShare("default", 2), GroupShare("a", 1))),
        ({"a": 3, "b": {"weight": 2, "max_running": 5}}, (GroupShare("a", 3), GroupShare("b", 2, 5), DEFAULT)),
        ({"b": {"max_waiting": 5}}, (GroupShare("b", 1, 0, 5), DEFAULT)),
        ("fx options/desk-1_a.b+c@d=2", (GroupShare("fx options/desk-1_a.b+c@d", 2), DEFAULT)),
        ("Zinsen und Währungen=2", (GroupShare("Zinsen und Währungen", 2), DEFAULT)),
        ("", ()),
        ({}, ()),
    ],
)
def test_groups_are_named_with_weights_and_limits(said: object, groups: tuple[GroupShare, ...]) -> None:
    texts = share_texts(said)
    assert isinstance(texts, list)
    found = parse_shares(texts)
    assert found == groups
    # What a command is passed on with means the same.
    assert parse_shares(map(str, found)) == groups


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("pricing", "'pricing' is not of the form pricing=3"),
        ("=3", "'=3' is not of the form"),
        ("a=0", "weight of group 'a' must be a number above 0, at most 1,000,000, not '0'"),
        ("a=1000001", "weight of group 'a' must be a number above 0, at most 1,000,000, not '1000001'"),
        ("a=-1", "weight of group 'a'"),
        ("a=nan", "weight of group 'a'"),
        ("a=inf", "weight of group 'a'"),
        ("a=much", "weight of group 'a'"),
        ("a=1,a=2", "group 'a' is named twice"),
        ("a=1:max_runing=3", "group 'a' has no limit 'max_runing'; there are max_running and max_waiting"),
        ("a=1:max_running=0", "max_running of group 'a' must be a whole number from 1 to 1,000,000,000, not '0'"),
        ("a=1:max_running=1000000001", "must be a whole number from 1 to 1,000,000,000, not '1000000001'"),
        (f"a=1:max_running={'9' * 5000}", "must be a whole number from 1 to 1,000,000,000, not '9{98,99}$"),
        ("a=1:max_running=2:max_running=3", "group 'a' has max_running twice"),
        ({"a": [1]}, "weight of group 'a'"),
        ("a\n=1:", "group"),
        ("x" * 101 + "=1", "no name for a group"),
        ("a=1;b=2", "'a=1;b' is no name for a group: .* separated by commas, as in pricing=3,research=1"),
        ("a=b=2", "'a=b' is no name for a group"),
        ("'a'=1", "no name for a group"),
        ("a|b=1", "no name for a group"),
        ({"a:b": 1}, "is not of the form"),
        ({"a,b": 1}, "no name for a group"),
        ("-a=1", "no name for a group"),
    ],
)
def test_what_is_wrong_is_named(said: object, words: str) -> None:
    texts = share_texts(said)
    assert isinstance(texts, list)
    with pytest.raises(ValueError, match=words):
        parse_shares(texts)


def test_a_thousand_groups_are_enough() -> None:
    with pytest.raises(ValueError, match="1001 groups, at most 1000"):
        parse_shares(f"g{number}=1" for number in range(1001))
