"""What the C library's allocator does with memory that was freed."""

KEPT_BLOCK_BYTES = 4 * 1024 * 1024
"""Larger blocks are kept only where a program frees such blocks itself. A process keeps twice as much that it does not use."""


def keep_freed_memory() -> None:
    """Have values of some hundreds of kilobytes use memory that was freed before, in place of fresh pages each time.

    At first glibc takes pages of its own for each block of 128 KiB and more, and returns them when the block is freed; to get
    such pages again takes several times as long as to fill them. Once it has freed such a block, it takes blocks up to that
    size from the heap, and keeps up to twice as much free at the heap's end.
    """
    bytes(KEPT_BLOCK_BYTES)
