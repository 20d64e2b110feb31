"""How a standby takes over: `python -m benchmarks.standby` (as root; Linux).

Network namespaces stand for four hosts on a bridge: the first scheduler, its standby, and two with workers. The client is on the
bridge itself. While it waits for many small tasks, the first scheduler's host is cut off: its cable is pulled, and nobody is
told. Every task must be answered once, with the right value. With `--heal` the host comes back while work goes on, with a
scheduler that believes that it is first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from scaler import Client, ScalerFuture

NETWORK = "10.79.0"
CLIENT_HOST = 200
PORT = 7645
WORKER_HOSTS = (3, 4)
START_SECONDS = 60.0
END_SECONDS = 600.0
LOOK_SECONDS = 0.02
WORKERS = 4
"""On each host."""

TASK_SECONDS = 0.002
LOOK_AT = 50
"""One of so many futures is looked at to see whether work goes on: looking at all takes long."""

ROOT = Path(__file__).resolve().parents[1]
FIRST, STANDBY = f"tcp://{NETWORK}.1:{PORT}", f"tcp://{NETWORK}.2:{PORT}"


def plus_one(value: int) -> int:
    """Return the next number, after a moment."""
    time.sleep(TASK_SECONDS)
    return value + 1


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def hosts() -> Iterator[dict[int, tuple[list[str], str]]]:
    """Yield, by the last number of each host's address, how a command begins that runs there, and its cable's name."""
    bridge, numbers = f"ha{os.getpid() % 100_000}", (1, 2, *WORKER_HOSTS)
    names = {number: f"scaler-standby-{os.getpid()}-{number}" for number in numbers}
    found: dict[int, tuple[list[str], str]] = {}
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{NETWORK}.{CLIENT_HOST}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number, name in names.items():
            cable = f"hc{os.getpid() % 100_000}-{number}"
            _ip("netns", "add", name)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "e0", "netns", name)
            _ip("link", "set", cable, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "e0")
            _ip("-n", name, "link", "set", "e0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            found[number] = (["ip", "netns", "exec", name], cable)
        yield found
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False)
        subprocess.run(["ip", "link", "delete", bridge], check=False)


@contextlib.contextmanager
def cluster_on(on: dict[int, tuple[list[str], str]], folder: Path) -> Iterator[None]:
    """Run two schedulers and the workers, each on its host, with logs in `folder`."""
    python, both = [sys.executable, "-m"], f"{FIRST},{STANDBY}"
    commands = {
        1: [*python, "scaler_scheduler", FIRST],
        2: [*python, "scaler_scheduler", STANDBY, "--standby-of", FIRST],
        **{number: [*python, "scaler_worker", both, "-n", str(WORKERS)] for number in WORKER_HOSTS},
    }
    running = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        for number, command in commands.items():
            with (folder / f"{number}.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [*on[number][0], *command, "--insecure"],
                        env=environment,
                        cwd="/tmp",
                        start_new_session=True,
                        stdout=log,
                        stderr=log,
                    )
                )
        yield
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(what: str, log: Path, pattern: str, seconds: float) -> float:
    """Wait until a log has a line; return when that was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if re.search(pattern, log.read_text(errors="replace") if log.exists() else ""):
            return time.monotonic()
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"{what} did not happen within {seconds:g} s; see {log}")


def _done(futures: Sequence[ScalerFuture]) -> int:
    """Return about how many are done."""
    return LOOK_AT * sum(future.done() for future in futures[::LOOK_AT])


def measure(count: int, *, heal: bool, folder: Path, cable: str) -> None:
    """Submit, cut, wait, compare, print. Raises SystemExit where a task is lost or wrong."""
    _wait("the start of the standby", folder / "2.log", "is the standby of", START_SECONDS)
    with Client(f"{FIRST},{STANDBY}", timeout_seconds=END_SECONDS) as client:
        client.submit(plus_one, 0).result(START_SECONDS)
        futures = [client.submit(plus_one, number) for number in range(count)]
        while _done(futures) < count // 10:
            time.sleep(LOOK_SECONDS)
        _ip("link", "set", cable, "down")
        cut_at = time.monotonic()
        time.sleep(LOOK_SECONDS)
        done_before = _done(futures)
        if done_before > 0.9 * count:
            raise SystemExit("nearly all tasks were done before the cut: give more (--tasks)")
        first_at = _wait("the take-over", folder / "2.log", "it is first now", 60.0)
        while _done(futures) <= done_before:
            time.sleep(LOOK_SECONDS)
        result_at = time.monotonic()
        if heal:
            _ip("link", "set", cable, "up")
        outcomes: Counter[str] = Counter()
        for number, future in enumerate(futures):
            try:
                outcomes["right" if future.result(END_SECONDS) == number + 1 else "wrong"] += 1
            except Exception as error:
                outcomes[f"lost: {error!r:.200}"] += 1
        end_at = time.monotonic()
        if heal:
            stepped_at = _wait("stepping down", folder / "1.log", "is a standby now", 60.0)
            print(
                f"the former first scheduler has stepped down {max(0.0, stepped_at - end_at):.1f} s after the last answer"
            )
    print(f"{count} tasks, about {done_before} answered before the cut; after it:")
    print(f"    the standby is first      {first_at - cut_at:6.2f} s")
    print(f"    the first further answer  {result_at - cut_at:6.2f} s")
    print(f"    the last answer           {end_at - cut_at:6.2f} s")
    print(f"    {dict(outcomes)}")
    if outcomes["right"] != count:
        raise SystemExit("not every task was answered with the right value")


def main() -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.standby", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="how many tasks (default: 100000)")
    parser.add_argument("--heal", action="store_true", help="the first scheduler's host comes back while work goes on")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("standby makes network namespaces, which only root may", file=sys.stderr)
        return 2
    with hosts() as on, tempfile.TemporaryDirectory() as folder, cluster_on(on, Path(folder)):
        measure(given.tasks, heal=given.heal, folder=Path(folder), cable=on[1][1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
