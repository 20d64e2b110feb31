"""Conformance vectors of payloads: the bytes of one task, the objects beside it, and what must become of it.

Whoever runs tasks passes all of them, in this order: the worker's processor, `scaler.testing.InProcessCluster`, and the
runner that travels to Symphony. Framing is written out byte by byte, so that it cannot change unseen. Functions are found by
name in the standard library, or travel by value as those of a program's `__main__` do, because the place where a task runs
may have nothing of ours installed.
"""

from __future__ import annotations

import operator
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.framing import Call, InputReference, identity
from scaler_protocol.wire.messages import Status

USER_FILE = "user_program.py"
USER_CODE = '''
import decimal
import pickle

calls = []


class Oops(Exception):
    pass


class Outer:
    class Inner(Exception):
        pass


def local_class():
    class Local(Exception):
        pass

    return Local


def fail(text):
    raise Oops(text)


def fail_inside(text):
    raise Outer.Inner(text)


def fail_local(text):
    raise local_class()(text)


def fail_with_cause(text):
    try:
        fail("inner")
    except Oops as error:
        raise ValueError(text) from error


def fail_with_note(text):
    error = Oops(text)
    error.add_note("a note")
    raise error


def divide(a, b):
    return a / b


def leave(code):
    raise SystemExit(code)


def stop(item):
    raise StopIteration(item)


async def later(value):
    return value + 1


async def fail_later(text):
    raise Oops(text)


def make_coroutine(value):
    return later(value)


def count(*_):
    calls.append(1)
    return len(calls)


def arguments(*args, **kwargs):
    return args, kwargs


def is_shared(values):
    return values[0] is values[1]


def generator_of_one(item):
    return (n for n in ()) if item == 1 else item


def set_precision(digits):
    decimal.setcontext(decimal.Context(prec=digits))


def precision():
    return decimal.getcontext().prec


def fill(buffer):
    buffer[:] = b"x" * len(buffer)
    return bytes(buffer)


class Reversed:
    """A serializer whose bytes nobody else can read."""

    @staticmethod
    def serialize(value):
        return bytes(reversed(pickle.dumps(value, 5)))

    @staticmethod
    def deserialize(payload):
        return pickle.loads(bytes(reversed(payload)))


class ArraySerializer(Reversed):
    @staticmethod
    def serialize(value):
        return bytearray(Reversed.serialize(value))


class TextSerializer(Reversed):
    """A wrong one: it makes text."""

    @staticmethod
    def serialize(value):
        return "text"
'''

_user: dict[str, Any] = {"__name__": "__main__"}
exec(compile(USER_CODE, USER_FILE, "exec"), _user)

REVERSED = _user["Reversed"]
"""The serializer of the vectors that have one; what they answer is read with it."""


@dataclass(frozen=True)
class Raised:
    """A failure."""

    type_name: str
    text: str
    """What the text begins with. Where something is not restored: how it ends, for the place comes first."""
    functions: tuple[str, ...] = ()
    """The functions of its traceback, outermost first: the user's, and those of libraries, never ours."""
    by_name: bool = False
    """Whether it travels by its name alone, without the exception."""


@dataclass(frozen=True)
class Vector:
    """One task, and what must become of it: `value`, or `raised`, or another `status`."""

    name: str
    function: bytes
    arguments: bytes
    value: Any = None
    raised: Raised | None = None
    failures: Mapping[int, Raised] = field(default_factory=dict)
    """Of a map chunk: by item."""
    status: Status = Status.SUCCESS
    payload: bytes = b""
    """The bytes of the answer, where they are laid down; an object's id is left out."""
    buffers: tuple[bytes, ...] = ()
    """Those of the object that the answer names, where they are laid down."""
    inputs: tuple[bytes, ...] = ()
    serializer: bytes = b""
    objects: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    is_chunk: bool = False
    lacks_object: bool = False
    """Whether it names an object that nobody has."""


def _by_value(name: str) -> bytes:
    return b"P" + by_value.dumps(_user[name])


def _pickled(value: Any) -> bytes:
    return b"P" + pickle.dumps(value, 5)


def _call(*args: Any, **kwargs: Any) -> bytes:
    return _pickled((args, kwargs))


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _listed(*arguments: tuple[int, bytes], names: Sequence[bytes] = ()) -> bytes:
    """Return a list of arguments, each with its source; the last ones are those with names."""
    head = b"A" + _u32(len(arguments) - len(names)) + _u32(len(names))
    head += b"".join(_u32(len(name)) + name for name in names)
    return head + b"".join(bytes([source]) + len(data).to_bytes(8, "little") + data for source, data in arguments)


