"""The command line of `python -m scaler`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from scaler.client.seconds import checked_seconds
from scaler_protocol.version import SOFTWARE_VERSION

HEALTHY, TROUBLED, WRONG_USE = 0, 1, 2
INTERRUPTED = 130
"""What shells report of a command that Ctrl-C has ended."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m scaler",
        description="Shows what is installed here and, with an address, checks a cluster: versions of both sides, whether the "
        "scheduler answers, how long a small task takes, and how many workers there are.",
        epilog="Exit status: 0 if all is well, 1 if there is a problem, 2 for an address or flag that cannot be used.",
    )
    made.add_argument("address", nargs="?", help="of the scheduler, as in tcp://127.0.0.1:2345, or a connection file")
    made.add_argument(
        "--security",
        "--security-dir",
        metavar="PATH",
        help="security directory, or key file, for a cluster with keys",
    )
    made.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=10.0,
        help="how long each step may take (default: %(default)g)",
    )
    made.add_argument("--json", action="store_true", help="print what was found as JSON, for programs")
    made.add_argument("--version", action="version", version=f"scaler {SOFTWARE_VERSION}")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check with these arguments (default: those of this process). Returns the exit status."""
    try:
        return _check(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _check(arguments: Sequence[str] | None) -> int:
    command = parser()
    given = command.parse_args(arguments)
    # Imported late, so that -h and wrong flags are answered at once.
    from scaler.doctor.checks import look_at_cluster, look_here

    findings = look_here()
    try:
        timeout_seconds = checked_seconds("--timeout", given.timeout)
        if given.address is not None:
            look_at_cluster(findings, given.address, given.security, timeout_seconds)
        elif given.security is not None:
            raise ValueError("--security needs the address of a scheduler")
    except (TypeError, ValueError) as error:
        command.exit(WRONG_USE, f"{command.prog}: {error}\n")
    print(json.dumps(findings.as_json(), indent=1) if given.json else "\n".join(findings.as_lines()))
    return TROUBLED if findings.problems else HEALTHY
