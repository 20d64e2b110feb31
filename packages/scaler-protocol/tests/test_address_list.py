"""Several addresses in one text."""

from __future__ import annotations

import pytest

from scaler_protocol.address import AddressError
from scaler_protocol.address_list import AddressList, split_addresses


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("tcp://a:2345", 1),
        ("tcp://a:2345,tcp://b:2345", 2),
        (" tcp://a:2345 , tcp://b:2345 ", 2),
        ("tcp://[::1]:2345,ipc:///tmp/x", 2),
        ("ipc:///tmp/with,comma", 1),
    ],
)
def test_texts(text: str, count: int) -> None:
    addresses = AddressList.parse(text)
    assert len(addresses.addresses) == count
    assert AddressList.parse(str(addresses)) == addresses
    assert addresses.first == addresses.addresses[0]


@pytest.mark.parametrize("text", ["", ",", "tcp://a", "tcp://a:2345,b", "tcp://a:0", "tcp://a:1,tcp://a:1"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        AddressList.parse(text)


def test_no_address_is_no_text() -> None:
    assert split_addresses("") == ()
