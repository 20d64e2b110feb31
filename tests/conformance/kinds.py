"""Kinds of large and unusual data, each a name and a function that makes it anew. All have a group, named after what they need.

The table of `values` has what every program may pass. These are the sizes around what decides how a value travels, and the types
of the libraries that data comes in.
"""

from __future__ import annotations

import array
import ctypes
import datetime
import decimal
import functools
import importlib.util
import mmap
import pickle
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from scaler_protocol.objects.large_bytes import LARGE_BYTES_MIN
from scaler_protocol.objects.segments import SEGMENT_BYTES_MIN
from scaler_protocol.objects.segments.layout import ALIGNMENT, data_at
from scaler_protocol.objects.segments.mapping_cache import KEPT_BYTES_MIN
from scaler_protocol.payloads.by_value.pickler import APART_BYTES_MIN
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX, SHARED_BYTES_MIN

Maker = Callable[[], Any]

SIZES = {
    "0": [0],
    "1": [1],
    "beside the pickle": [APART_BYTES_MIN - 1, APART_BYTES_MIN, APART_BYTES_MIN + 1],
    "shared": [SHARED_BYTES_MIN - 1, SHARED_BYTES_MIN, SHARED_BYTES_MIN + 1],
    "inline": [INLINE_BYTES_MAX - 200, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1],
    # The capacity of segments is rounded to three bits; their data begins behind a table, and is aligned.
    "a whole segment": [
        512 * 1024 - data_at(2) - ALIGNMENT,
        512 * 1024 - data_at(2),
        512 * 1024 - data_at(2) + 1,
        512 * 1024 + mmap.PAGESIZE,
    ],
    "large pages": [LARGE_BYTES_MIN - 1, LARGE_BYTES_MIN, LARGE_BYTES_MIN + 1],
    "kept mappings": [KEPT_BYTES_MIN - 1, KEPT_BYTES_MIN + 1],
}
"""Bytes, by what they are around."""

LARGE = SEGMENT_BYTES_MIN + 50_000
"""Bytes of a value that lies in a segment, or is an object elsewhere."""


def kinds() -> dict[str, dict[str, Maker]]:
    """Return the groups: by the module they need, which may be missing."""
    return {
        "numpy": {**_sizes(), **_buffers(), **_arrays()},
        "pandas": _pandas(),
        "pyarrow": _arrow(),
        "polars": _polars(),
    }


def is_installed(group: str) -> bool:
    return importlib.util.find_spec(group) is not None


# --- sizes


def _sizes() -> dict[str, Maker]:
    made: dict[str, Maker] = {}
    for size in sorted({size for sizes in SIZES.values() for size in sizes}):
        made[f"bytes of {size:,}"] = functools.partial(_random, size)
        made[f"bytearray of {size:,}"] = functools.partial(_bytearray, size)
        made[f"array of {size:,} bytes"] = functools.partial(_bytes_array, size)
        made[f"list of an array of {size:,} bytes"] = functools.partial(_list_of, size)
    made["six arrays of 100 KiB"] = lambda: [np.full(12_800, number, dtype="f8") for number in range(6)]
    made["arrays of 0 and of 300 KiB"] = lambda: [np.empty(0), _floats(), np.empty((0, 4)), _floats()]
    return made