def _value(value: Any) -> tuple[int, bytes]:
    return 0, pickle.dumps(value, 5)


def _object(object_id: bytes) -> tuple[int, bytes]:
    return 1, object_id


def _input(index: int) -> tuple[int, bytes]:
    return 2, index.to_bytes(2, "little")


def _expression(value: Any) -> tuple[int, bytes]:
    return 3, by_value.dumps(value)


def _shared(*values: Any) -> tuple[tuple[int, bytes], ...]:
    """Return arguments that are pickled together; what is a call comes as an expression."""
    sources = [5 if isinstance(value, Call) else 4 for value in values]
    return ((sources[0], by_value.dumps(list(values))), *((source, b"") for source in sources[1:]))


def _reversed(value: Any) -> bytes:
    return bytes(REVERSED.serialize(value))


def _custom(value: Any) -> tuple[int, bytes]:
    return 0, _reversed(value)


def _payloads(*payloads: bytes) -> bytes:
    return b"L" + _u32(len(payloads)) + b"".join(_u32(len(payload)) for payload in payloads) + b"".join(payloads)


def _apart(value: Any) -> tuple[bytes, ...]:
    """Return an object's buffers: the pickle, and the buffers beside it."""
    apart: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, 5, buffer_callback=apart.append)
    return (b"P" + data, *(bytes(buffer.raw()) for buffer in apart))


def _buffered(value: Any) -> bytes:
    """Return a pickle with the buffers beside it, in one payload."""
    buffers = _apart(value)
    lengths = b"".join(len(buffer).to_bytes(8, "little") for buffer in buffers)
    return b"B" + _u32(len(buffers)) + lengths + b"".join(buffers)


def _id(text: str) -> bytes:
    return text.encode().ljust(16, b".")


def _not_restored(reason: str) -> Raised:
    return Raised("DeserializeObjectError", reason, by_name=True)


ADD, NEG, MUL = b"Pcoperator\nadd\n.", b"Pcoperator\nneg\n.", b"Pcoperator\nmul\n."
IS = b"Pcoperator\nis_\n."
POW, LEN, TYPE = b"Pcbuiltins\npow\n.", b"Pcbuiltins\nlen\n.", b"Pcbuiltins\ntype\n."
BYTES, BYTEARRAY = b"Pcbuiltins\nbytes\n.", b"Pcbuiltins\nbytearray\n."
NOWHERE = b"Pcno_such_module\nf\n."
NO_MODULE = "ModuleNotFoundError: No module named 'no_such_module'"
NONSENSE = "_pickle.UnpicklingError: invalid load key, 'n'."
LARGE = bytes(range(256)) * 1200
BUFFER = pickle.PickleBuffer(bytearray(b"ab"))
SHARED = [InputReference(0)]
ONE = [1]
GENERATOR_TEXT = (
    "the task's result, of type generator, cannot be serialized: TypeError: cannot pickle 'generator' object; "
    "return a list of what it yields"
)
NO_BYTES = "the client's serializer returned a str, not bytes"
STOPPED = "the function raised StopIteration, which would end the loop over its items"

CALLS = [
    Vector("a call", ADD, _call(2, 3), 5, payload=b"P\x80\x05K\x05."),
    Vector("keyword arguments", _by_value("arguments"), _call(1, a=2), ((1,), {"a": 2})),
    Vector("a coroutine function", _by_value("later"), _call(2), 3),
    Vector("a function that makes a coroutine", _by_value("make_coroutine"), _call(2), 3),
    Vector("small bytes", BYTES, _call(b"ab"), b"ab", payload=_pickled(b"ab")),
    Vector("large bytes", BYTES, _call(LARGE), LARGE, payload=b"O", buffers=(b"b", LARGE)),
    Vector("a large bytearray", BYTEARRAY, _call(LARGE), bytearray(LARGE), payload=b"O", buffers=(b"a", LARGE)),
    Vector("a large text", MUL, _call("a", 300_000), "a" * 300_000, payload=b"O", buffers=(_pickled("a" * 300_000),)),
    Vector("a function in storage", b"O" + _id("f"), _call(2, 3), 5, objects={_id("f"): (b"F" + ADD,)}),
    Vector("a function restored for each call", b"N" + _by_value("count"), _call(), 1),
    Vector("the same function again", b"N" + _by_value("count"), _call(), 1),
    Vector("a task sets a context variable", _by_value("set_precision"), _call(5), None),
    Vector("it has ended with its task", _by_value("precision"), _call(), 28),
]

