"""Arguments to payloads: what is inline, what becomes an object, and that nothing changes afterwards."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import os
import pickle
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaler.client.object_reference import ObjectReference
from scaler.errors import SerializationError
from scaler.serialization import Serializer
from scaler.serialization.arguments import Buffer, Packer
from scaler.serialization.pickling import dumps, is_plain
from scaler_protocol.objects.segments.batch_place import ITEMS_MAX
from scaler_protocol.payloads.framing import (
    INLINE_BYTES_MAX,
    OBJECT,
    PER_CALL,
    SHARED_BYTES_MIN,
    Source,
    frame_arguments,
    unframe_arguments,
    unframe_function,
)
from scaler_protocol.payloads.unpickled import (
    UNPICKLED_BYTES_MIN,
    BufferedPickle,
    LatePayload,
    PayloadParts,
    UnpickledBytes,
)
from scaler_protocol.payloads.values import load_arguments, load_chunk, load_value
from scaler_protocol.wire.messages import TaskKind


class Storage:
    """An `ObjectSink` that is a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[bytes, list[bytes]] = {}
        self.released: list[bytes] = []

    def store(self, buffers: Sequence[Buffer]) -> bytes:
        object_id = b"%16d" % len(self.objects)
        self.objects[object_id] = [bytes(buffer) for buffer in buffers]
        return object_id

    def fetch(self, object_id: bytes) -> list[memoryview]:
        return [memoryview(buffer) for buffer in self.objects[object_id]]

    def resolve(self, reference: ObjectReference) -> bytes:
        return reference.object_id

    def hold(self, object_id: bytes) -> bytes:
        return object_id

    def hold_inner(self, references: Sequence[ObjectReference]) -> tuple[bytes, ...]:
        return tuple(reference.object_id for reference in references)

    def release(self, object_ids: Sequence[bytes]) -> None:
        self.released += object_ids


