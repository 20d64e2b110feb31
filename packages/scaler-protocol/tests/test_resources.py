"""Counted resources: how amounts are read and shown, and how they are counted."""

from __future__ import annotations

from decimal import Decimal, Inexact, localcontext
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.runtime.resources import (
    AMOUNT_MAX,
    NAMES_MAX,
    ONE,
    CountedAmounts,
    ResourcesError,
    format_amounts,
    normal_amounts,
    parse_amounts,
)
from scaler_protocol.wire.call_options import CallOptions, asked_of, encode_record, join_records, read_records


@pytest.mark.parametrize(
    ("given_as", "amounts"),
    [
        ("", ()),
        ("gpu=2,mem=64GiB,licence=3", (("gpu", 2000), ("licence", 3000), ("mem", 64 * 1024**3 * ONE))),
        (" gpu = 0.5 ", (("gpu", 500),)),
        ({"gpu": 1, "mem": "8GiB"}, (("gpu", 1000), ("mem", 8 * 1024**3 * ONE))),
        ({"gpu": 0.1}, (("gpu", 100),)),
        ({"gpu": 0, "cores": 2.0}, (("cores", 2000),)),
        ({"mem": "0.5 KiB"}, (("mem", 512 * ONE),)),
        ({"x": "1e3"}, (("x", 1000 * ONE),)),
    ],
)
def test_amounts_are_read_exactly(given_as: Any, amounts: Any) -> None:
    assert parse_amounts(given_as) == amounts


@pytest.mark.parametrize(
    ("given_as", "complaint"),
    [
        ("gpu", "'gpu' is not name=amount"),
        ("gpu=1,,mem=2", "'' is not name=amount"),
        ("gpu=many", "the amount of gpu is 'many', not a number"),
        ("gpu=1,gpu=2", "gpu is given twice"),
        ("gpu=-1", "not a number from 0 on"),
        ("gpu=nan", "not a number"),
        ("gpu=inf", "not a number"),
        ("gpu=0.0001", "a thousandth is the smallest part"),
        ("mem=1e30", "must be from 0"),
        ("gpu=1e999999", "not a number"),
        ("gpu=1e999990", "not a number"),
        ({"gpu": 10**5000}, "not a number"),
        ("gpu=" + "1" * 5000, "more than 4096 characters"),
        ("gpu=1e-99", "a thousandth"),
        ("a b=1", "'a b' is no name"),
        ({7: 1}, "the name 7 is a int"),
        ({"gpu": True}, "the amount of gpu is True"),
        ({"gpu": None}, "the amount of gpu is None"),
        ({f"r{i}": 1 for i in range(NAMES_MAX + 1)}, "16 are allowed"),
        (7, "must map names to amounts"),
    ],
)
def test_what_is_wrong_is_named(given_as: Any, complaint: str) -> None:
    with pytest.raises(ResourcesError, match=complaint):
        parse_amounts(given_as)


NAMES = st.sampled_from(["gpu", "mem", "cores", "licence", "disk-1", "a.b"])


@given(st.dictionaries(NAMES, st.integers(1, AMOUNT_MAX)))
def test_what_is_shown_is_read_again(amounts: dict[str, int]) -> None:
    wanted = tuple(sorted(amounts.items()))
    assert parse_amounts(format_amounts(wanted)) == wanted


def test_as_many_names_as_are_allowed_travel() -> None:
    names = {f"{'r' * 60}{number:04}": "1.234" for number in range(NAMES_MAX)}
    options = CallOptions(resources=parse_amounts(names))
    assert asked_of(options.for_agents) == options
    assert read_records(join_records((encode_record(options),)))[0][0] == options


def test_decimals_are_read_alike_whatever_a_program_does_to_their_context() -> None:
    with localcontext() as context:
        context.prec = 2
        context.traps[Inexact] = True
        assert parse_amounts("mem=1234567.125") == (("mem", 1234567125),)
        assert parse_amounts({"mem": Decimal("1234567.125")}) == (("mem", 1234567125),)


def test_settings_keep_a_zero_which_means_none() -> None:
    assert normal_amounts("cores=0,gpu=2.0") == "cores=0,gpu=2"


def test_counting() -> None:
    counted = CountedAmounts(parse_amounts("gpu=2,mem=1KiB"))
    ask = parse_amounts("gpu=0.3,mem=100")
    assert counted.could_serve(ask)
    assert counted.fits(ask)
    assert counted.times(ask, 100) == 6
    counted.take(ask, 6)
    assert not counted.fits(ask)
    assert counted.used == (("gpu", 1800), ("mem", 600 * ONE))
    for _ in range(6):
        counted.give_back(ask)
    assert not counted.used
    assert not counted.could_serve(parse_amounts("licence=1"))
    with pytest.raises(ValueError, match="more gpu is given back"):
        counted.give_back(ask)


def test_fractions_add_up_exactly() -> None:
    random = Random(7)
    counted = CountedAmounts(parse_amounts("gpu=1"))
    taken = []
    for _ in range(10_000):
        ask = parse_amounts({"gpu": random.choice((0.1, 0.2, 0.3, 0.7))})
        if counted.fits(ask):
            counted.take(ask)
            taken.append(ask)
        else:
            counted.give_back(taken.pop(random.randrange(len(taken))))
    for ask in taken:
        counted.give_back(ask)
    assert counted.free == (("gpu", ONE),)
