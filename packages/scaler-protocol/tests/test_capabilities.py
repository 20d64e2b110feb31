"""The text form of capabilities."""

from __future__ import annotations

import pytest

from scaler_protocol.capabilities import NO_VALUE, CapabilitiesError, format_capabilities, parse_capabilities


def test_a_name_alone_has_no_value() -> None:
    assert parse_capabilities("linux, cpu=4,gpu = 0") == {"linux": NO_VALUE, "cpu": 4, "gpu": 0}
    assert parse_capabilities("") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cpu=many", "value of 'cpu' is not an integer: 'many'"),
        ("cpu=", "not an integer: ''"),
        ("=4", "a name is missing in '=4'"),
        ("linux,,gpu", "a name is missing"),
        ("gpu,gpu=1", "'gpu' is given twice"),
        (f"gpu={2**63}", "the value of 'gpu' has more than 64 bits"),
        (f"gpu={-(2**70)}", "the value of 'gpu' has more than 64 bits"),
    ],
)
def test_mistakes_are_named(text: str, reason: str) -> None:
    with pytest.raises(CapabilitiesError, match=reason):
        parse_capabilities(text)


def test_what_is_written_reads_back() -> None:
    capabilities = {"linux": NO_VALUE, "cpu": 4}
    assert format_capabilities(capabilities) == "linux,cpu=4"
    assert parse_capabilities(format_capabilities(capabilities)) == capabilities
