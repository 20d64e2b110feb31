"""Values that cannot be used are refused where they are handed over, by name, and the client goes on."""

from __future__ import annotations

import concurrent.futures as cf
import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from scaler import Client, errors
from scaler.client.checks import CAPABILITIES_MAX, checked_capabilities
from scaler.serialization import arguments
from scaler.testing import InProcessCluster


def keywords(**values: Any) -> list[str]:
    return list(values)


def count(*values: Any) -> int:
    return len(values)


CAPABILITIES: list[tuple[Any, type[Exception], str]] = [
    ({"gpu": 2**70}, ValueError, "capability 'gpu' has a value of more than 64 bits"),
    ({"gpu": -(2**70)}, ValueError, "capability 'gpu' has a value of more than 64 bits"),
    ({"a\udcff": -1}, ValueError, r"capability 'a\\udcff' has characters that cannot be encoded"),
    ({"n" * 70_000: -1}, ValueError, "capability 'nnn.*… has 70,000 bytes; at most 1,000"),
    ({"": 1}, ValueError, "a name is empty"),
    ({5: 1}, TypeError, "the name 5 is a int, not a str"),
    ({"gpu": True}, TypeError, "capability 'gpu' is True"),
    ({"gpu": None}, TypeError, "value of 'gpu' is None"),
    ({"gpu": 1.5}, TypeError, "value of 'gpu' is 1.5"),
    (["gpu"], TypeError, "capabilities are names with integers"),
    ("gpu", TypeError, "capabilities are names with integers"),
    ({str(number): 1 for number in range(CAPABILITIES_MAX + 1)}, ValueError, "1,001 capabilities"),
]


@pytest.mark.parametrize(("capabilities", "kind", "text"), CAPABILITIES)
def test_capabilities_that_cannot_be_sent(client: Client, capabilities: Any, kind: type[Exception], text: str) -> None:
    waiting = client.submit(math.sqrt, 16)
    for call in (
        lambda: client.submit_verbose(abs, (-1,), capabilities=capabilities),
        lambda: client.map(abs, [-1], capabilities=capabilities),
        lambda: client.starmap(pow, [(2, 3)], capabilities=capabilities),
        lambda: client.get({"a": (abs, -1)}, ["a"], capabilities=capabilities),
    ):
        with pytest.raises(kind, match=text):
            call()
    assert waiting.result(5) == 4
    assert client.submit(abs, -1).result(5) == 1


def test_capabilities_of_any_integer_that_fits() -> None:
    given = {"b": np.int64(3), "a": -1, "least": -(2**63), "most": 2**63 - 1, "ü": 0}
    assert checked_capabilities(given) == (("a", -1), ("b", 3), ("least", -(2**63)), ("most", 2**63 - 1), ("ü", 0))
    assert checked_capabilities(None) == checked_capabilities({}) == ()


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("a\udcff", ValueError, "cannot be encoded as UTF-8"),
        ("n" * 70_000, ValueError, "70,000 bytes; at most 1,000"),
        (5, TypeError, "name must be a str or None, not 5"),
        (b"bytes", TypeError, "name must be a str or None"),
    ],
)
def test_names_of_objects(client: Client, name: Any, kind: type[Exception], text: str) -> None:
    kept = client.send_object(list(range(1000)), name="kept")
    with pytest.raises(kind, match=text):
        client.send_object([1, 2], name=name)
    assert client.submit(len, kept).result(5) == 1000


@pytest.mark.parametrize("large", [b"", b"x" * 300_000])
def test_any_number_of_arguments_and_any_name_python_takes(client: Client, large: bytes) -> None:
    names = ["n" * 70_000, "a\udcff", "", "a\0b", "ordinary"]
    values: dict[str, Any] = dict.fromkeys(names, large)
    assert client.submit(keywords, **values).result(5) == names
    assert client.submit(count, *range(70_000), large).result(20) == 70_001
    many = {f"k{number}": number for number in range(70_000)} | {"large": large}
    assert len(client.submit(keywords, **many).result(20)) == 70_001


BAD_SECONDS: list[tuple[Any, type[Exception]]] = [
    (math.nan, ValueError),
    (math.inf, ValueError),
    (1e300, ValueError),
    (10**400, ValueError),
    (0, ValueError),
    (-1, ValueError),
    ("60", TypeError),
    (None, TypeError),
    (True, TypeError),
    ([60], TypeError),
]


