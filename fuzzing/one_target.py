"""Fuzzes one target in a process: `python -m fuzzing.one_target NAME SECONDS CORPUS`. atheris ends the process itself."""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.targets import Target, load

REGRESSIONS = Path(__file__).parent / "regressions"
"""Inputs that made a target fail, in a folder for each target; their names end with the hash of their content."""

COMMITTED = Path(__file__).parent / "corpus"
"""Inputs that reach lines which no seed reaches, in a folder for each target: a fuzzer begins there, and tests replay them."""

INSTRUMENTED = ["scaler", "scaler_protocol", "scaler_scheduler", "scaler_objstore", "scaler_ui", "scaler_worker"]
"""Packages of which atheris sees which lines an input reaches."""

INPUT_BYTES_MAX = 16_384
INPUT_SECONDS_MAX = 10


def main(name: str, seconds: float, corpus: Path) -> int:
    """Returns the exit status: 0 if no input raised. Inputs that reach new lines are kept in the folder `corpus`."""
    failures = REGRESSIONS / name
    failures.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    try:
        import atheris
    except ImportError:
        return _mutate(failures, name, seconds)
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(name)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(beginnings(name, target)):
            (Path(folder) / str(number)).write_bytes(seed)
        flags = [
            f"-max_total_time={max(1, round(seconds))}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-artifact_prefix={failures}/",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        atheris.Setup([sys.argv[0], *flags, str(corpus), folder], target.run)
        atheris.Fuzz()
    return 0


def beginnings(name: str, target: Target) -> list[bytes]:
    """Return the inputs that a fuzzer of this target begins with."""
    return [*target.seeds(), *(path.read_bytes() for path in sorted((COMMITTED / name).glob("*")))]


def _mutate(failures: Path, name: str, seconds: float) -> int:
    """Change seeds at random, and keep none: for Pythons without atheris. Prints as libFuzzer does how many inputs there were."""
    rng = random.Random()
    target = load(name)
    seeds = beginnings(name, target)
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            _change(data, rng)
        count += 1
        try:
            target.run(bytes(data))
        except BaseException:
            path = failures / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            path.write_bytes(data)
            print(f"stat::number_of_executed_units: {count}", file=sys.stderr)
            raise
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)
    return 0


def _change(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    what = rng.randrange(4)
    if what == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif what == 1:
        del data[at : at + rng.choice((1, 2, 8, 64))]
    elif what == 2:
        data[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
    else:
        data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x01\x00\x00\x00", b"\x00\x00\x00\x80"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
