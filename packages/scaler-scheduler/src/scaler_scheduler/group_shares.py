"""Which groups of clients share a cluster, in which proportion, and how much each may have: what `--share` says.

A text such as `pricing=3:max_running=100,research=1` names groups with their weights; limits follow a weight after a colon. In
TOML it may also be a table: `pricing = 3`, `research = {weight = 1, max_waiting = 1000}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

DEFAULT_GROUP = "default"
"""The group of clients that name none."""

WEIGHT_MAX = 1_000_000.0
LIMIT_MAX = 1_000_000_000
"""Of `max_running` and `max_waiting`."""
GROUPS_MAX = 1000
GROUP_NAME_MAX = 100
"""In characters."""

_NAME = re.compile(r"\w[\w .+/@-]*")
"""All names of keys are among them; the characters that stand between groups, weights and limits are not."""

_LIMITS = ("max_running", "max_waiting")


class GroupShare(NamedTuple):
    """One group: its share, and its limits."""

    name: str
    weight: float = 1.0
    """Its share is this, of the sum of the weights of all groups with waiting tasks."""
    max_running: int = 0
    """Most of its tasks that may run at once; 0: no limit."""
    max_waiting: int = 0
    """Most of its tasks that may wait; 0: no limit."""

    def __str__(self) -> str:
        """Return the form that `parse_shares` reads."""
        limits = "".join(f":{name}={limit}" for name in _LIMITS if (limit := getattr(self, name)))
        return f"{self.name}={self.weight:.12g}{limits}"


def share_texts(value: object) -> object:
    """Return what a command line or a file says of groups as one text for each group. What is neither stays as it is."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Mapping):
        return [_text_of(name, said) for name, said in value.items()]
    if isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return [text.strip() for part in value for text in part.split(",") if text.strip()]
    return value


def parse_shares(texts: Iterable[str]) -> tuple[GroupShare, ...]:
    """Return the groups that these texts name. Where there are any, the last one is the default group, unless it is named.

    Raises ValueError with one sentence that names the group.
    """
    groups: dict[str, GroupShare] = {}
    for text in texts:
        group = _parse(text)
        if group.name in groups:
            raise ValueError(f"group {group.name!r} is named twice")
        groups[group.name] = group
    if len(groups) > GROUPS_MAX:
        raise ValueError(f"there are {len(groups)} groups, at most {GROUPS_MAX} are accepted")
    if groups:
        groups.setdefault(DEFAULT_GROUP, GroupShare(DEFAULT_GROUP))
    return tuple(groups.values())


def _parse(text: str) -> GroupShare:
    said, *limits = text.split(":")
    name, equals, weight = (part.strip() for part in said.rpartition("="))
    if not equals or not name:
        raise ValueError(f"{text!r} is not of the form pricing=3 or pricing=3:max_running=100:max_waiting=1000")
    if len(name) > GROUP_NAME_MAX or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r:.{2 * GROUP_NAME_MAX}} is no name for a group: it has at most {GROUP_NAME_MAX} letters, digits, blanks and "
            "characters of . _ - + / @; groups are separated by commas, as in pricing=3,research=1"
        )
    return GroupShare(name, _weight(name, weight), **dict(_limits(name, limits)))


def _weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= WEIGHT_MAX:
        raise ValueError(
            f"the weight of group {name!r} must be a number above 0, at most {WEIGHT_MAX:,.0f}, not {text!r:.100}"
        )
    return weight


def _limits(name: str, texts: Iterable[str]) -> Iterator[tuple[str, int]]:
    found: set[str] = set()
    for text in texts:
        limit, _, number = (part.strip() for part in text.partition("="))
        if limit not in _LIMITS:
            raise ValueError(f"group {name!r} has no limit {limit!r}; there are {' and '.join(_LIMITS)}")
        if limit in found:
            raise ValueError(f"group {name!r} has {limit} twice")
        if not number.isdecimal() or len(number) > len(str(LIMIT_MAX)) or not 0 < int(number) <= LIMIT_MAX:
            raise ValueError(
                f"{limit} of group {name!r} must be a whole number from 1 to {LIMIT_MAX:,}, not {number!r:.100}"
            )
        found.add(limit)
        yield limit, int(number)


def _text_of(name: object, said: object) -> str:
    if not isinstance(said, Mapping):
        return f"{name}={said}"
    limits = "".join(f":{limit}={number}" for limit, number in said.items() if limit != "weight")
    return f"{name}={said.get('weight', 1)}{limits}"