ARGUMENTS = [
    Vector("values", POW, _listed(_value(2), _value(5), _value(7)), 4),
    Vector(
        "names, lone surrogates included",
        _by_value("arguments"),
        _listed(_value(2), _value(5), names=[b"\xed\xa0\x80x"]),
        ((2,), {"\ud800x": 5}),
    ),
    Vector("a pickle with its buffers", BYTES, _buffered(((BUFFER,), {})), b"ab"),
    Vector("buffers that may be changed", _by_value("fill"), _buffered(((BUFFER,), {})), b"xx"),
    Vector("an input with its buffers", BYTES, _listed(_input(0)), b"ab", inputs=(_buffered(BUFFER),)),
    Vector("an object", LEN, _listed(_object(_id("1"))), 3, objects={_id("1"): (_pickled([1, 2, 3]),)}),
    Vector("an object of bytes", TYPE, _listed(_object(_id("2"))), bytes, objects={_id("2"): (b"b", b"abc")}),
    Vector("an object of a bytearray", TYPE, _listed(_object(_id("3"))), bytearray, objects={_id("3"): (b"a", b"x")}),
    Vector(
        "an object that is a payload", LEN, _listed(_object(_id("4"))), 1, objects={_id("4"): (b"F" + _pickled("a"),)}
    ),
    Vector(
        "an object with buffers",
        LEN,
        _listed(_object(_id("5"))),
        4,
        objects={_id("5"): _apart(pickle.PickleBuffer(bytearray(b"abcd")))},
    ),
    Vector("an input", NEG, _listed(_input(1)), -7, inputs=(_pickled(1), _pickled(7))),
    Vector(
        "an input in storage", LEN, _listed(_input(0)), 1, inputs=(b"O" + _id("6"),), objects={_id("6"): (b"b", b"a")}
    ),
    Vector("identity", _pickled(identity), _listed(_input(0)), 1, inputs=(_pickled(1),)),
    Vector("values pickled together", POW, _listed(*_shared(2, 5, 7)), 4),
    Vector("what values pickled together share", IS, _listed(*_shared(ONE, ONE)), True),
    Vector(
        "what a value and an expression share",
        IS,
        _listed(*_shared(ONE, Call(operator.getitem, ([ONE, InputReference(0)], 0)))),
        True,
        inputs=(_pickled(1),),
    ),
    Vector(
        "values pickled together between others",
        _by_value("arguments"),
        _listed(_value(1), *_shared(2, 3, 5)[:2], _object(_id("other")), (4, b""), _input(0), names=[b"a", b"b"]),
        ((1, 2, 3, 4), {"a": 5, "b": 6}),
        objects={_id("other"): (_pickled(4),)},
        inputs=(_pickled(6),),
    ),
    Vector("all in storage", ADD, b"O" + _id("7"), 5, objects={_id("7"): (b"F" + _call(2, 3),)}),
    Vector("a pickle in storage", ADD, b"O" + _id("8"), 5, objects={_id("8"): (_call(2, 3),)}),
    Vector("a list in storage", NEG, b"O" + _id("9"), -2, objects={_id("9"): (b"F" + _listed(_value(2)),)}),
    Vector(
        "all in storage, with buffers",
        LEN,
        b"O" + _id("10"),
        4,
        objects={_id("10"): _apart(((pickle.PickleBuffer(bytearray(b"abcd")),), {}))},
    ),
]

