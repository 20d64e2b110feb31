"""Sockets for addresses: which road a connection takes."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

import pytest

from scaler_protocol.address import Address
from scaler_protocol.errors import TransportError
from scaler_protocol.transport import endpoints
from scaler_protocol.transport.endpoints import SHORT_ROAD, begin_connect, listen, local_name

pytestmark = pytest.mark.skipif(not SHORT_ROAD, reason="this system has no short road")

LISTENABLE = "tcp://127.0.0.1:0"


class Listening:
    """Listens on an address for as long as it is open."""

    def __init__(self, address: str) -> None:
        self.sockets, self.address = listen(address, 5)
        self.port = Address.parse(self.address).port

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def family_towards(address: str) -> socket.AddressFamily:
    with closing(begin_connect(address)) as connecting:
        return connecting.family


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.3", "localhost"])
def test_the_short_road_leads_to_who_listens_on_loopback(host: str) -> None:
    with closing(Listening(f"tcp://{host}:0")) as listening:
        assert family_towards(f"tcp://{host}:{listening.port}") == socket.AF_UNIX


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])
def test_who_listens_everywhere_is_reached_by_either_road(host: str) -> None:
    with closing(Listening(f"tcp://{host}:0")) as listening:
        assert family_towards(f"tcp://127.0.0.1:{listening.port}") == socket.AF_UNIX
        assert family_towards(f"tcp://127.0.0.2:{listening.port}") == socket.AF_INET


def test_another_address_of_the_same_port_is_not_mistaken_for_it() -> None:
    with closing(Listening(LISTENABLE)) as listening:
        assert family_towards(f"tcp://127.0.0.2:{listening.port}") == socket.AF_INET


def test_only_loopback_addresses_have_a_name() -> None:
    assert local_name("127.0.0.1", 6378) == "\0scaler-tcp://127.0.0.1:6378"
    assert local_name("::1", 6378) == "\0scaler-tcp://[::1]:6378"
    # On another machine it would be found by whoever is this machine's own.
    assert local_name("192.0.2.1", 6378) is None
    assert local_name("0.0.0.0", 6378) is None


def test_who_listens_by_tcp_alone_is_found() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert family_towards(f"tcp://127.0.0.1:{port}") == socket.AF_INET


def test_a_name_that_somebody_holds_is_not_shared() -> None:
    with closing(Listening(LISTENABLE)) as listening:
        port = listening.port
    name = local_name("127.0.0.1", port)
    assert name is not None
    with closing(socket.socket(socket.AF_UNIX)) as stranger:
        stranger.bind(name)
        with pytest.raises(TransportError, match=f"^cannot listen on tcp://127.0.0.1:{port}: Address already in use$"):
            Listening(f"tcp://127.0.0.1:{port}")
    with closing(Listening(f"tcp://127.0.0.1:{port}")):
        pass


def test_services_that_may_not_use_local_sockets_use_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidding(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any, **named: Any) -> None:
            if family == socket.AF_UNIX:
                raise OSError("Address family not supported by protocol")
            super().__init__(family, *arguments, **named)

    monkeypatch.setattr(endpoints, "ClosingSocket", Forbidding)
    with closing(Listening(LISTENABLE)) as listening:
        assert len(listening.sockets) == 1
        assert family_towards(listening.address) == socket.AF_INET