class Upside(Serializer):
    """Recognizable: a pickle, reversed."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        return pickle.dumps(obj)[::-1]

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return pickle.loads(payload[::-1])


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def packer(storage: Storage) -> Packer:
    return Packer(storage)


def give_back(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


def read(storage: Storage, packed: LatePayload, serializer: Any = None, kind: int = TaskKind.CALL) -> Any:
    """Return the arguments of a payload, of a chunk those of all items, as whoever runs the task restores them."""
    payload = bytes(packed)

    def arguments(payload: bytes) -> Any:
        args, kwargs = load_arguments(payload, (), serializer, storage.fetch)
        return tuple(args), kwargs

    if kind != TaskKind.MAP_CHUNK:
        return arguments(payload)
    chunk = load_chunk(payload, storage.fetch)
    if isinstance(chunk, list):
        return [arguments(item) for item in chunk]
    star, items = chunk
    return [(tuple(item) if star else (item,), {}) for item in items]


@pytest.mark.parametrize(
    "value",
    [
        1,
        "text",
        b"bytes",
        None,
        [1, [2, 3]],
        {"a": (1, 2)},
        {1, 2},
        1 + 2j,
        range(3),
        bytearray(b"x"),
        np.int64(3),
        10**30,
        [1] * 1000,
    ],
)
def test_small_values_travel_inside(storage: Storage, packer: Packer, value: Any) -> None:
    packed = packer.call(give_back, (value,), {"name": value})
    assert not packed.objects
    assert len(packed.payload) < INLINE_BYTES_MAX
    assert read(storage, packed.payload) == ((value,), {"name": value})


def test_what_arguments_share_stays_shared(storage: Storage, packer: Packer) -> None:
    shared: list[int] = []
    args, _ = read(storage, packer.call(give_back, (shared, {"k": shared}), {}).payload)
    assert args[0] is args[1]["k"]


@pytest.mark.parametrize(
    ("value", "buffers"),
    [
        (bytes(300_000), 2),
        (bytearray(300_000), 2),
        ("x" * 300_000, 1),
        (np.arange(50_000), 2),
        ([bytes(1000) for _ in range(300)], 1),
        ({"a": np.arange(50_000), "b": np.arange(60_000)}, 3),
    ],
)
def test_large_values_become_objects(storage: Storage, packer: Packer, value: Any, buffers: int) -> None:
    packed = packer.call(give_back, (1, value), {"k": 2})
    assert len(packed.payload) < 1000
    assert list(packed.objects) == list(storage.objects)
    assert [len(parts) for parts in storage.objects.values()] == [buffers]
    (one, restored), kwargs = read(storage, packed.payload)
    assert (one, kwargs) == (1, {"k": 2})
    assert type(restored) is type(value)
    np.testing.assert_equal(restored, value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: os.urandom(100_000),
        lambda: bytearray(os.urandom(100_000)),
        lambda: os.urandom(50_000).hex(),
        lambda: np.random.default_rng().random(10_000),
        lambda: {"within": np.random.default_rng().random(10_000)},
        lambda: np.arange(10_000).astype("datetime64[s]")[::-1],
    ],
)
def test_a_middling_value_becomes_an_object_when_it_comes_again(storage: Storage, packer: Packer, make: Any) -> None:
    value = make()
    first = packer.call(give_back, (1, value), {})
    if not (isinstance(value, np.ndarray) and value.dtype.kind == "M"):
        # An array of dates cannot be looked at without copying it.
        assert not first.objects
    again = packer.call(give_back, (2, value), {})
    assert len(again.objects) == 1
    for number, packed in ((1, first), (2, again)):
        (one, restored), _ = read(storage, packed.payload)
        assert one == number
        np.testing.assert_equal(restored, value)
    assert not packer.call(give_back, (1, make()), {}).objects or isinstance(value, np.ndarray)


def test_many_small_arguments_become_one_object(storage: Storage, packer: Packer) -> None:
    values = tuple(bytes([i % 256]) * 1000 for i in range(300))
    packed = packer.call(give_back, values, {})
    assert len(packed.objects) == 1
    assert read(storage, packed.payload)[0] == values


def test_a_large_value_in_a_class_of_its_own(storage: Storage, packer: Packer) -> None:
    class Holder:
        def __init__(self) -> None:
            self.array = np.zeros(50_000)

    packed = packer.call(give_back, (Holder(),), {})
    assert len(packed.objects) == 1
    (restored,), _ = read(storage, packed.payload)
    assert restored.array.sum() == 0


def test_references_are_named_apart(storage: Storage, packer: Packer) -> None:
    reference = ObjectReference(b"r" * 16, b"c" * 16)
    storage.objects[b"r" * 16] = [b"P" + pickle.dumps("the object")]
    packed = packer.call(give_back, (reference, 1), {"k": reference})
    assert packed.objects == (b"r" * 16, b"r" * 16)
    positional, keyword = unframe_arguments(bytes(packed.payload))
    assert [argument.source for argument in (*positional, *keyword.values())] == [
        Source.OBJECT,
        Source.VALUE,
        Source.OBJECT,
    ]
    assert read(storage, packed.payload) == (("the object", 1), {"k": "the object"})


SMALL, MIDDLING, LARGE = 10, 60_000, 300_000


@pytest.mark.parametrize("kind", ["call", "starmap", "get"])
@pytest.mark.parametrize("beside", [None, 1, "x" * MIDDLING, bytes(LARGE), [bytes(MIDDLING)], [[0] * LARGE]])
@pytest.mark.parametrize(("size", "is_kept"), [(SMALL, True), (MIDDLING, False), (LARGE, False)])
def test_what_arguments_share_does_not_depend_on_what_came_before(
    storage: Storage, packer: Packer, size: int, is_kept: bool, beside: Any, kind: str
) -> None:
    for make in (lambda: [bytes(size)], lambda: bytearray(size), lambda: np.zeros(size // 8)):
        shared: Any = make()
        args = (shared, {"a": shared}, beside, 2)
        for _ in range(3):
            if kind == "call":
                values, kwargs = read(storage, packer.call(give_back, args, {"k": shared}).payload)
            elif kind == "starmap":
                chunk = packer.chunk(give_back, True, [(*args, shared)]).payload
                ((values, _),) = read(storage, chunk, kind=TaskKind.MAP_CHUNK)
                values, kwargs = values[:-1], {"k": values[-1]}
            else:
                arguments = packer.argument_list(give_back, [])
                for label, value in enumerate((*args, shared)):
                    arguments.add_value(label, value)
                *values, last = read(storage, frame_arguments(arguments.finish(), {}))[0]
                kwargs = {"k": last}
            # Whether an item is kept whole depends on what else is in its chunk, where its size is not known without pickling.
            if kind != "starmap" or size != MIDDLING or type(shared) is not list:
                assert (values[0] is values[1]["a"], values[0] is kwargs["k"]) == (is_kept, is_kept)


def test_a_list_is_unpickled_once(storage: Storage, packer: Packer) -> None:
    packed = packer.call(give_back, (bytes(300_000), [1], [2.5]), {"k": "v"})
    positional, keyword = unframe_arguments(bytes(packed.payload))
    sources = [argument.source for argument in (*positional, *keyword.values())]
    assert sources == [Source.OBJECT, Source.SHARED, Source.SHARED, Source.SHARED]
    assert [bool(argument.data) for argument in (*positional[1:], *keyword.values())] == [True, False, False]
    assert read(storage, packed.payload) == ((bytes(300_000), [1], [2.5]), {"k": "v"})


class Pickles:
    """Counts how often it is pickled."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.times = 0

    def __reduce__(self) -> tuple[Any, ...]:
        self.times += 1
        return bytes, (bytes(self.size),)


