"""Addresses on standard input: what is accepted, and what is said about what is not."""

from __future__ import annotations

import io
import sys
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.late_address import (
    ON_INPUT,
    LateAddress,
    LateAddressSetting,
    LateBindAddressSetting,
    address_now,
    bind_address_now,
)
from scaler_protocol.service.settings import CliPositionalArg, ServiceSettings, Short


class ClockSettings(ServiceSettings):
    """Tells the time."""

    command: ClassVar[str] = "scaler_clock"
    section: ClassVar[str] = "clock"

    address: CliPositionalArg[LateBindAddressSetting] = Field(description="where to listen")
    other: Annotated[LateAddressSetting, Short("o")] = Field(default=ON_INPUT, description="another clock")


@pytest.mark.parametrize("given", ["-", "tcp://h:0"])
def test_a_setting_is_an_address_or_a_dash(given: str) -> None:
    settings = ClockSettings.from_command_line([given, "--other", "tcp://h:1"])
    expected: LateAddress = ON_INPUT if given == "-" else Address.parse(given)
    assert settings.address == expected
    assert settings.other == Address.parse("tcp://h:1")
    assert settings.to_command_line() == [given, "--other=tcp://h:1"]


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        ClockSettings.from_command_line(["nowhere", "--other", "tcp://h:0"])
    assert str(refused.value).splitlines() == [
        "ADDRESS: 'nowhere' is not an address: expected tcp://host:port or ipc://path",
        "--other: tcp://h:0 can be listened on but not connected to: name a host and a port other than 0",
    ]


def test_the_address_comes_as_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("tcp://h:1\ntcp://h:0\n"))
    assert address_now(ON_INPUT) == Address.parse("tcp://h:1")
    assert bind_address_now(ON_INPUT) == Address.parse("tcp://h:0")


def test_an_address_that_is_known_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert address_now(Address.parse("tcp://h:1")) == Address.parse("tcp://h:1")


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
        address_now(ON_INPUT)
    assert str(refused.value).startswith(expected)
