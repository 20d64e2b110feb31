"""What is known of an address where something else answers, or nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from scaler_protocol.errors import TransportError
from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.transport import DealerLink, RouterListener
from scaler_protocol.transport.probe import require_publisher
from scaler_protocol.transport.publisher import Publisher

UNKNOWN = "tcp://no.such.host.invalid:2345"


@pytest.fixture
def other_server() -> Iterator[str]:
    """Says something else, whoever comes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # Whoever has seen that this is no ZMTP may be gone by now.
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(100)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def no_server() -> str:
    return f"tcp://127.0.0.1:{free_ports(1)[0]}"


def link_to(address: str, is_over: Callable[[DealerLink], bool]) -> DealerLink:
    link = DealerLink(address, b"somebody")
    deadline = time.monotonic() + 10
    while not is_over(link):
        assert time.monotonic() < deadline, "it did not happen in time"
        link.wait(0.05)
        link.receive(1)
    link.close()
    return link


def test_a_link_knows_why_there_is_no_connection(other_server: str, no_server: str) -> None:
    link = link_to(other_server, lambda link: bool(link.trouble))
    assert (link.trouble, link.misdirected, link.has_answered) == ("the other end does not speak ZMTP", True, True)
    link = link_to(no_server, lambda link: bool(link.trouble))
    assert (link.trouble, link.misdirected) == ("Connection refused", False)


def test_a_link_to_a_publisher_is_misdirected() -> None:
    publisher = Publisher("tcp://127.0.0.1:0")
    try:

        def is_misdirected(link: DealerLink) -> bool:
            publisher.update_subscribers()
            return link.misdirected

        link = link_to(publisher.address, is_misdirected)
        assert "a ZeroMQ socket of type XPUB, which is what publishes to monitors, not a ROUTER" in link.trouble
    finally:
        publisher.close()


def test_a_host_that_is_unknown() -> None:
    link = DealerLink(UNKNOWN, b"somebody")
    assert link.trouble.startswith("the host cannot be found: ")
    assert not link.has_answered
    link.close()
    with pytest.raises(TransportError, match="cannot be the name of a host"):
        DealerLink("tcp://a..b:1", b"somebody")


def test_a_connection_ends_the_trouble() -> None:
    router = RouterListener("tcp://127.0.0.1:0")
    try:

        def is_connected(link: DealerLink) -> bool:
            router.receive(10)
            return link.connected

        assert link_to(router.address, is_connected).trouble == ""
    finally:
        router.close()


@contextmanager
def served(serve: Callable[[], object]) -> Iterator[None]:
    """A thread does what a listener's connections need."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            serve()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_what_monitors_connect_to(other_server: str, no_server: str) -> None:
    require_publisher(no_server)
    with pytest.raises(TransportError, match="does not speak ZMTP"):
        require_publisher(other_server)
    publisher = Publisher("tcp://127.0.0.1:0")
    with closing(publisher), served(publisher.update_subscribers):
        require_publisher(publisher.address)
    router = RouterListener("tcp://127.0.0.1:0")
    with (
        closing(router),
        served(lambda: router.receive(10)),
        pytest.raises(TransportError, match="monitors have an address of their own"),
    ):
        require_publisher(router.address, 10)


def test_a_listener_that_says_nothing_keeps_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        require_publisher(f"tcp://127.0.0.1:{silent.getsockname()[1]}", 0.2)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("address", [UNKNOWN, "tcp://192.0.2.1:0"])
def test_addresses_that_can_never_be_listened_on(address: str) -> None:
    with pytest.raises(TransportError) as caught:
        RouterListener(address)
    # Without a name server, nothing is known of a name.
    assert caught.value.is_final or "resolution" in str(caught.value)


def test_a_port_that_is_taken_may_become_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TransportError) as caught:
        RouterListener(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert not caught.value.is_final
