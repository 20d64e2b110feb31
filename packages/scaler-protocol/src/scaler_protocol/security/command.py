"""The command `scaler_keys`: makes, lists, hands out, replaces and revokes the keys of a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from scaler_protocol.address import Address, AddressError
from scaler_protocol.runtime.log_lines import harmless
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.directory import ALLOWED_KEYS, GRANTED, read_allowed
from scaler_protocol.security.directory_changes import add, connect, export, export_server, generate, revoke, rotate
from scaler_protocol.security.errors import SecurityError
from scaler_protocol.security.keys import to_text
from scaler_protocol.version import SOFTWARE_VERSION

COMMAND = "scaler_keys"
ROLES = sorted(str(role) for role in GRANTED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of this process). Returns its exit status."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    for flag, value in vars(given).items():
        # Some versions of argparse make this of `--name=--`.
        if isinstance(value, list):
            parser.error(f"argument --{flag}: expected a value, not '--'")
    try:
        given.run(given)
    except SecurityError as error:
        print(f"{COMMAND}: {harmless(str(error))}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{COMMAND}: {message}\n")


class _Page(argparse.HelpFormatter):
    """Leaves the lines of the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text == _EXAMPLES else super()._fill_text(text, width, indent)


_EXAMPLES = f"""\
examples:
  keys for a new cluster:
    {COMMAND} generate keys
  what another machine of workers needs, in a directory to be copied there:
    {COMMAND} export keys worker worker-keys
  one file with which a program connects:
    {COMMAND} connect keys --name client --address tcp://10.0.0.5:2345"""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog=COMMAND,
        description="Makes, lists, hands out, replaces and revokes the keys of a cluster. All of them are files in a "
        "directory, which --security-dir of every other command names.",
        epilog=_EXAMPLES,
        formatter_class=_Page,
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {SOFTWARE_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, meaning: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        found.add_argument("directory", metavar="DIR", type=Path, help="the security directory")
        return found

    made = command("generate", "make a directory with the server's keys and one key for each role")
    made.set_defaults(run=_generate)

    added = command("add", "make one more key, and let it in")
    added.add_argument(
        "--role",
        required=True,
        choices=ROLES,
        help="what its owner is to the cluster; adapter is reserved: worker adapters use a worker's key",
    )
    added.add_argument("--name", required=True, help="what its owner is called: letters, digits, . _ -")
    added.set_defaults(run=_add)

    listed = command("list", "show whose keys are let in")
    listed.set_defaults(run=_list)

    rotated = command("rotate", "make a new key in place of somebody's; the earlier one is let in until it is revoked")
    rotated.add_argument("name", metavar="NAME", help="whose; the earlier key is called NAME.earlier then")
    rotated.set_defaults(run=_rotate)

    revoked = command(
        "revoke", "let a key in no longer, and remove its file; running servers close its connections within a second"
    )
    revoked.add_argument("name", metavar="NAME", help="whose")
    revoked.set_defaults(run=_revoke)

    exported = command("export", "make a directory with what one owner needs, to be copied to its machine")
    exported.add_argument(
        "name",
        metavar="NAME",
        help="whose key; `server` for what scheduler and object storage need, which cannot make or hand out keys then",
    )
    exported.add_argument("target", metavar="OUT", type=Path, help="the directory to make")
    exported.set_defaults(run=_export)

    connected = command("connect", "write a connection file, with which Client(FILE) needs nothing else")
    connected.add_argument("--name", required=True, help="whose key it has")
    connected.add_argument("--address", required=True, help="the scheduler's address, as in tcp://10.0.0.5:2345")
    connected.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the file to write (default: NAME.scaler in this folder)"
    )
    connected.set_defaults(run=_connect)
    return parser


_COPY = f"Servers with a copy of the directory need the new {ALLOWED_KEYS}."


def _generate(given: argparse.Namespace) -> None:
    generate(given.directory)
    print(f"{given.directory} has the server's keys, and one key for each role:")
    _list(given)


def _add(given: argparse.Namespace) -> None:
    print(add(given.directory, KeyRole(given.role), given.name))
    print(_COPY, file=sys.stderr)


def _list(given: argparse.Namespace) -> None:
    for authority in read_allowed(given.directory / ALLOWED_KEYS):
        print(f"{authority.role:<8}  {to_text(authority.public)}  {authority.name}")


def _rotate(given: argparse.Namespace) -> None:
    path, earlier = rotate(given.directory, given.name)
    print(f"{path} has a new key. {_COPY} Hand it out, then: {COMMAND} revoke {given.directory} {earlier}")


def _revoke(given: argparse.Namespace) -> None:
    gone = revoke(given.directory, given.name)
    print(f"{gone.name} ({gone.role}) is no longer in {given.directory / ALLOWED_KEYS}. {_COPY}")


def _export(given: argparse.Namespace) -> None:
    if given.name == "server":
        export_server(given.directory, given.target)
    else:
        export(given.directory, given.name, given.target)
    print(given.target)


def _connect(given: argparse.Namespace) -> None:
    try:
        address = Address.parse(given.address)
        if not address.can_be_connected:
            raise AddressError(
                f"{given.address!r} is not an address to connect to: it needs a host and a port other than 0"
            )
        if not str(address).isprintable():
            # The file is text that people read, and TOML: it can hold no bytes that are no text.
            raise AddressError(f"{given.address!r} has characters that cannot be shown")
    except AddressError as error:
        raise SecurityError(f"--address: {error}") from None
    target = given.output or Path(f"{given.name}.scaler")
    role = connect(given.directory, given.name, str(address), target)
    print(target)
    if role not in (KeyRole.CLIENT, KeyRole.OPERATOR):
        print(
            f"This is the key of a {role}: give the file as --security-dir to a command of that role. "
            "Client(FILE) needs the key of a client or operator.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
