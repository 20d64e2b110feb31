"""What the C library's allocator does with memory that was freed."""

KEPT_BLOCK_BYTES = 4 * 1024 * 1024
"""Larger blocks are kept only where a program frees such blocks itself. A process keeps twice as much that it does not use."""


MOST_KEPT_BYTES = 31 * 1024 * 1024
"""The same for whoever has many values at once. The C library learns from no larger block."""


def keep_freed_memory(block_bytes: int = KEPT_BLOCK_BYTES) -> None:
    """Have values of some hundreds of kilobytes use memory that was freed before, in place of fresh pages each time.

    At first glibc takes pages of its own for each block of 128 KiB and more, and returns them when the block is freed; to get
    such pages again takes several times as long as to fill them. Once it has freed such a block, it takes blocks up to that
    size from the heap. Only when more than twice as much is free at the heap's end, it returns that, and then all of it.
    """
    bytes(block_bytes)


def give_back_freed_memory() -> None:
    """Return free memory to the system, where the C library can. Takes milliseconds."""
    import ctypes
    import sys

    if sys.platform != "linux":
        return
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