def _random(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def _bytearray(size: int) -> bytearray:
    return bytearray(_random(size))


def _bytes_array(size: int) -> Any:
    return np.random.default_rng(size).integers(0, 255, size, dtype=np.uint8)


def _list_of(size: int) -> list[Any]:
    return [_bytes_array(size)]


def _floats(count: int = LARGE // 8) -> Any:
    return np.random.default_rng(count).random(count)


# --- buffers of Python


class BytesOfAUser(bytes):
    """Has attributes, as subclasses may."""


class BytearrayOfAUser(bytearray):
    pass


class StrOfAUser(str):
    pass


class ArrayOfAUser(np.ndarray[Any, Any]):
    """A subclass without anything of its own."""


def _buffers() -> dict[str, Maker]:
    return {
        "memoryview of bytes": lambda: memoryview(b"abc"),
        "empty memoryview": lambda: memoryview(b""),
        "large memoryview of bytes": lambda: memoryview(_random(LARGE)),
        "large writable memoryview": lambda: memoryview(bytearray(_random(LARGE))),
        "memoryview of floats": lambda: memoryview(array.array("d", [0.5, 1.5])),
        "large memoryview of floats": lambda: memoryview(_floats()),
        "memoryview of 2 dimensions": lambda: _view(np.arange(12.0).reshape(3, 4)),
        "large memoryview of 2 dimensions": lambda: memoryview(_floats(40_000).reshape(200, 200)),
        "strided memoryview": lambda: memoryview(bytes(range(20)))[::2],
        "reversed memoryview": lambda: memoryview(bytes(range(20)))[::-1],
        "large strided memoryview": lambda: memoryview(_random(2 * LARGE))[::2],
        "memoryview in Fortran order": lambda: _view(np.asfortranarray(np.arange(12.0).reshape(3, 4))),
        "memoryview of no dimensions": lambda: _view(np.array(2.5)),
        "memoryview of structures": lambda: memoryview((ctypes.c_int16 * 3)(1, 2, 3)),
        "memoryview of booleans": lambda: _view(np.array([True, False])),
        "released memoryview": _released,
        "list of a memoryview": lambda: [memoryview(_random(LARGE))],
        "mmap": lambda: mmap.mmap(-1, LARGE),
        "bytes subclass": lambda: _with_attribute(BytesOfAUser(b"text")),
        "large bytes subclass": lambda: _with_attribute(BytesOfAUser(_random(LARGE))),
        "large bytearray subclass": lambda: _with_attribute(BytearrayOfAUser(_random(LARGE))),
        "large str": lambda: "ä" * LARGE,
        "large str subclass": lambda: _with_attribute(StrOfAUser("ä" * LARGE)),
        "large array.array": lambda: array.array("d", _floats().tobytes()),
        "array.array of characters": lambda: array.array("u", "äbc"),
        "empty array.array": lambda: array.array("q"),
        "dict of large bytes": lambda: {"a": _random(LARGE), "b": [_random(LARGE + 1)]},
        "large bytes twice": lambda: [value := _random(LARGE), value],
        "large Decimal": lambda: decimal.Decimal("1." + "7" * LARGE),
        "large int": lambda: int.from_bytes(_random(LARGE), "little"),
        "large set": lambda: {f"{number:02000}" for number in range(150)},
    }


def _view(values: Any) -> memoryview:
    return memoryview(values)


def _with_attribute(value: Any) -> Any:
    value.attribute = ["kept"]
    return value


def _released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


# --- numpy


def _arrays() -> dict[str, Maker]:
    made: dict[str, Maker] = {
        "large array": _floats,
        "large array of 3 dimensions": lambda: _floats(48_000).reshape(40, 30, 40),
        "large array in Fortran order": lambda: np.asfortranarray(_floats(48_000).reshape(200, 240)),
        "large transposed array of 3 dimensions": lambda: _floats(48_000).reshape(40, 30, 40).transpose(2, 0, 1),
        "large strided array": lambda: _floats(2 * LARGE // 8)[::2],
        "large reversed array": lambda: _floats()[::-1],
        "large block of a larger array": lambda: _floats(160_000).reshape(400, 400)[100:350, 100:300],
        "large broadcast array": lambda: np.broadcast_to(_floats(400), (200, 400)),
        "large read-only array": lambda: _read_only(_floats()),
        "large array over bytes": lambda: np.frombuffer(_random(LARGE), dtype=np.uint8),
        "large array over a bytearray": lambda: np.frombuffer(bytearray(_random(LARGE)), dtype=np.uint8),
        "large unaligned array": lambda: np.frombuffer(bytearray(LARGE + 1 - LARGE % 8), dtype=np.uint8)[1:].view("f8"),
        "large big-endian array": lambda: _floats().astype(">f8"),
        "large array of longdoubles": lambda: _floats(40_000).astype(np.longdouble),
        "large array of half floats": lambda: _floats(200_000).astype(np.float16),
        "large array of complex numbers": lambda: _floats(40_000) * 1j,
        "large array of booleans": lambda: _bytes_array(LARGE) > 127,
        "large array of datetimes": lambda: np.arange(50_000).astype("M8[us]"),
        "large array of timedeltas": lambda: np.arange(50_000).astype("m8[ns]"),
        "large array of texts": lambda: np.array([f"text {number:0100}" for number in range(800)]),
        "large array of bytes": lambda: np.array([b"%d" % number for number in range(60_000)]),
        "large array of void": lambda: np.zeros(LARGE // 7, dtype="V7"),
        "large array of StringDType": lambda: np.array(["short", "t" * 900] * 200, dtype=np.dtypes.StringDType()),
        "large array of objects": lambda: np.array([None, "t" * 1_000, [3], {4: 5}] * 300, dtype=object),
        "large array of objects of 2 dimensions": lambda: np.array(
            [[number, "a" * 1_000 + str(number)] for number in range(300)], dtype=object
        ),
        "array of large arrays": _array_of_arrays,
        "large structured array": lambda: np.zeros(LARGE // 16, dtype=[("i", "i4"), ("f", "f8"), ("s", "S4")]),
        "large aligned structured array": lambda: np.zeros(
            20_000, dtype=np.dtype([("b", "i1"), ("f", "f8")], align=True)
        ),
        "large nested structured array": lambda: np.zeros(20_000, dtype=[("p", [("x", "f4"), ("y", "f4", 3)])]),
        "large structured array with objects": lambda: np.array(
            [(1, ["o" * 3_000])] * 200, dtype=[("i", "i4"), ("o", "O")]
        ),
        "field of a large structured array": lambda: np.zeros(60_000, dtype=[("i", "i4"), ("f", "f8")])["f"],
        "large record array": lambda: np.rec.array(np.zeros(LARGE // 12, dtype=[("i", "i4"), ("f", "f8")])),
        "large masked array": lambda: np.ma.masked_greater(_floats(), 0.5),
        "large masked array, hard mask": lambda: np.ma.masked_array(_floats(), _floats() > 0.5, hard_mask=True),
        "large masked array of 2 dimensions": lambda: np.ma.masked_less(_floats(40_000).reshape(200, 200), 0.5),
        "masked": lambda: np.ma.masked,
        "large matrix": lambda: np.asmatrix(_floats(40_000).reshape(200, 200)),
        "large array of a subclass": lambda: _floats().view(ArrayOfAUser),
        "large array with a dtype's metadata": lambda: np.zeros(
            LARGE // 8, dtype=np.dtype("f8", metadata={"unit": "m"})
        ),
        "large memory map": _memory_map,
        "large read-only memory map": lambda: _memory_map("r"),
        "character array": lambda: np.char.array(["a", "bc"]),
    }
    for shape in ((0,), (0, 3), (3, 0), (2, 0, 4)):
        for name in ("f8", ">i2", "O", "U3", "V0", "M8[s]"):
            made[f"array of shape {shape} of {name}"] = functools.partial(np.zeros, shape, name)
    made["array of shape (0, 3) in Fortran order"] = lambda: np.zeros((0, 3), order="F")
    made["empty structured array"] = lambda: np.zeros(0, dtype=[("i", "i4"), ("f", "f8")])
    made["structured array without fields"] = lambda: np.zeros(3, dtype=[])
    made["empty masked array"] = lambda: np.ma.masked_array([], mask=[])
    for name, value in {"longdouble": np.longdouble("0.1"), "complex": np.complex64(1j), "bool": np.True_}.items():
        made[f"scalar: {name}"] = functools.partial(_itself, value)
    for name in ("f8", "O", "U3", "M8[s]"):
        made[f"array of no dimensions of {name}"] = functools.partial(np.zeros, (), name)
    return made


def _itself(value: Any) -> Any:
    return value


def _read_only(values: Any) -> Any:
    values.flags.writeable = False
    return values


def _array_of_arrays() -> Any:
    made = np.empty(3, dtype=object)
    made[:] = [_floats(), _floats(3), _read_only(_floats(LARGE // 8 + 1))]
    return made


def _memory_map(mode: Any = "r+") -> Any:
    # Its file is gone when it is sent: what it maps is not.
    with tempfile.NamedTemporaryFile() as file:
        file.write(_random(LARGE))
        file.flush()
        return np.memmap(file.name, dtype=np.uint8, mode=mode)


# --- pandas


def _frame() -> Any:
    import pandas as pd

    count = 4_000
    return pd.DataFrame(
        {
            "i": np.arange(count),
            "f": _floats(count),
            "g": _floats(count) * 2,
            "b": np.arange(count) % 3 == 0,
            "s": [f"text {number % 50:080}" for number in range(count)],
            "c": pd.Categorical([f"category {number % 7}" for number in range(count)]),
            "t": pd.date_range("2026-01-01", periods=count, freq="s"),
            "z": pd.date_range("2026-01-01", periods=count, freq="s", tz="UTC"),
            "n": pd.array([None, 1] * (count // 2), dtype="Int64"),
            "o": [[1]] + [None] * (count - 1),
        }
    )


def _pandas() -> dict[str, Maker]:
    if not is_installed("pandas"):
        return {}
    import pandas as pd

    return {
        "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, None]}),
        "large frame of numbers": lambda: pd.DataFrame(_floats(80_000).reshape(-1, 4), columns=list("abcd")),
        "large frame of many types": _frame,
        "empty frame": pd.DataFrame,
        "frame without rows": lambda: pd.DataFrame({"a": np.zeros(0), "b": pd.Series([], dtype="str")}),
        "frame without columns": lambda: pd.DataFrame(index=range(5)),
        "frame of zero-length categories": lambda: pd.DataFrame({"c": pd.Categorical([], categories=["a"])}),
        # Restored once: pickle drops what pandas has computed of an index.
        "large frame with a MultiIndex": lambda: pickle.loads(pickle.dumps(_frame().set_index(["s", "i"]))),
        "frame with columns of several levels": lambda: pd.DataFrame(
            np.zeros((2, 4)), columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["letter", None])
        ),
        "frame with columns twice": lambda: pd.DataFrame(np.arange(4).reshape(2, 2), columns=["a", "a"]),
        "slice of a large frame": lambda: _frame()[["f", "g"]].iloc[::3],
        "transposed large frame": lambda: pd.DataFrame(_floats(80_000).reshape(-1, 4)).T,
        "frame with attrs": lambda: _with_attrs(pd.DataFrame({"a": [1]})),
        "large series": lambda: pd.Series(_floats(), name="values"),
        "empty series": lambda: pd.Series([], dtype="f8"),
        "large series of texts": lambda: pd.Series([f"text {number:01000}" for number in range(300)]),
        "large series of objects": lambda: pd.Series([decimal.Decimal("9" * 1_000) + number for number in range(300)]),
        "large categorical": lambda: pd.Categorical.from_codes(
            np.arange(400_000) % 200, [f"c {number}" for number in range(200)], ordered=True
        ),
        "series of nullable floats": lambda: pd.Series(_floats(), dtype="Float64"),
        "series of nullable booleans": lambda: pd.Series([True, None, False], dtype="boolean"),
        "series of periods": lambda: pd.Series(pd.period_range("2026-01", periods=24, freq="M")),
        "series of intervals": lambda: pd.Series(pd.interval_range(0, 5)),
        "series of sparse numbers": lambda: pd.Series(pd.arrays.SparseArray([0.0, 0.0, 1.0] * 20_000)),
        "series of times in a zone": lambda: pd.Series(pd.date_range("2026-03-29", periods=30_000, tz="Europe/Berlin")),
        "series of timedeltas": lambda: pd.Series(pd.to_timedelta(np.arange(40_000), unit="s")),
        "range index": lambda: pd.RangeIndex(3, 30, 4, name="r"),
        "large index": lambda: pd.Index(_floats()),
        "MultiIndex": lambda: pd.MultiIndex.from_arrays([[1, 1, 2], list("aba")], names=["i", "s"]),
        "Timestamp": lambda: pd.Timestamp("2026-11-28 01:02:03.000000004", tz="UTC"),
        "NaT": lambda: pd.NaT,
        "NA": lambda: pd.NA,
        "list of frames": lambda: [_frame()[["f"]], pd.DataFrame({"a": [1]})],
        **({"frame of arrow types": _arrow_frame} if is_installed("pyarrow") else {}),
    }


def _with_attrs(frame: Any) -> Any:
    frame.attrs["unit"] = "m"
    return frame


def _arrow_frame() -> Any:
    return _frame()[["i", "f", "s", "t"]].convert_dtypes(dtype_backend="pyarrow")


# --- pyarrow


def _arrow_table() -> Any:
    import pyarrow as pa

    count = 20_000
    return pa.table(
        {
            "i": pa.array(np.arange(count)),
            "f": pa.array(_floats(count), mask=np.arange(count) % 5 == 0),
            "s": pa.array([f"text {number}" for number in range(count)]),
            "d": pa.array([f"category {number % 9}" for number in range(count)]).dictionary_encode(),
            "l": pa.array([[number, None] for number in range(count)]),
            "t": pa.array([{"x": number} for number in range(count)]),
        }
    ).replace_schema_metadata({"unit": "m"})


def _arrow() -> dict[str, Maker]:
    if not is_installed("pyarrow"):
        return {}
    import pyarrow as pa

    return {
        "arrow array": lambda: pa.array([1, None, 3]),
        "large arrow array": lambda: pa.array(_floats()),
        "slice of a large arrow array": lambda: pa.array(_floats()).slice(1_000, 38_000),
        "empty arrow array": lambda: pa.array([], type=pa.string()),
        "arrow array of nulls": lambda: pa.nulls(5),
        "arrow array of decimals": lambda: pa.array([decimal.Decimal("1.10"), None]),
        "arrow array of dates": lambda: pa.array([datetime.date(2026, 1, 1)]),
        "large arrow strings": lambda: pa.array([f"text {number}" for number in range(40_000)], type=pa.large_string()),
        "large chunked array": lambda: pa.chunked_array([_floats(), _floats(20_000), []]),
        "large arrow table": _arrow_table,
        "slice of a large arrow table": lambda: _arrow_table().slice(5_000, 14_000),
        "empty arrow table": lambda: pa.table({"a": pa.array([], type=pa.int8())}),
        "arrow table without columns": lambda: pa.table({}),
        "large record batch": lambda: _arrow_table().to_batches()[0],
        "arrow buffer": lambda: pa.py_buffer(b"abc"),
        "large arrow buffer": lambda: pa.py_buffer(_random(LARGE)),
        "empty arrow buffer": lambda: pa.py_buffer(b""),
        "arrow scalar": lambda: pa.scalar("text"),
        "arrow schema": lambda: _arrow_table().schema,
        "arrow tensor": lambda: pa.Tensor.from_numpy(np.arange(6.0).reshape(2, 3)),
    }


# --- polars


def _polars() -> dict[str, Maker]:
    if not is_installed("polars"):
        return {}
    import polars as pl

    def table() -> Any:
        count = 20_000
        return pl.DataFrame(
            {
                "i": np.arange(count),
                "f": _floats(count),
                "s": [f"text {number}" for number in range(count)],
                "c": pl.Series([f"category {number % 9}" for number in range(count)], dtype=pl.Categorical),
                "l": [[number] for number in range(count)],
            }
        )

    return {
        "polars frame": lambda: pl.DataFrame({"a": [1, None], "b": ["x", "y"]}),
        "large polars frame": table,
        "slice of a large polars frame": lambda: table()[3_000:16_000],
        "empty polars frame": pl.DataFrame,
        "large polars series": lambda: pl.Series("f", _floats()),
        "polars query": lambda: pl.DataFrame({"a": [1, 2]}).lazy().filter(pl.col("a") > 1),
        "polars expression": lambda: pl.col("a") + 1,
    }