EXPRESSIONS = [
    Vector(
        "containers",
        _by_value("arguments"),
        _listed(_expression([InputReference(0), (InputReference(1), {"a": InputReference(0)})])),
        (([1, (7, {"a": 1})],), {}),
        inputs=(_pickled(1), _pickled(7)),
    ),
    Vector(
        "what occurs twice stays one object",
        _by_value("is_shared"),
        _listed(_expression([SHARED, SHARED])),
        True,
        inputs=(_pickled(1),),
    ),
    Vector(
        "calls inside calls",
        NEG,
        _listed(_expression(Call(operator.add, (InputReference(0), Call(operator.mul, (2, 3)))))),
        -7,
        inputs=(_pickled(1),),
    ),
    Vector("a call of a coroutine function", NEG, _listed(_expression(Call(_user["later"], (1,)))), -2),
    Vector(
        "a call that fails",
        NEG,
        _listed(_expression(Call(operator.truediv, (1, 0)))),
        raised=Raised("ZeroDivisionError", "division by zero"),
    ),
    Vector(
        "a call of a user's function that fails",
        NEG,
        _listed(_expression(Call(_user["divide"], (1, 0)))),
        raised=Raised("ZeroDivisionError", "division by zero", ("divide",)),
    ),
]

FAILURES = [
    Vector("an exception", _by_value("fail"), _call("text"), raised=Raised("Oops", "text", ("fail",))),
    Vector(
        "of a class inside a class",
        _by_value("fail_inside"),
        _call("text"),
        raised=Raised("Outer.Inner", "text", ("fail_inside",)),
    ),
    Vector(
        "of a class inside a function",
        _by_value("fail_local"),
        _call("text"),
        raised=Raised("local_class.<locals>.Local", "text", ("fail_local",)),
    ),
    Vector(
        "with a cause",
        _by_value("fail_with_cause"),
        _call("text"),
        raised=Raised("ValueError", "text", ("fail_with_cause",)),
    ),
    Vector(
        "with a note", _by_value("fail_with_note"), _call("text"), raised=Raised("Oops", "text", ("fail_with_note",))
    ),
    Vector(
        "of a coroutine",
        _by_value("fail_later"),
        _call("text"),
        raised=Raised("Oops", "text", ("run_until_complete", "fail_later")),
    ),
    Vector("of a built-in function", POW, _call(1), raised=Raised("TypeError", "pow() missing required argument")),
    Vector(
        "of wrong arguments", _by_value("divide"), _call(1), raised=Raised("TypeError", "divide() missing 1 required")
    ),
    Vector("SystemExit", _by_value("leave"), _call(3), raised=Raised("SystemExit", "3", ("leave",))),
    Vector("StopIteration", _by_value("stop"), _call(3), raised=Raised("StopIteration", "3", ("stop",))),
    Vector(
        "that is large",
        _by_value("fail"),
        _call("x" * 300_000),
        raised=Raised("Oops", "x" * 1_000, ("fail",)),
        payload=b"O",
    ),
    Vector(
        "a result without a pickle",
        _by_value("generator_of_one"),
        _call(1),
        raised=Raised("_pickle.PicklingError", GENERATOR_TEXT),
    ),
    Vector("a function that is not there", NOWHERE, _call(), raised=_not_restored(NO_MODULE)),
    Vector("a function for each call that is not there", b"N" + NOWHERE, _call(), raised=_not_restored(NO_MODULE)),
    Vector("a function that is nonsense", b"Pnonsense", _call(), raised=_not_restored(NONSENSE)),
    Vector(
        "a function that is no payload",
        b"?nonsense",
        _call(),
        raised=_not_restored("MalformedMessageError: not a value: payload begins with b'?'"),
    ),
    Vector("arguments that are nonsense", ADD, b"Pnonsense", raised=_not_restored(NONSENSE)),
    Vector(
        "arguments that are no payload",
        ADD,
        b"?nonsense",
        raised=_not_restored("MalformedMessageError: not arguments: payload begins with b'?'"),
    ),
    Vector("buffers that are cut", ADD, _buffered(((BUFFER,), {}))[:-1], raised=_not_restored("do not add up")),
    Vector("buffers of which the number is cut", ADD, b"B\x02", raised=_not_restored("not a list of buffers")),
    Vector("arguments that are cut", ADD, b"A\x02\0", raised=_not_restored("(actual buffer size is 3)")),
    Vector(
        "an argument of a source that does not exist",
        LEN,
        _listed((9, b"")),
        raised=_not_restored("MalformedMessageError: not an argument list: 9 is not a valid Source"),
    ),
    Vector(
        "arguments pickled together that are too few",
        POW,
        _listed(*_shared(1, 2), (4, b"")),
        raised=_not_restored("MalformedMessageError: arguments that were pickled together are too few"),
    ),
    Vector(
        "arguments pickled together that are too many",
        POW,
        _listed(_shared(1, 2)[0]),
        raised=_not_restored("MalformedMessageError: arguments that were pickled together are too many"),
    ),
    Vector("arguments pickled together without a pickle", POW, _listed((4, b"")), raised=_not_restored("EOFError")),
    Vector(
        "an argument whose object nobody has",
        LEN,
        _listed(_object(_id("missing 1"))),
        status=Status.MISSING_OBJECT,
        lacks_object=True,
    ),
    Vector(
        "bytes of a serializer, without one",
        LEN,
        _listed(_object(_id("11"))),
        objects={_id("11"): (b"Sabc",)},
        raised=_not_restored("MalformedMessageError: a value of a custom serializer, in a batch that names none"),
    ),
]

