"""A scheduler with many hosts and clients: `python -m benchmarks.many_hosts --agents 1000 --clients 4000 --seconds 10`.

The scheduler and the object storage server are real processes. Agents and clients are played, all by this process: each has a
connection and a session of its own and speaks the protocol, but no code runs. Every task must be answered exactly once, also
those that were under way when the scheduler was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.many_hosts.peers import PlayedWrongly
from benchmarks.many_hosts.play import Cast, Figures, Play
from benchmarks.many_hosts.services import PlayedServices
from benchmarks.many_hosts.stage import Stage

FILES_PER_PEER = 2
"""Here a peer has a socket and an `epoll`."""

OWN_FILES = 100
TURN_MS_MAX = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Play, and print what was measured. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many_hosts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--agents", type=_at_least_one, default=20, help="how many hosts (default: %(default)s)")
    parser.add_argument("--clients", type=_at_least_one, default=50, help="how many clients (default: %(default)s)")
    parser.add_argument("--workers", type=_at_least_one, default=4, help="workers of a host (default: %(default)s)")
    parser.add_argument("--batch", type=_at_least_one, default=20, help="tasks of a submission (default: %(default)s)")
    parser.add_argument(
        "--task-seconds",
        type=_not_negative,
        default=0.001,
        help="how long a task keeps its worker busy; 0: it is answered at once (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=_positive, default=2.0, help="length of an act (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    given = parser.parse_args(arguments)
    try:
        _allow_files(FILES_PER_PEER * (given.agents + given.clients) + OWN_FILES)
    except ValueError as error:
        print(f"many_hosts: {error}", file=sys.stderr)
        return 2
    cast = Cast(given.agents, given.clients, given.workers, given.batch, given.task_seconds, given.seconds)
    try:
        figures = play(cast)
    except PlayedWrongly as error:
        print(f"many_hosts: {error}", file=sys.stderr)
        return 1
    for name, value in figures.items():
        remark = f"  (more than {TURN_MS_MAX:g})" if "longest turn" in name and value > TURN_MS_MAX else ""
        print(f"{name:<48}{value:>14,.2f}{remark}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def play(cast: Cast) -> Figures:
    """Start the services, play, and stop them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(PlayedServices(Path(folder))) as services,
        contextlib.closing(Stage()) as stage,
    ):
        return Play(cast, services, stage).perform()


def _allow_files(needed: int) -> None:
    """Raise this process's limit of open files as far as needed. Raises ValueError if that is not permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        raise ValueError(
            f"so many peers need {needed} open files, and this process may have {hard} (ulimit -Hn): play fewer"
        )
    if resource.RLIM_INFINITY != soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def _not_negative(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
