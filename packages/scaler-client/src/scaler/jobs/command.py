"""The command line of `scaler_jobs`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, NoReturn

from scaler.client.seconds import checked_seconds
from scaler_protocol.runtime.log_lines import harmless
from scaler_protocol.version import SOFTWARE_VERSION

if TYPE_CHECKING:
    from scaler.client.jobs import Jobs, JobStatus

COMMAND = "scaler_jobs"
DONE, FAILED, WRONG_USE = 0, 1, 2
INTERRUPTED = 130
"""What shells report of a command that Ctrl-C has ended."""

TIMEOUT_SECONDS = 20.0

EPILOG = """\
Exit status: 0 if it was done, 1 if the scheduler refused or did not answer, 2 for wrong use.

examples:
  all jobs:
    scaler_jobs list tcp://127.0.0.1:2345
  what has become of the tasks of one, for scripts:
    scaler_jobs status tcp://127.0.0.1:2345 overnight --json
"""


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{COMMAND}: {message}\n")


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog=COMMAND,
        description="Shows and ends jobs, which are tasks that outlive the program that submitted them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {SOFTWARE_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def command(name: str, meaning: str, *, of_one: bool = True) -> None:
        found = commands.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        found.add_argument(
            "address", metavar="ADDRESS", help="of the scheduler, as in tcp://127.0.0.1:2345, or a connection file"
        )
        if of_one:
            found.add_argument("names", metavar="NAME", nargs="+", help="the name of a job")
        found.add_argument(
            "--security",
            "--security-dir",
            metavar="DIR",
            help="security directory, or key file, for a cluster with keys",
        )
        found.add_argument(
            "--timeout",
            metavar="SECONDS",
            type=float,
            default=TIMEOUT_SECONDS,
            help="how long the scheduler may take to answer (default: %(default)g)",
        )
        found.add_argument("--json", action="store_true", help="print what is known of the jobs as JSON, for programs")

    command("list", "show all jobs that this key may see", of_one=False)
    command("status", "show what has become of the tasks of jobs")
    command("cancel", "stop the tasks of jobs that have not ended; results are kept")
    command("forget", "stop the tasks of jobs, and delete the jobs with their results")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    try:
        return _answered(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _answered(arguments: Sequence[str] | None) -> int:
    parser = command_parser()
    given = parser.parse_args(arguments)
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler import Client, ScalerError

    try:
        timeout_seconds = checked_seconds("--timeout", given.timeout)
        client = Client(given.address, timeout_seconds=timeout_seconds, security=given.security)
    except (TypeError, ValueError) as error:
        parser.error(harmless(str(error)))
    except (ScalerError, OSError) as error:
        return _failed(error)
    with client:
        try:
            _run(client.jobs(), given)
        except (ScalerError, OSError) as error:
            return _failed(error)
    return DONE


def _failed(error: Exception) -> int:
    print(f"{COMMAND}: {harmless(str(error))}", file=sys.stderr)
    return FAILED


def _run(jobs: Jobs, given: argparse.Namespace) -> None:
    if given.command == "list":
        statuses = jobs.statuses()
    else:
        # All are there before anything is done to one. A name may be given twice.
        found = [jobs[name] for name in dict.fromkeys(given.names)]
        if given.command == "cancel":
            for job in found:
                job.cancel()
        statuses = [job.status() for job in found]
        if given.command == "forget":
            for job in found:
                job.forget()
    if given.json:
        print(json.dumps([asdict(status) for status in statuses], indent=1))
    elif given.command == "forget":
        print("\n".join(f"{harmless(status.name)} is forgotten" for status in statuses))
    else:
        print("\n".join(table(statuses, time.time())))


_HEADS = ("NAME", "WAITING", "RUNNING", "DONE", "FAILED", "CANCELED", "LOST", "STARTED", "FORGOTTEN IN", "OWNER")


def table(statuses: Sequence[JobStatus], now: float) -> list[str]:
    """Return what is known of jobs as lines for people."""
    if not statuses:
        return ["there are no jobs"]
    rows = [
        _HEADS,
        *(
            (
                harmless(status.name),
                str(status.waiting),
                str(status.running),
                str(status.done),
                str(status.failed),
                str(status.canceled),
                str(status.lost),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(status.started)),
                "" if status.expires is None else _duration(status.expires - now),
                harmless(status.owner),
            )
            for status in statuses
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines + [f"{harmless(status.name)}: {harmless(status.notice)}" for status in statuses if status.notice]


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
