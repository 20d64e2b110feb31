"""A program that sends values with buffers there and back: equal, of the same type, and writable, whatever their size.

Prints one line of JSON: what went wrong.
"""

from __future__ import annotations

import array
import datetime
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from scaler import Client
from tests.integration.main_program import open_cluster

KIB = 1024
SIZES = [1, 7, 15, 16, 17, 32, 47, 48, 49, 56, 63, 64, 65, 96, 128, 255, 256, 257, 512, 1024]


class MyBytes(bytes):
    tag = "t"


class MyBytearray(bytearray):
    pass


class MyArray(np.ndarray):
    pass


def identity(value: Any) -> Any:
    return value


def make(kib: int, wrap: str) -> Any:
    made = np.arange(kib * KIB // 8, dtype=np.float64)
    return {"array": made, "list": [made, made + 1], "dict": {"a": made}, "tuple": (1, (made,))}[wrap]


def arrays_in(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value if not isinstance(item, int) for found in arrays_in(item)]


def writable(value: Any) -> bool:
    for found in arrays_in(value):
        if not found.flags.writeable:
            return False
        found[0] += 1
    return True


def writable_mapped(pair: Any) -> bool:
    return writable(pair)


def count_from_one(counted: Any) -> float:
    counted[0] += 1
    return float(counted[0])


def many(count: int, kib: int) -> list[Any]:
    return [np.full(kib * KIB // 8, float(i)) for i in range(count)]


def check_many(values: list[Any]) -> bool:
    return all(value[0] == i and value[-1] == i for i, value in enumerate(values)) and all(map(writable, values))


def fortran() -> Any:
    return np.asfortranarray(np.arange(60_000.0).reshape(200, 300))


def values() -> Iterator[tuple[str, Any]]:
    for length in (0, 10, 20_000):
        base = np.arange(length * 2)
        yield f"zero or more, {length}", base[:length].copy()
        yield f"not contiguous, {length}", base[::2]
        yield f"backwards, {length}", base[::-1]
        yield f"structured, {length}", np.zeros(length, dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")])
        yield f"objects, {length}", np.array([{"x": i} for i in range(length)], dtype=object)
        yield f"masked, {length}", np.ma.masked_array(base, mask=base % 2 == 0)
        yield f"dates, {length}", base.astype("datetime64[s]")
        yield f"texts, {length}", base.astype("U8")
        yield f"booleans, {length}", base % 3 == 0
        yield f"complex, {length}", base * 1j
        yield f"shape with a zero, {length}", np.zeros((length, 0, 3))
        yield f"bytes, {length}", bytes(length * 4)
        yield f"bytearray, {length}", bytearray(length * 4)
        yield f"subclass of bytes, {length}", MyBytes(length * 4)
        yield f"subclass of bytearray, {length}", MyBytearray(length * 4)
        yield f"array.array, {length}", array.array("d", range(length))
        yield f"subclass of an array, {length}", base.view(MyArray)
        yield f"memoryview, {length}", memoryview(bytearray(length * 4))
        yield f"memoryview of numbers, {length}", memoryview(array.array("i", range(length)))
        yield f"read-only memoryview, {length}", memoryview(bytes(length * 4))
    yield "fortran", fortran()
    yield "memoryview of two dimensions", np.arange(6.0).reshape(2, 3).data
    yield "read-only", np.broadcast_to(np.arange(10), (3, 10)).copy()
    yield "zero dimensions", np.array(3.0)
    yield "record array", np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    yield "matrix", np.ones((3, 4)).T
    yield "time zone", datetime.datetime.now(tz=datetime.UTC)
    with tempfile.NamedTemporaryFile() as file:
        mapped = np.memmap(file.name, dtype="f8", mode="w+", shape=(20_000,))
        mapped[:] = 3
        yield "mapped file", mapped


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ma.MaskedArray):
        return bool((left.mask == right.mask).all()) and left.compressed().tolist() == right.compressed().tolist()
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and bool(np.array_equal(left, right))
    if isinstance(left, memoryview):
        return (left.format, left.shape, left.readonly, left) == (right.format, right.shape, right.readonly, right)
    return bool(left == right)


def try_sizes(client: Client, expect: Callable[[str, Any, Any], None]) -> None:
    for kib in SIZES:
        for wrap in ("array", "list", "dict", "tuple"):
            value = make(kib, wrap)
            name = f"{wrap} of {kib} KiB"
            expect(f"{name}, result", writable(client.submit(make, kib, wrap).result()), True)
            expect(f"{name}, argument", client.submit(writable, value).result(), True)
            expect(f"{name}, map", client.map(writable_mapped, [value, value]), [True, True])
            expect(f"{name}, map result", all(map(writable, client.map(identity, [value, value]))), True)
            reference = client.send_object(value)
            expect(f"{name}, object", [client.submit(writable, reference).result() for _ in range(2)], [True, True])
            graph = {"first": (make, kib, wrap), "second": (writable, "first")}
            expect(f"{name}, graph", client.get(graph, ["second"])["second"], True)
        counted = client.send_object(np.zeros(kib * KIB // 8))
        expect(f"{kib} KiB, shared", {client.submit(count_from_one, counted).result() for _ in range(3)}, {1.0})
        frozen = np.zeros(kib * KIB // 8)
        frozen.flags.writeable = False
        expect(f"{kib} KiB, read-only", client.submit(identity, frozen).result().flags.writeable, False)


def try_many(client: Client, expect: Callable[[str, Any, Any], None]) -> None:
    for count, kib in ((1_100, 1), (3_000, 1), (1_100, 20), (1_500, 40)):
        name = f"{count} arrays of {kib} KiB"
        value = many(count, kib)
        expect(f"{name}, argument", client.submit(check_many, value).result(), True)
        expect(f"{name}, result", check_many(client.submit(many, count, kib).result()), True)
        expect(f"{name}, object", client.submit(check_many, client.send_object(value)).result(), True)
        expect(f"{name}, map", client.map(check_many, [value, value]), [True, True])
        captured = cast(Any, lambda value=value: check_many(value))
        expect(f"{name}, captured", client.submit(captured).result(), True)
        graph = {"first": (many, count, kib), "second": (check_many, "first")}
        expect(f"{name}, graph", client.get(graph, ["second"])["second"], True)


ROADS: dict[str, Callable[[Client, Any], Any]] = {
    "alone": lambda client, value: client.submit(identity, value).result(),
    "inside": lambda client, value: client.submit(identity, [value]).result()[0],
    "mapped": lambda client, value: client.map(identity, [value])[0],
    "object": lambda client, value: client.submit(identity, client.send_object(value)).result(),
}


def main() -> None:
    problems: dict[str, str] = {}

    def expect(name: str, found: Any, expected: Any) -> None:
        if found != expected:
            problems[name] = f"{found!r}, not {expected!r}"

    with open_cluster(sys.argv[1]) as address, Client(address) as client:
        for part in (try_sizes, try_many):
            try:
                part(client, expect)
            except Exception as error:
                problems[part.__name__] = f"{type(error).__name__}: {str(error)[:300]}"
        for name, value in values():
            if not isinstance(value, memoryview):
                # As any pool answers.
                assert same(value, pickle.loads(pickle.dumps(value))), name
            for road, give in ROADS.items():
                try:
                    found = give(client, value)
                    if not same(found, value):
                        problems[f"{name}, {road}"] = f"{type(found)} {found!r}"[:200]
                except Exception as error:
                    problems[f"{name}, {road}"] = f"{type(error).__name__}: {str(error)[:200]}"
    print(json.dumps(problems))


if __name__ == "__main__":
    main()