@pytest.mark.parametrize("size", [SMALL, MIDDLING, LARGE])
def test_one_beside_numbers_and_text_is_pickled_once(storage: Storage, packer: Packer, size: int) -> None:
    value = Pickles(size)
    packed = packer.call(give_back, (bytes(300_000), value, 2.5), {"k": "v"})
    assert value.times == 1
    assert read(storage, packed.payload) == ((bytes(300_000), bytes(size), 2.5), {"k": "v"})


@pytest.mark.parametrize("beside", [bytes(300_000), "x" * 60_000])
@pytest.mark.parametrize("lock", [threading.Lock(), [bytes(60_000), threading.Lock()]])
def test_the_argument_at_fault_beside_a_large_one_is_named(
    storage: Storage, packer: Packer, lock: Any, beside: Any
) -> None:
    with pytest.raises(SerializationError, match=r"argument 3 of .*give_back cannot be serialized: .*lock"):
        packer.call(give_back, (beside, 1, lock), {"k": [2]})
    assert storage.released == list(storage.objects)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("star", "make"), [(False, lambda value: value), (True, lambda value: (value, 1))])
def test_chunks(storage: Storage, packer: Packer, large: bool, star: bool, make: Any) -> None:
    items = [make(bytes([i]) * (300_000 if large else 10)) for i in range(3)]
    packed = packer.chunk(give_back, star, items)
    assert len(packed.objects) == (3 if large else 0)
    calls = read(storage, packed.payload, kind=TaskKind.MAP_CHUNK)
    assert [args if star else args[0] for args, _ in calls] == items


def test_a_chunk_of_many_middling_items_is_one_object(storage: Storage, packer: Packer) -> None:
    items = [bytes([i]) * 10_000 for i in range(40)]
    packed = packer.chunk(give_back, False, items)
    assert len(packed.objects) == 1
    assert [args[0] for args, _ in read(storage, packed.payload, kind=TaskKind.MAP_CHUNK)] == items


def test_a_chunk_with_references(storage: Storage, packer: Packer) -> None:
    storage.objects[b"r" * 16] = [b"P" + pickle.dumps("the object")]
    packed = packer.chunk(give_back, False, [ObjectReference(b"r" * 16, b"c" * 16), 2])
    assert packed.objects == (b"r" * 16,)
    calls = read(storage, packed.payload, kind=TaskKind.MAP_CHUNK)
    assert [args for args, _ in calls] == [("the object",), (2,)]


@pytest.mark.parametrize("kwargs", [{}, {"k": 1}])
def test_the_argument_at_fault_is_named(packer: Packer, kwargs: dict[str, Any]) -> None:
    with pytest.raises(SerializationError, match=r"argument 2 of .*give_back cannot be serialized: .*lock") as caught:
        packer.call(give_back, (1, threading.Lock()), kwargs)
    assert isinstance(caught.value, TypeError)