SERIALIZERS = [
    Vector(
        "a call",
        b"S" + _reversed(operator.add),
        _listed(_custom(2), _custom(3)),
        5,
        payload=b"S" + _reversed(5),
        serializer=_by_value("Reversed"),
    ),
    Vector(
        "an object of its bytes",
        b"S" + _reversed(len),
        _listed(_object(_id("12"))),
        3,
        objects={_id("12"): (b"S" + _reversed("abc"),)},
        serializer=_by_value("Reversed"),
    ),
    Vector(
        "a large result",
        b"S" + _reversed(operator.mul),
        _listed(_custom(b"a"), _custom(300_000)),
        b"a" * 300_000,
        payload=b"O",
        buffers=(b"S" + _reversed(b"a" * 300_000),),
        serializer=_by_value("Reversed"),
    ),
    Vector(
        "an expression",
        b"S" + _reversed(operator.neg),
        _listed(_expression(Call(operator.add, (InputReference(0), 1)))),
        -8,
        inputs=(b"S" + _reversed(7),),
        serializer=_by_value("Reversed"),
    ),
    Vector(
        "an exception",
        _by_value("fail"),
        _listed(_custom("text")),
        raised=Raised("Oops", "text", ("fail",)),
        serializer=_by_value("Reversed"),
    ),
    Vector(
        "a bytearray",
        b"S" + _reversed(operator.xor),
        _listed(_custom(2), _custom(3)),
        1,
        payload=b"S" + _reversed(1),
        serializer=_by_value("ArraySerializer"),
    ),
    Vector(
        "no bytes",
        b"S" + _reversed(operator.or_),
        _listed(_custom(2), _custom(3)),
        raised=Raised(
            "_pickle.PicklingError", f"the task's result, of type int, cannot be serialized: TypeError: {NO_BYTES}"
        ),
        serializer=_by_value("TextSerializer"),
    ),
    Vector(
        "a chunk",
        b"S" + _reversed(operator.neg),
        _payloads(_listed(_custom(2)), _listed(_custom("a")), _listed(_custom(4))),
        [-2, None, -4],
        failures={1: Raised("TypeError", "bad operand type for unary -: 'str'")},
        serializer=_by_value("Reversed"),
        is_chunk=True,
    ),
    Vector(
        "a chunk in storage",
        b"S" + _reversed(operator.neg),
        b"O" + _id("13"),
        [-2],
        objects={_id("13"): (b"F" + _payloads(_listed(_custom(2))),)},
        serializer=_by_value("Reversed"),
        is_chunk=True,
    ),
    Vector(
        "no bytes, in a chunk",
        b"S" + _reversed(operator.or_),
        _payloads(_listed(_custom(2), _custom(3))),
        [None],
        failures={0: Raised("TypeError", NO_BYTES)},
        serializer=_by_value("TextSerializer"),
        is_chunk=True,
    ),
    Vector(
        "a serializer that is not there, for a function that is known",
        b"S" + _reversed(operator.neg),
        _listed(_custom(2)),
        raised=_not_restored(NO_MODULE),
        serializer=NOWHERE,
    ),
    Vector(
        "a serializer that is not there",
        b"S" + _reversed(operator.and_),
        _listed(_custom(2), _custom(3)),
        raised=_not_restored(NO_MODULE),
        serializer=NOWHERE,
    ),
]

