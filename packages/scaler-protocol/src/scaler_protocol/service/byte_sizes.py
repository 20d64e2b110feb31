"""Numbers of bytes as people write them: `4294967296`, or `4GiB` for the same."""

from __future__ import annotations

import re

_POWERS = {None: 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"([0-9]{1,20}) ?(?:([KMGT])(?:iB)?)?", re.IGNORECASE)


def bytes_text(count: int) -> str:
    """Return a number of bytes for people: `812 bytes`, `11.8 GiB`."""
    if count < 1024:
        return f"{count} bytes"
    power = min((count.bit_length() - 1) // 10, 4)
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def parse_bytes(value: object) -> object:
    """Return the number that a text such as `4GiB` stands for; anything but a text as it is.

    Units are powers of 1,024, also as a letter alone (`4G`), as service managers and container runtimes have them. `4GB` is
    refused: it is a power of 1,000 for some and not for others. Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value[:100]!r} is no number of bytes: expected one such as 4294967296, 4096MiB or 4GiB")
    return int(found[1]) * 1024 ** _POWERS[found[2] and found[2].upper()]
