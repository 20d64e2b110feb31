"""Where the schedulers of one cluster listen: `tcp://a:2345,tcp://b:2345`, as a value. Nearly always there is one.

Clients parse addresses too, so this module imports only the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.address import Address, AddressError


@dataclass(frozen=True, slots=True)
class AddressList:
    """One address or several, in the order in which they are tried. `str` returns the text that `parse` reads."""

    addresses: tuple[Address, ...]

    @classmethod
    def parse(cls, text: str) -> AddressList:
        """Read addresses to connect to, separated by commas. Raises AddressError that says which one is wrong."""
        texts = split_addresses(text)
        if not texts:
            raise AddressError(f"{text!r} is not an address: expected tcp://host:port or ipc://path")
        addresses = tuple(map(Address.parse, texts))
        for address in addresses:
            if not address.can_be_connected:
                raise AddressError(
                    f"{address} can be listened on but not connected to: name a host and a port other than 0"
                )
            if addresses.count(address) > 1:
                raise AddressError(f"{text!r} names {address} twice")
        return cls(addresses)

    @property
    def first(self) -> Address:
        """The address that is tried first."""
        return self.addresses[0]

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def split_addresses(text: str) -> tuple[str, ...]:
    """Return the texts between commas. An address itself never has one, except in the path of an `ipc` address."""
    if text.strip().startswith("ipc://") and ",tcp://" not in text and ",ipc://" not in text:
        return (text.strip(),)
    return tuple(part.strip() for part in text.split(",") if part.strip())
