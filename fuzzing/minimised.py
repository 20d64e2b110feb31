"""Chooses from a corpus the few inputs that reach all lines which the whole of it reaches, for `fuzzing/corpus`.

`python -m fuzzing.minimised [--corpus DIR] [TARGET …]` replaces the committed inputs of these targets (default: all) by a
choice of them and of the inputs that runs have kept in DIR. Small inputs come first, and what reaches no new line is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fuzzing.__main__ import CACHE
from fuzzing.one_target import COMMITTED
from fuzzing.targets import Target, load, names

INPUT_BYTES_MAX = 4096
TARGET_BYTES_MAX = 16_384
TARGET_FILES_MAX = 24
TARGET_SECONDS = 20.0

PACKAGES = "/packages/scaler-"
"""A part of the path of all code whose lines count."""


class _Lines:
    """The lines of our packages that a call runs."""

    def __init__(self) -> None:
        self.reached: set[tuple[CodeType, int]] = set()

    def run(self, target: Target, data: bytes) -> set[tuple[CodeType, int]]:
        self.reached = set()
        sys.settrace(self._enter)
        try:
            target.run(data)
        finally:
            sys.settrace(None)
        return self.reached

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if PACKAGES in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        self.reached.add((frame.f_code, frame.f_lineno))
        return self._line


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing.minimised", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--corpus", type=Path, default=CACHE, metavar="DIR", help=f"default: {CACHE}")
    given = parser.parse_args()
    for name in given.targets or names():
        chosen = list(_choose(load(name), [COMMITTED / name, given.corpus / name]))
        folder = COMMITTED / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for data in chosen:
            (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
        print(f"{name:<24}{len(chosen):>6} inputs{sum(map(len, chosen)):>8,} bytes", flush=True)
    return 0


def _choose(target: Target, folders: list[Path]) -> Iterator[bytes]:
    lines = _Lines()
    known: set[tuple[CodeType, int]] = set()
    for seed in target.seeds():
        known |= lines.run(target, seed)
    found = {path.read_bytes() for folder in folders for path in folder.glob("*")}
    size = count = 0
    until = time.monotonic() + TARGET_SECONDS
    for data in sorted(found, key=lambda data: (len(data), data)):
        if len(data) > INPUT_BYTES_MAX or size + len(data) > TARGET_BYTES_MAX or count == TARGET_FILES_MAX:
            return
        if time.monotonic() > until:
            return
        reached = lines.run(target, data)
        if not reached <= known:
            known |= reached
            size += len(data)
            count += 1
            yield data


if __name__ == "__main__":
    sys.exit(main())
