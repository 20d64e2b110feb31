"""Columns and byte strings end to end."""

from __future__ import annotations

import ctypes
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.wire.columns import Packed, column_reader, pack_column, split_ids, unpack_column
from scaler_protocol.wire.envelope import raw_view

LIMITS = {"B": 2**8, "H": 2**16, "I": 2**32, "Q": 2**64}


@pytest.mark.parametrize("typecode", LIMITS)
@given(data=st.data())
def test_a_column_is_little_endian_whatever_it_is_made_from(typecode: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, LIMITS[typecode] - 1)))
    size = array(typecode).itemsize
    wire = b"".join(value.to_bytes(size, "little") for value in values)
    for form in (values, tuple(values), iter(values), array(typecode, values), array("Q", values)):
        assert pack_column(typecode, form) == wire
    assert list(unpack_column(typecode, wire)) == list(column_reader(typecode)(wire)) == values


def test_ranges_are_columns() -> None:
    assert list(unpack_column("Q", pack_column("Q", range(5, 9)))) == [5, 6, 7, 8]


def test_doubles_are_columns() -> None:
    assert list(unpack_column("d", pack_column("d", [0.5, -1e300]))) == [0.5, -1e300]


@pytest.mark.parametrize("typecode", LIMITS)
def test_values_that_do_not_fit_are_refused(typecode: str) -> None:
    for value in (LIMITS[typecode], -1):
        with pytest.raises(OverflowError):
            pack_column(typecode, [value])


@pytest.mark.parametrize("typecode", ["H", "I", "Q", "d"])
def test_bytes_that_are_no_whole_number_of_elements_are_refused(typecode: str) -> None:
    with pytest.raises(ValueError, match="multiple"):
        unpack_column(typecode, b"x" * (array(typecode).itemsize + 1))


@given(st.lists(st.binary(max_size=30)), st.sampled_from([bytes, bytearray, memoryview]))
def test_packed_bytes_come_apart_again(items: list[bytes], form: type) -> None:
    packed = Packed.of(items)
    assert packed.split() == items
    assert len(packed) == len(items)
    packed.check(len(items))
    view = Packed(packed.lengths, form(packed.data))
    assert view == packed
    assert view.split() == items
    assert all(type(item) is bytes for item in view.split())


def test_packed_bytes_with_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 lengths for 3 rows"):
        Packed.of([b"a", b"b"]).check(3)
    with pytest.raises(ValueError, match="add up to 3 bytes, the frame has 2"):
        Packed([1, 2], b"ab").check()


def test_an_id_table_is_cut_into_its_ids() -> None:
    assert split_ids(b"") == []
    assert split_ids(b"a" * 16 + b"b" * 16) == [b"a" * 16, b"b" * 16]
    with pytest.raises(ValueError, match="17 bytes"):
        split_ids(b"a" * 17)


def test_a_raw_view_shares_the_memory_of_its_buffer() -> None:
    numbers = array("Q", [1, 2])
    view = raw_view(numbers)
    assert isinstance(view, memoryview)
    assert (len(view), view.format) == (16, "B")
    numbers[0] = 7
    assert view[0] == 7


def test_empty_buffers_of_any_shape_have_no_bytes() -> None:
    assert raw_view(((ctypes.c_double * 3) * 0)()) == b""
    assert raw_view(array("d")) == b""


def test_buffers_in_several_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="not in one piece"):
        raw_view(memoryview(b"abcdef")[::2])