def test_a_keyword_argument_at_fault_is_named(packer: Packer) -> None:
    with pytest.raises(SerializationError, match="argument 'k' of"):
        packer.call(give_back, (), {"k": threading.Lock()})


@pytest.mark.parametrize("is_partial", [False, True])
def test_a_large_function_that_is_made_anew_leaves_no_object_that_no_task_names(
    storage: Storage, packer: Packer, is_partial: bool
) -> None:
    def made() -> Any:
        function = lambda *_: 7  # noqa: E731
        function.__doc__ = "x" * 2_000_000
        return functools.partial(function, 1) if is_partial else function

    # Nobody would ever delete it, and what is put behind it would wait for its task.
    named = [name for _ in range(4) for name in packer.called_function(made()).objects]
    assert len(named) == 4
    assert sorted(named + storage.released) == sorted(storage.objects)


def test_objects_are_given_back_when_another_argument_fails(storage: Storage, packer: Packer) -> None:
    with pytest.raises(SerializationError):
        packer.call(give_back, (bytes(100_000), threading.Lock()), {})
    assert storage.released == list(storage.objects)


def test_an_item_at_fault(storage: Storage, packer: Packer) -> None:
    with pytest.raises(SerializationError, match="item"):
        packer.chunk(give_back, False, [1, threading.Lock()])


def test_a_function_at_fault(packer: Packer) -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"function .*lambda.* cannot be serialized"):
        packer.function(lambda: lock)
    with pytest.raises(TypeError, match="3 is not callable"):
        packer.function(3)


@pytest.mark.parametrize("serializer", [None, Upside])
def test_references_inside_values_are_objects_too(storage: Storage, serializer: Any) -> None:
    packer = Packer(storage, serializer)
    reference = ObjectReference(b"inside of others", b"somebody's client")
    pickled = packer.function(functools.partial(give_back, reference))
    assert pickled.objects == (reference.object_id,)
    for args in ([reference],), ({"a": (reference,)},), (bytes(300_000), [reference]):
        assert packer.call(give_back, args, {}).objects[-1] == reference.object_id
    assert packer.call(give_back, ([1, 2],), {}).objects == ()
    assert packer.chunk(give_back, False, [[reference], [2]]).objects == (reference.object_id,)


def test_a_function_with_a_large_closure_is_an_object(storage: Storage, packer: Packer) -> None:
    array = np.arange(50_000)

    def total() -> int:
        return int(array.sum())

    pickled = packer.function(total)
    assert pickled.body == PER_CALL + OBJECT + pickled.objects[0]
    assert list(pickled.objects) == list(storage.objects)
    _, body = unframe_function(pickled.body)
    assert load_value(body, None, storage.fetch)() == total()


def test_a_custom_serializer_is_used_for_function_and_arguments(storage: Storage) -> None:
    packer = Packer(storage, Upside)
    pickled = packer.function(give_back)
    assert pickled.body == b"S" + Upside.serialize(give_back)
    packed = packer.call(give_back, (1, "x" * 300_000), {"k": 2})
    assert len(packed.objects) == 1
    positional, _ = unframe_arguments(bytes(packed.payload))
    assert positional[0].data == Upside.serialize(1)
    assert read(storage, packed.payload, Upside) == ((1, "x" * 300_000), {"k": 2})
    assert packer.serializer_function is not None
    assert pickle.loads(packer.serializer_function.body[1:]).deserialize(Upside.serialize(5)) == 5


class OwnZone(datetime.tzinfo):
    """A time zone that workers do not have."""

    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=1)

    dst = utcoffset

    def tzname(self, _: datetime.datetime | None) -> str:
        return "own"


class OwnNumber(np.float64):
    pass


OwnNumber.__module__, OwnNumber.__qualname__, OwnNumber.__name__ = "numpy", "float64", "float64"


def test_scalars_of_libraries_are_plain() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    scalars = [
        *(np.dtype(code).type(3) for code in "?bhilBHILefdgFDG"),
        *(np.datetime64("2026-01-02"), np.timedelta64(3, "s")),
        *(moment, moment.date(), moment.time(), moment.replace(tzinfo=datetime.UTC), datetime.timedelta(3)),
        *(decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=5)),
    ]
    for scalar in scalars:
        assert is_plain(scalar), type(scalar)
        copied = pickle.loads(dumps(scalar))
        assert (type(copied), copied) == (type(scalar), scalar)
    assert is_plain([scalars])