@pytest.mark.parametrize("setting", ["timeout_seconds", "heartbeat_interval_seconds"])
@pytest.mark.parametrize(("value", "kind"), BAD_SECONDS)
def test_times_that_are_none(setting: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=setting):
        Client("tcp://127.0.0.1:1", **{setting: value})


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"address": 5}, TypeError, "address must be a text"),
        ({"address": "tcp://a\udcff:1"}, ValueError, "address .* cannot be encoded"),
        ({"address": "localhost:2345"}, ValueError, "expected tcp://host:port"),
        ({"object_storage_address": b"tcp://127.0.0.1:1"}, TypeError, "object_storage_address must be a text"),
        ({"serializer": 5}, TypeError, "serializer 5 has no method serialize"),
        ({"serializer": "pickle"}, TypeError, "has no method serialize"),
        ({"stream_output": "no"}, TypeError, "stream_output must be True or False, not 'no'"),
        ({"profiling": "yes"}, TypeError, "profiling must be True or False"),
    ],
)
def test_other_settings(settings: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Client(**({"address": "tcp://127.0.0.1:1"} | settings))


def test_unusual_settings_that_work(cluster: InProcessCluster) -> None:
    with Client(
        cluster.address,
        timeout_seconds=Decimal("1e9"),  # type: ignore[arg-type]
        heartbeat_interval_seconds=np.float32(0.5),  # type: ignore[arg-type]
        stream_output=np.True_,  # type: ignore[arg-type]
        profiling=1,  # type: ignore[arg-type]
    ) as client:
        assert client.submit(abs, -1).result(5) == 1


def test_times_of_futures(client: Client, cluster: InProcessCluster) -> None:
    cluster.hold()
    future = client.submit(abs, -1)
    for wait in (future.result, future.exception):
        with pytest.raises(TypeError, match="timeout must be a number of seconds, not '5'"):
            wait("5")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="nan"):
            wait(math.nan)
        for gone in (-1, -math.inf, 0, Decimal("0.001")):
            with pytest.raises(TimeoutError):
                wait(gone)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        future.cancel("5")  # type: ignore[arg-type]
    for wait_for_any in (cf.wait, lambda futures, timeout: list(cf.as_completed(futures, timeout))):
        with pytest.raises(ValueError, match="nan"):
            wait_for_any([future], timeout=math.nan)
    cluster.resume()
    for endless in (math.inf, 1e300, 10**400, None):
        assert future.result(endless) == 1
    # As everywhere: what is done does not look at it.
    assert future.result(math.nan) == 1


class ReturnsText:
    @staticmethod
    def serialize(_value: Any) -> Any:
        return "text"

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return payload


def test_a_serializer_whose_bytes_are_none(cluster: InProcessCluster) -> None:
    with (
        Client(cluster.address, serializer=ReturnsText) as client,  # type: ignore[arg-type]
        pytest.raises(TypeError, match=re.escape("serialize returned a str, not bytes")),
    ):
        client.submit(abs, -1)


def test_values_over_what_an_object_can_be(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "OBJECT_BYTES_MAX", 5_200_000)
    limit = r" takes [\d,]+ bytes; one value can have 5,200,000 at most"
    large = b"x" * 5_210_000
    captured = lambda: large  # noqa: E731
    for call, what in (
        (lambda: client.submit(len, large), "argument 1 of builtins.len"),
        (lambda: client.submit(keywords, k=bytearray(large)), "argument 'k' of .*keywords"),
        (lambda: client.submit(len, np.zeros(5_210_000, "u1")), "argument 1 of builtins.len"),
        (
            lambda: client.submit(count, *[str(number) * 400 for number in range(4000)], b"y" * 5_190_000),
            "the list of the arguments of .*count",
        ),
        (lambda: client.submit(captured), "function .*<lambda>"),
        (lambda: client.map(len, [b"", large]), "item 1: argument 1 of builtins.len"),
        (lambda: client.starmap(pow, [(1, 2), (int.from_bytes(large), 2)]), "item 1: argument 1 of builtins.pow"),
        (lambda: client.get({"a": (len, large)}, "a"), "node 'a': argument 1 of builtins.len"),
        (lambda: client.send_object(large), "the object"),
    ):
        with pytest.raises(errors.SerializationError, match=what + limit):
            call()
    assert client.submit(len, large[:5_190_000]).result(5) == 5_190_000
