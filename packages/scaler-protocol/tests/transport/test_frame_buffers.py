"""Buffers of large frames are used again, and only when nothing refers to what they held."""

import weakref

import pytest

from scaler_protocol.transport.frame_buffers import KEPT_BYTES_MAX, KEPT_MAX, STEP_BYTES, FrameBuffers

SIZE = 3 * STEP_BYTES + 1


def test_a_buffer_is_used_again_when_its_frame_is_gone() -> None:
    buffers = FrameBuffers()
    frame = buffers.take(SIZE)
    memory = id(frame.obj)
    frame[:4] = b"some"
    del frame
    again = buffers.take(SIZE - 10)
    assert id(again.obj) == memory
    assert len(again) == SIZE - 10
    assert not again.readonly


def test_whatever_refers_to_a_part_of_a_frame_keeps_its_buffer() -> None:
    buffers = FrameBuffers()
    frame = buffers.take(SIZE)
    memory = id(frame.obj)
    part = frame[100:200]
    part[:] = bytes(range(100))
    del frame
    others = [buffers.take(SIZE) for _ in range(5)]
    assert all(id(other.obj) != memory for other in others)
    for other in others:
        other[:] = bytes(len(other))
    assert bytes(part) == bytes(range(100))
    del part


@pytest.mark.parametrize("size", [SIZE // 3, 3 * SIZE])
def test_a_frame_of_another_size_gets_another_buffer(size: int) -> None:
    buffers = FrameBuffers()
    buffers.take(SIZE)
    other = buffers.take(size)
    assert SIZE + STEP_BYTES > memoryview(buffers.take(SIZE).obj).nbytes >= SIZE
    assert size + STEP_BYTES > memoryview(other.obj).nbytes >= size


def test_few_are_kept() -> None:
    buffers = FrameBuffers()
    frames = [buffers.take(SIZE) for _ in range(KEPT_MAX + 2)]
    kept = {id(frame.obj) for frame in frames[-KEPT_MAX:]}
    del frames
    assert {id(frame.obj) for frame in [buffers.take(SIZE) for _ in range(KEPT_MAX)]} == kept


def test_a_huge_one_is_given_back_at_once() -> None:
    buffers = FrameBuffers()
    pages = weakref.ref(buffers.take(KEPT_BYTES_MAX + 1).obj)
    assert pages() is None