CHUNKS = [
    Vector("items", NEG, _pickled((False, [1, 2])), [-1, -2], payload=_pickled(([-1, -2], {}))),
    Vector("items with their buffers", BYTES, _buffered((False, [BUFFER, BUFFER])), [b"ab", b"ab"]),
    Vector("tuples of arguments", POW, _pickled((True, [(2, 3), (3, 2)])), [8, 9]),
    Vector("payloads", NEG, _payloads(_call(1), _call(2)), [-1, -2]),
    Vector("no items", NEG, _pickled((False, [])), []),
    Vector("in storage", NEG, b"O" + _id("14"), [-1, -2], objects={_id("14"): (b"F" + _pickled((False, [1, 2])),)}),
    Vector("a pickle in storage", NEG, b"O" + _id("15"), [-1], objects={_id("15"): (_pickled((False, [1])),)}),
    Vector("a coroutine function", _by_value("later"), _pickled((False, [1, 2])), [2, 3]),
    Vector("a function that makes coroutines", _by_value("make_coroutine"), _pickled((False, [1, 2])), [2, 3]),
    Vector("a function restored for each item", b"N" + _by_value("count"), _pickled((False, [5, 6])), [1, 1]),
    Vector("a large outcome", BYTES, _pickled((False, [300_000])), [bytes(300_000)], payload=b"O"),
    Vector(
        "one item fails",
        _by_value("divide"),
        _pickled((True, [(1, 1), (1, 0)])),
        [1.0, None],
        failures={1: Raised("ZeroDivisionError", "division by zero", ("divide",))},
    ),
    Vector(
        "of several failures the first has its exception",
        _by_value("fail"),
        _pickled((False, ["a", "b" * 300])),
        [None, None],
        failures={0: Raised("Oops", "a", ("fail",)), 1: Raised("Oops", "b" * 200, by_name=True)},
    ),
    Vector(
        "an item ends its process",
        _by_value("leave"),
        _pickled((False, [3])),
        [None],
        failures={0: Raised("SystemExit", "3", ("leave",))},
    ),
    Vector(
        "an item raises StopIteration",
        _by_value("stop"),
        _pickled((False, ["a"])),
        [None],
        failures={0: Raised("RuntimeError", STOPPED)},
    ),
    Vector(
        "an item raises StopIteration, payloads",
        _by_value("stop"),
        _payloads(_call("a")),
        [None],
        failures={0: Raised("RuntimeError", STOPPED)},
    ),
    Vector(
        "an item that is no tuple of arguments",
        POW,
        _pickled((True, [(2, 3), 5])),
        [8, None],
        failures={1: Raised("TypeError", "'int' object is not iterable")},
    ),
    Vector(
        "a result without a pickle",
        _by_value("generator_of_one"),
        _pickled((False, [0, 1, 2])),
        [0, None, 2],
        failures={1: Raised("_pickle.PicklingError", GENERATOR_TEXT)},
    ),
    Vector(
        "items that are nonsense",
        NEG,
        _payloads(_call(1), b"Pnonsense", b"Pnonsense"),
        [-1, None, None],
        failures={1: _not_restored(NONSENSE), 2: _not_restored(NONSENSE)},
    ),
    Vector(
        "an item whose object nobody has",
        NEG,
        _payloads(_call(1), _listed(_object(_id("missing 2")))),
        [-1, None],
        failures={1: Raised("MissingObjects", "object ", by_name=True)},
        lacks_object=True,
    ),
    Vector(
        "a function for each item that is not there",
        b"N" + NOWHERE,
        _pickled((False, [1])),
        [None],
        failures={0: _not_restored(NO_MODULE)},
    ),
    Vector("items that cannot be read", NEG, b"Pnonsense", raised=_not_restored(NONSENSE)),
    Vector("items that nobody has", NEG, b"O" + _id("missing 3"), status=Status.MISSING_OBJECT, lacks_object=True),
]

