"""Addresses: what is accepted, what is refused and how, and where companions are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.address import IPC_PATH_BYTES_MAX, Address, AddressError, reached_beside, url_reached_beside


@pytest.mark.parametrize(
    "text",
    [
        "tcp://127.0.0.1:2345",
        "tcp://host.example:0",
        "tcp://*:1",
        "tcp://[::1]:65535",
        "ipc:///tmp/scaler",
        "ipc://@name",
        "ipc:///tmp/with/slashes/",
    ],
)
def test_an_address_reads_back_as_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1:2345", "expected tcp://host:port or ipc://path"),
        ("udp://127.0.0.1:2345", "expected tcp://host:port or ipc://path"),
        ("", "expected tcp://host:port"),
        ("tcp://127.0.0.1", "has no port"),
        ("tcp://:2345", "no usable host"),
        ("tcp://a b:2345", "no usable host"),
        ("tcp://host:", "port '' is not a number"),
        ("tcp://host:65536", "not a number from 0 to 65535"),
        ("tcp://host:-1", "port '-1' is not a number"),
        ("tcp://host:٣", "is not a number"),
        ("tcp://::1:2345", "in brackets"),
        ("tcp://[nonsense]:2345", "not an IPv6 address"),
        ("tcp://host:2345/", "nothing may follow the port, not even '/'; did you mean tcp://host:2345\\?"),
        ("tcp://host:2345/path", "not even '/path'; did you mean tcp://host:2345"),
        ("tcp://host/", "not even '/'$"),
        ("host:2345", "did you mean tcp://host:2345\\?"),
        ("http://host:2345/x", "did you mean tcp://host:2345\\?"),
        ("[::1]:2345", "did you mean tcp://\\[::1\\]:2345\\?"),
        ("2345", "did you mean tcp://127.0.0.1:2345\\?"),
        ("99999", "expected tcp://host:port or ipc://path$"),
        ("host", "expected tcp://host:port or ipc://path$"),
        ("tcp://a\0b:2345", "no usable host"),
        ("ipc:///tmp/\udcff", "not UTF-8"),
        ("tcp://a\udcff:2345", "not UTF-8"),
        ("ipc://", "has no path"),
        ("ipc://" + "x" * (IPC_PATH_BYTES_MAX + 1), "at most 107 bytes"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        Address.parse(text)


def test_the_scheme_is_read_in_any_case() -> None:
    assert Address.parse(" TCP://Host:1 ") == Address("tcp", "Host", 1)


@given(st.text())
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    for prefix in ("", "tcp://", "ipc://", "tcp://["):
        try:
            address = Address.parse(prefix + text)
        except AddressError:
            continue
        assert Address.parse(str(address)) == address


def test_companions_are_so_many_ports_further() -> None:
    assert str(Address.parse("tcp://h:2345").with_port_offset(2)) == "tcp://h:2347"
    assert str(Address.parse("tcp://h:0").with_port_offset(2)) == "tcp://h:0"
    assert str(Address.parse("ipc:///tmp/s").with_port_offset(1)) == "ipc:///tmp/s_1"
    with pytest.raises(AddressError, match="port 65536 derived from tcp://h:65535"):
        Address.parse("tcp://h:65535").with_port_offset(1)


def test_what_others_can_reach_and_connect_to() -> None:
    loopback = ["tcp://127.0.0.1:1", "tcp://127.8.8.8:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///tmp/s"]
    reachable = ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://10.0.0.1:1", "tcp://example.org:1"]
    assert all(Address.parse(text).is_loopback for text in loopback)
    assert not any(Address.parse(text).is_loopback for text in reachable)
    assert not Address.parse("tcp://*:1").can_be_connected
    assert not Address.parse("tcp://127.0.0.1:0").can_be_connected
    assert Address.parse("tcp://127.0.0.1:1").can_be_connected


@pytest.mark.parametrize(
    ("told", "neighbour", "expected"),
    [
        ("tcp://0.0.0.0:7", "tcp://10.0.0.5:2345", "tcp://10.0.0.5:7"),
        ("tcp://[::]:7", "tcp://[fe80::1]:2345", "tcp://[fe80::1]:7"),
        ("tcp://*:7", "tcp://head.example:2345", "tcp://head.example:7"),
        ("tcp://10.0.0.6:7", "tcp://10.0.0.5:2345", "tcp://10.0.0.6:7"),
        ("tcp://0.0.0.0:7", "ipc:///tmp/s", "tcp://0.0.0.0:7"),
        ("", "tcp://10.0.0.5:2345", ""),
        ("tcp://0.0.0.0:7", "in this process", "tcp://0.0.0.0:7"),
    ],
)
def test_what_listens_everywhere_is_reached_where_its_neighbour_is(told: str, neighbour: str, expected: str) -> None:
    assert reached_beside(told, neighbour) == expected


@pytest.mark.parametrize(
    ("told", "neighbour", "reached"),
    [
        ("http://127.0.0.1:50001", "tcp://127.0.0.1:2345", "http://127.0.0.1:50001"),
        ("http://localhost:50001/", "tcp://[::1]:2345", "http://localhost:50001/"),
        ("http://127.0.0.1:50001", "ipc:///tmp/a", "http://127.0.0.1:50001"),
        # Only the scheduler's machine reaches it, and this is another one, or claims to be.
        ("http://127.0.0.1:50001", "tcp://node-7:2345", None),
        ("http://[::1]:50001", "tcp://10.0.0.7:2345", None),
        # It listens everywhere.
        ("http://0.0.0.0:50001", "tcp://10.0.0.7:2345", "http://10.0.0.7:50001"),
        ("https://[::]:50001/pages", "tcp://[fd00::7]:2345", "https://[fd00::7]:50001/pages"),
        ("http://0.0.0.0", "ipc:///tmp/a", "http://127.0.0.1"),
        # Behind a proxy: as it was said.
        ("https://scaler.example.org/prod", "tcp://10.0.0.7:2345", "https://scaler.example.org/prod"),
        ("", "tcp://10.0.0.7:2345", None),
        ("nonsense", "tcp://10.0.0.7:2345", None),
    ],
)
def test_a_web_service_beside_another_one_is_reached_there(told: str, neighbour: str, reached: str | None) -> None:
    assert url_reached_beside(told, neighbour) == reached
