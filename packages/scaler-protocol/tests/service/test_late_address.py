"""Addresses on standard input: what is accepted, and what is said about what is not."""

from __future__ import annotations

import io
import sys

import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.late_address import ON_INPUT, address_now, or_on_input
from scaler_protocol.service.setting_types import ADDRESS


def test_a_setting_is_an_address_or_a_dash() -> None:
    setting_type = or_on_input(ADDRESS)
    assert setting_type.read("tcp://h:1") == Address.parse("tcp://h:1")
    assert setting_type.read("-") == ON_INPUT
    with pytest.raises(ValueError, match="'--' is not an address"):
        setting_type.read("--")


def test_the_address_comes_as_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("tcp://h:1\ntcp://h:2\n"))
    assert address_now(ON_INPUT, ADDRESS) == Address.parse("tcp://h:1")


def test_an_address_that_is_known_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert address_now(Address.parse("tcp://h:1"), ADDRESS) == Address.parse("tcp://h:1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "ADDRESS: standard input ended without one"),
        ("\n", "ADDRESS: on standard input: '' is not an address"),
        ("tcp://h:0\n", "ADDRESS: on standard input: tcp://h:0 can be listened on but not connected to"),
    ],
)
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    with pytest.raises(ConfigurationError) as refused:
        address_now(ON_INPUT, ADDRESS)
    assert str(refused.value).startswith(expected)