def test_classes_of_a_program_are_no_scalars() -> None:
    for value in (
        OwnNumber(3.0),
        datetime.datetime(2026, 1, 2, tzinfo=OwnZone()),
        datetime.time(3, tzinfo=OwnZone()),
        np.void(b"abc"),
        np.array([(1, object())], dtype="i4,O")[0],
    ):
        assert not is_plain(value)
        assert not is_plain([value])


def test_what_is_plain() -> None:
    class Number(int):
        pass

    assert is_plain([1, (2.0, "x"), {"k": None}])
    assert is_plain(np.zeros(3))
    assert not is_plain(np.array([object()]))
    assert not is_plain(Number(3))
    assert not is_plain([Number(3)])
    assert not is_plain(lambda: None)


LONE = b"x" * UNPICKLED_BYTES_MIN


def _distinct(size: int, count: int) -> list[bytes]:
    return [bytes([number]) * size for number in range(count)]


def test_bytes_alone_are_not_pickled_where_they_may_lie_elsewhere(storage: Storage) -> None:
    packer = Packer(storage, None, lambda: 2**20, leaves_unpickled=True)
    for size in (UNPICKLED_BYTES_MIN, SHARED_BYTES_MIN + 1, INLINE_BYTES_MAX + 1, 2**20):
        value = bytes(size)
        packed = packer.linked_call(give_back, (value,), {})
        assert type(packed.payload) is UnpickledBytes
        assert packed.payload.values == (value,)
        assert size < len(bytes(packed.payload)) <= len(packed.payload)
        assert read(storage, bytes(packed.payload)) == ((value,), {})
        # A second time, a large one is an object.
        again = packer.linked_call(give_back, (value,), {})
        assert (type(again.payload) is not UnpickledBytes and len(again.objects) == 1) is (size > SHARED_BYTES_MIN)
    items = _distinct(UNPICKLED_BYTES_MIN, 4)
    chunk = packer.chunk(give_back, False, items)
    assert type(chunk.payload) is UnpickledBytes
    assert chunk.payload.values == tuple(items)
    assert read(storage, bytes(chunk.payload), kind=TaskKind.MAP_CHUNK) == [((item,), {}) for item in items]
    alone = packer.chunk(give_back, False, [bytes(2**20 - 1)])
    assert type(alone.payload) is UnpickledBytes


ALONE = 2**20

