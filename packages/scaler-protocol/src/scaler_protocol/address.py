"""Where a peer listens: `tcp://host:port` or `ipc://path`, as a value.

Clients parse addresses too, so this module imports only the standard library. It resolves no names: the transport does this
when it binds or connects.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Literal

PORT_MAX = 65_535

# The kernel's sockaddr_un holds 108 bytes including the final NUL; ZeroMQ fails with an unhelpful message beyond it.
IPC_PATH_BYTES_MAX = 107


class AddressError(ValueError):
    """An address that cannot be used. The text names the address and the expected form."""


@dataclass(frozen=True, slots=True)
class Address:
    """One endpoint. Make it with `Address.parse`; `str(address)` returns the text.

    `host` and `port` have a meaning for `tcp` only, `path` for `ipc` only. `host` carries no brackets, also for IPv6.
    `port` 0 asks the system for a free port when binding; nobody can connect to it.
    """

    transport: Literal["tcp", "ipc"]
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads `tcp://host:port`, `tcp://[v6]:port` or `ipc://path`; raises `AddressError` for anything else."""
        if any("\ud800" <= character <= "\udfff" for character in text):
            # From bytes of a command line that are not UTF-8. Neither sockets nor messages nor files take them.
            raise AddressError(f"{text!r} is not an address: it has bytes that are not UTF-8 text")
        transport, separator, rest = text.strip().partition("://")
        transport = transport.lower()
        if separator and transport == "tcp":
            return cls._parse_tcp(text, rest)
        if separator and transport == "ipc":
            return cls._parse_ipc(text, rest)
        problem = f"{text!r} is not an address: expected tcp://host:port or ipc://path"
        raise AddressError(problem + _meant(rest if separator else text.strip()))

    @classmethod
    def _parse_tcp(cls, text: str, rest: str) -> Address:
        rest, slash, path = rest.partition("/")
        if slash:
            raise AddressError(f"{text!r}: nothing may follow the port, not even {slash + path!r}{_meant(rest)}")
        host, separator, port_text = rest.rpartition(":")
        if not separator:
            raise AddressError(f"{text!r} has no port: expected tcp://host:port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            try:
                ipaddress.IPv6Address(host.partition("%")[0])
            except ValueError:
                raise AddressError(f"{text!r}: [{host}] is not an IPv6 address") from None
        elif ":" in host:
            raise AddressError(f"{text!r}: an IPv6 host is written in brackets, as in tcp://[::1]:2345")
        if not host or any(character.isspace() or character in "/@?#\0" for character in host):
            raise AddressError(f"{text!r} has no usable host: expected tcp://host:port")
        # str.isdecimal alone would accept digits of other scripts, which int() accepts as well.
        if not (port_text.isascii() and port_text.isdecimal()) or int(port_text) > PORT_MAX:
            raise AddressError(f"{text!r}: port {port_text!r} is not a number from 0 to {PORT_MAX}")
        return cls("tcp", host=host, port=int(port_text))

    @classmethod
    def _parse_ipc(cls, text: str, rest: str) -> Address:
        if not rest:
            raise AddressError(f"{text!r} has no path: expected ipc://path")
        if "\0" in rest or len(rest.encode()) > IPC_PATH_BYTES_MAX:
            raise AddressError(
                f"{text!r}: the path of an ipc address has at most {IPC_PATH_BYTES_MAX} bytes and no NUL"
            )
        return cls("ipc", path=rest)

    def __str__(self) -> str:
        if self.transport == "ipc":
            return f"ipc://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def can_be_connected(self) -> bool:
        """False for addresses that only a listener may use: port 0 and the wildcard hosts."""
        return self.transport == "ipc" or (self.port != 0 and not self.is_wildcard)

    @property
    def is_wildcard(self) -> bool:
        """Whether a listener on it answers on every interface of its machine."""
        return self.transport == "tcp" and self.host in ("*", "0.0.0.0", "::")

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can reach it."""
        return self.transport == "ipc" or is_loopback_host(self.host)

    def with_port(self, port: int) -> Address:
        """The same host with another port; for `ipc` the address itself, as it has no port."""
        if self.transport == "ipc":
            return self
        if not 0 <= port <= PORT_MAX:
            raise AddressError(f"port {port} derived from {self} is not a number from 0 to {PORT_MAX}")
        return replace(self, port=port)

    def with_port_offset(self, offset: int) -> Address:
        """The address of a companion service: `offset` ports further.

        Port 0 stays 0, since the system chooses there. An `ipc` path gets `_<offset>` appended.
        """
        if self.transport == "ipc":
            return Address._parse_ipc(f"{self}_{offset}", f"{self.path}_{offset}")
        return self if self.port == 0 else self.with_port(self.port + offset)


def _meant(host_and_port: str) -> str:
    """Return "did you mean …?" for the end of an error, if only the beginning or the end of an address is wrong."""
    if host_and_port.isascii() and host_and_port.isdecimal():
        # A port alone.
        host_and_port = f"127.0.0.1:{host_and_port}"
    try:
        address = Address._parse_tcp("", host_and_port.partition("/")[0])
    except AddressError:
        return ""
    return f"; did you mean {address}?"


def reached_beside(told: str, neighbour: str) -> str:
    """Return where to connect to what listens at `told`, on the machine whose other service was reached at `neighbour`.

    They differ for what listens on every address of its machine. Texts that are no addresses stay as they are.
    """
    try:
        listening, reached = Address.parse(told), Address.parse(neighbour)
    except AddressError:
        return told
    if listening.is_wildcard and reached.transport == "tcp":
        return str(replace(listening, host=reached.host))
    return told


def url_reached_beside(told: str, neighbour: str) -> str | None:
    """Return the URL of a web service, for whoever reached another service of its machine at `neighbour`.

    A service that listens everywhere has the host of `neighbour`. None: there is none, or only its own machine reaches it.
    """
    # Not with this module, which every client imports.
    from urllib.parse import urlsplit, urlunsplit

    try:
        parts, reached = urlsplit(told), Address.parse(neighbour)
        host, port = parts.hostname, parts.port
    except ValueError:
        return told or None
    if not host:
        return None
    if host in ("*", "0.0.0.0", "::"):
        host = "127.0.0.1" if reached.transport == "ipc" else reached.host
        shown = f"[{host}]" if ":" in host else host
        return urlunsplit(parts._replace(netloc=shown if port is None else f"{shown}:{port}"))
    return told if reached.is_loopback or not is_loopback_host(host) else None


def is_loopback_host(host: str) -> bool:
    """Whether only processes of this machine reach a listener there. Names other than `localhost` count as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
