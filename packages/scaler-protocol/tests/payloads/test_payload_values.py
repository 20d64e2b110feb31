"""Values to payloads and objects, and back: what goes inline, what becomes an object, what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from scaler_protocol.payloads import values
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX, OBJECT, PICKLED, RAW_BYTEARRAY, RAW_BYTES
from scaler_protocol.payloads.values import dump_result, load_object


def _views(buffers: Any) -> list[memoryview]:
    return [memoryview(bytes(buffer)) for buffer in buffers]


def test_results_are_inline_up_to_the_limit_and_objects_beyond() -> None:
    small = dump_result("x" * 1000, None)
    assert (small.payload[:1], small.object_id) == (PICKLED, b"")
    assert dump_result(None, None).payload == PICKLED + pickle.dumps(None, 5)
    for value, header in ((b"x" * 300_000, RAW_BYTES), (bytearray(300_000), RAW_BYTEARRAY)):
        large = dump_result(value, None)
        assert large.payload == OBJECT + large.object_id
        assert bytes(large.buffers[0]) == header
        assert load_object(_views(large.buffers), None, lambda _: []) == value
    text = dump_result("x" * (INLINE_BYTES_MAX + 1), None)
    assert text.payload[:1] == OBJECT
    assert load_object(_views(text.buffers), None, lambda _: []) == "x" * (INLINE_BYTES_MAX + 1)


def test_arrays_go_out_of_band_only_when_that_is_worth_it() -> None:
    np = pytest.importorskip("numpy")
    medium = dump_result(np.arange(4000), None)
    assert (medium.payload[:1], medium.object_id) == (PICKLED, b"")
    assert pickle.loads(medium.payload[1:])[3999] == 3999
    large = dump_result({"a": np.arange(100_000), "b": 1}, None)
    assert len(large.buffers) == 2
    assert len(large.buffers[0]) < 1000


def test_a_result_over_what_an_object_can_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "OBJECT_BYTES_MAX", 300_000)
    for large in (b"x" * 300_001, bytearray(300_001), "x" * 300_001):
        with pytest.raises(ValueError, match=r"it takes 300,.* bytes, and one value can have 300,000 at most"):
            dump_result(large, None)
    assert dump_result(b"x" * 299_000, None).object_id