NUMBERS_MADE: list[Callable[[int], Any]] = [
    lambda size: np.arange(size // 8, dtype=np.int64),
    lambda size: np.asfortranarray(np.arange(size // 16 * 2, dtype=np.int64).reshape(2, -1)),
    lambda size: [np.arange(size // 8, dtype=np.int64)],
    lambda size: pd.DataFrame({"a": np.arange(size // 8)}),
]


@pytest.mark.parametrize("make", NUMBERS_MADE, ids=["array", "fortran", "in-a-list", "frame"])
def test_an_argument_alone_lies_beside_its_pickle_where_it_may_lie_elsewhere(
    storage: Storage, make: Callable[[int], Any]
) -> None:
    packer = Packer(storage, None, lambda: ALONE, leaves_unpickled=True)
    for size in (SHARED_BYTES_MIN + 64, INLINE_BYTES_MAX + 64, ALONE - 4096):
        value = make(size)
        packed = packer.linked_call(give_back, (value,), {})
        assert type(packed.payload) is BufferedPickle
        assert not packed.objects
        assert len(packed.payload.buffers[0]) < 4096
        restored = read(storage, bytes(packed.payload))[0][0]
        assert pickle.dumps(restored) == pickle.dumps(value)
        # Where it lies in a segment, the buffers are what is read.
        (again,), _ = load_arguments(packed.payload, (), None, storage.fetch)
        assert pickle.dumps(again) == pickle.dumps(value)
        # Among others it travels inside of a message, and then only so large.
        assert bool(packer.call(give_back, (make(size + 640),), {}).objects) is (size >= INLINE_BYTES_MAX)
        # A second time, a large one is an object.
        assert len(packer.linked_call(give_back, (value,), {}).objects) == (size > SHARED_BYTES_MIN)
        chunk = Packer(storage, None, lambda: ALONE, leaves_unpickled=True).chunk(give_back, False, [value])
        assert type(chunk.payload) is BufferedPickle
        ((item,), _), *others = read(storage, chunk.payload, kind=TaskKind.MAP_CHUNK)
        assert pickle.dumps(item) == pickle.dumps(value)
        assert not others
    assert packer.linked_call(give_back, (make(ALONE + 64),), {}).objects
    assert packer.chunk(give_back, False, [make(ALONE + 64)]).objects


@pytest.mark.parametrize(
    "make",
    [lambda size: "x" * size, bytearray, lambda size: [f"{row:>1000}" for row in range(size // 1000)]],
    ids=["text", "bytearray", "list"],
)
def test_an_argument_alone_without_buffers_is_one_pickle(storage: Storage, make: Callable[[int], Any]) -> None:
    packer = Packer(storage, None, lambda: ALONE, leaves_unpickled=True)
    for size in (INLINE_BYTES_MAX + 8, ALONE - 8192):
        value = make(size)
        packed = packer.linked_call(give_back, (value,), {})
        assert type(packed.payload) is PayloadParts
        assert read(storage, packed.payload) == ((value,), {})
        assert len(packer.linked_call(give_back, (value,), {}).objects) == 1
        assert packer.linked_call(give_back, (make(size + 8), 1), {}).objects


def test_the_payload_is_a_snapshot_and_what_is_read_may_be_changed(storage: Storage) -> None:
    packer = Packer(storage, None, lambda: ALONE, leaves_unpickled=True)
    array = np.zeros(SHARED_BYTES_MIN)
    packed = packer.linked_call(give_back, (array,), {})
    array[:] = 1
    ((restored,), _) = read(storage, packed.payload)
    assert not restored.any()
    restored[0] = 2
    array.flags.writeable = False
    ((restored,), _) = read(storage, packer.linked_call(give_back, (array,), {}).payload)
    assert restored.all()
    assert not restored.flags.writeable
    stretched = np.arange(2 * SHARED_BYTES_MIN)[::2]
    ((restored,), _) = read(storage, packer.linked_call(give_back, (stretched,), {}).payload)
    assert (restored == stretched).all()
    other = np.arange(SHARED_BYTES_MIN // 8)
    twice = packer.chunk(give_back, False, [other, other])
    (first, _), (second, _) = read(storage, twice.payload, kind=TaskKind.MAP_CHUNK)
    assert first[0] is second[0]


def test_what_is_not_bytes_alone_is_pickled(storage: Storage, packer: Packer) -> None:
    unpickled = Packer(storage, None, lambda: 2**20, leaves_unpickled=True)
    for args, kwargs in (
        ((LONE[1:],), {}),
        ((LONE, 1), {}),
        ((LONE, LONE), {}),
        ((), {"key": LONE}),
        ((LONE,), {"key": 1}),
        ((bytearray(LONE),), {}),
        (("x" * UNPICKLED_BYTES_MIN,), {}),
        (([LONE],), {}),
    ):
        packed = unpickled.linked_call(give_back, args, kwargs)
        assert read(storage, packed.payload) == (args, kwargs)
    for items in (
        [LONE, LONE],
        [LONE, 1],
        [LONE, bytearray(LONE)],
        _distinct(100, 10),
        _distinct(UNPICKLED_BYTES_MIN // 8, ITEMS_MAX + 1),
        _distinct(2**18, 5),
    ):
        chunk = unpickled.chunk(give_back, False, items)
        assert type(chunk.payload) is not UnpickledBytes
        assert read(storage, chunk.payload, kind=TaskKind.MAP_CHUNK) == [((item,), {}) for item in items]
    assert type(unpickled.chunk(give_back, True, [(LONE,)]).payload) is not UnpickledBytes
    # Rows of graphs travel with others, and other clients place nothing.
    assert type(unpickled.call(give_back, (LONE,), {}).payload) is bytes
    assert type(packer.linked_call(give_back, (LONE,), {}).payload) is bytes
    assert type(packer.chunk(give_back, False, [LONE]).payload) is bytes