PLAIN_ADD, PLAIN_LEN = b"Joperator:add", b"Jbuiltins:len"
PLAIN = [
    Vector("a call", PLAIN_ADD, b"J[[2,3],{}]", payload=b"J5"),
    Vector(
        "names of arguments", b"Jbuiltins:dict", b'J[[],{"a":1,"b":[null,true]}]', payload=b'J{"a":1,"b":[null,true]}'
    ),
    Vector("a method", b"Jbuiltins:str.upper", b'J[["\\u00e4b"],{}]', payload=b'J"\\u00c4B"'),
    Vector("a large integer", PLAIN_ADD, b"J[[9007199254740991,1],{}]", payload=b'J{"$int":"9007199254740992"}'),
    Vector("bytes", PLAIN_LEN, b'J[[{"$bytes":"AAEC"}],{}]', payload=b"J3"),
    Vector("not a number", b"Jbuiltins:float", b'J[["nan"],{}]', payload=b'J{"$float":"nan"}'),
    Vector("arguments in storage", PLAIN_ADD, b"O" + _id("p"), payload=b"J5", objects={_id("p"): (b"J[[2,3],{}]",)}),
    Vector(
        "a large result",
        b"Joperator:mul",
        b'J[["a",300000],{}]',
        payload=b"O",
        buffers=(b'J"' + b"a" * 300_000 + b'"',),
    ),
    Vector("pickled arguments", PLAIN_ADD, _call(2, 3), 5, payload=b"P\x80\x05K\x05."),
    Vector("an error", b"Joperator:truediv", b"J[[1,0],{}]", raised=Raised("ZeroDivisionError", "division by zero")),
    Vector("no module", b"Jno_such_module:f", b"J[[],{}]", raised=_not_restored(NO_MODULE)),
    Vector(
        "no function",
        b"Joperator:no.such",
        b"J[[],{}]",
        raised=_not_restored("AttributeError: module 'operator' has no 'no.such'"),
    ),
    Vector(
        "no function but a text",
        b"Joperator:__doc__",
        b"J[[],{}]",
        raised=_not_restored("TypeError: 'operator:__doc__' is no function: its type is str"),
    ),
    Vector("no name", b"Joperator.add", b"J[[],{}]", raised=_not_restored("write 'package.module:function'")),
    Vector("no arguments", PLAIN_ADD, b"J[]", raised=_not_restored("an array of two: [positional, {name: value}]")),
    Vector("no JSON", PLAIN_ADD, b"J[[NaN,1],{}]", raised=_not_restored("""not JSON: NaN; write""")),
    Vector(
        "an unknown tag",
        PLAIN_ADD,
        b'J[[{"$x":"1"},1],{}]',
        raised=_not_restored("""write a key of your own as '$$x'"""),
    ),
    Vector(
        "a result that is no plain data",
        b"Jbuiltins:set",
        b"J[[[1]],{}]",
        raised=Raised(
            "scaler_protocol.payloads.plain.NotPlainDataError",
            "the task's result is not plain data, which its client asks for: it is of type set, which is not plain data; "
            "make a list of it",
        ),
    ),
    Vector(
        "of a function that is pickled",
        ADD,
        b"J[[2,3],{}]",
        raised=_not_restored("not arguments: payload begins with b'J'"),
    ),
    Vector("inputs", PLAIN_ADD, b'J[[{"$input":1},{"$input":0}],{}]', inputs=(b'J"b"', b'J"a"'), payload=b'J"ab"'),
    Vector(
        "inputs inside of values",
        b"Jbuiltins:dict",
        b'J[[],{"a":[{"$input":0},{"$$input":0}]}]',
        inputs=(b'J{"$int":"9007199254740992"}',),
        payload=b'J{"a":[{"$int":"9007199254740992"},{"$$input":0}]}',
    ),
    Vector("an input that is only waited for", PLAIN_ADD, b"J[[2,3],{}]", inputs=(b"J1",), payload=b"J5"),
    Vector(
        "an input in storage",
        PLAIN_LEN,
        b'J[[{"$input":0}],{}]',
        inputs=(b"O" + _id("q"),),
        payload=b"J3",
        objects={_id("q"): (b"J[1,2,3]",)},
    ),
    Vector(
        "an input that is not there",
        PLAIN_LEN,
        b'J[[{"$input":1}],{}]',
        inputs=(b"J1",),
        raised=_not_restored("the arguments name input 1 of 1"),
    ),
    Vector(
        "an input that is no plain data",
        PLAIN_LEN,
        b'J[[{"$input":0}],{}]',
        inputs=(_pickled(1),),
        raised=_not_restored("not plain data: input 0 begins with b'P'"),
    ),
]

VECTORS: Mapping[str, Vector] = {
    f"{group}: {vector.name}": replace(vector, is_chunk=vector.is_chunk or group == "chunk")
    for group, vectors in {
        "call": CALLS,
        "argument": ARGUMENTS,
        "expression": EXPRESSIONS,
        "failure": FAILURES,
        "serializer": SERIALIZERS,
        "chunk": CHUNKS,
        "plain": PLAIN,
    }.items()
    for vector in vectors
}
