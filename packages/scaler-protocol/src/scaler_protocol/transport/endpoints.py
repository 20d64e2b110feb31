"""Sockets for addresses: listening, connecting, and the short road between processes of one machine.

Who listens where only its own machine reaches it, `tcp://127.0.0.1:6378` say, listens on a local (AF_UNIX) socket as well, of a
name made from that address; who connects there tries this name first. The system has less to do for a message that way, which
shows in the round trip of a single task (benchmarks/NOTES.md). The name is an abstract one, which Linux keeps per network
namespace, exactly as it does loopback addresses: it is found from where the address is, by whom it is, and ends with the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

from scaler_protocol.address import Address, AddressError, is_loopback_host
from scaler_protocol.errors import TransportError

KEEP_ALIVE_IDLE_SECONDS, KEEP_ALIVE_INTERVAL_SECONDS, KEEP_ALIVE_PROBES = 10, 5, 3
USER_TIMEOUT_MILLISECONDS = 25_000
"""A peer whose host went away is noticed within half a minute; the system's own default is two hours."""

LOCAL_BUFFER_BYTES = 1024 * 1024

SHORT_ROAD = sys.platform == "linux"
"""Abstract names exist nowhere else."""

_WILDCARD = "0.0.0.0"


def listen(address: str, backlog: int) -> tuple[list[socket.socket], str]:
    """Return the listening sockets of an address, and the address it got. Raises TransportError."""
    bound = address
    with contextlib.ExitStack() as opened:
        try:
            parsed = Address.parse(address)
            listener, place = _socket_for(parsed, passive=True)
            opened.enter_context(listener)
            if parsed.transport == "tcp":
                # Otherwise a server that is started again would wait for old connections to be forgotten.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                _remove_stale(parsed.path)
            listener.bind(place)
            listeners = [listener]
            if parsed.transport == "tcp":
                host, port = listener.getsockname()[:2]
                bound = str(Address("tcp", host=host, port=port))
                # The wildcard is reached by its loopback address too.
                beside = _local_socket("127.0.0.1" if host == _WILDCARD else host, port)
                if beside is not None:
                    local, name = beside
                    opened.enter_context(local)
                    # The address is ours, so nobody honest has its name: whoever has would get what is meant for us.
                    local.bind(name)
                    listeners.append(local)
            for each in listeners:
                each.listen(backlog)
        except (OSError, AddressError) as error:
            raise TransportError(f"cannot listen on {address}: {reason(error)}", is_final=_is_final(error)) from None
        opened.pop_all()
    return listeners, bound


def begin_connect(address: str) -> socket.socket:
    """Return a socket that is connecting. Raises TransportError when the address cannot be used at all, OSError when it
    cannot be reached right now."""
    try:
        parsed = Address.parse(address)
    except AddressError as error:
        raise TransportError(f"cannot connect to {address}: {error}") from None
    if not parsed.can_be_connected:
        raise TransportError(f"cannot connect to {address}: it is an address to listen on")
    try:
        connecting, place = _socket_for(parsed, passive=False)
    except AddressError as error:
        raise TransportError(f"cannot connect: {error}") from None
    if parsed.transport == "tcp":
        beside = _local_socket(*place[:2])
        if beside is not None:
            local, name = beside
            try:
                # Succeeds or fails at once: nobody listens there, or more wait than the listener holds ready. TCP can wait.
                local.connect(name)
            except OSError:
                local.close()
            else:
                connecting.close()
                return local
    try:
        with contextlib.suppress(BlockingIOError):
            connecting.connect(place)
    except BaseException:
        connecting.close()
        raise
    return connecting


def prepare(connected: socket.socket) -> None:
    """Set what every connection needs."""
    connected.setblocking(False)
    if connected.family == getattr(socket, "AF_UNIX", None):
        # As much as the system gives: unlike TCP's, this buffer does not grow by itself, and small messages weigh most in it.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER_BYTES)
        return
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEP_ALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MILLISECONDS),
    ):
        # Not every system has all of them.
        number = getattr(socket, option, None)
        if number is not None:
            connected.setsockopt(socket.IPPROTO_TCP, number, value)


def _socket_for(address: Address, *, passive: bool) -> tuple[socket.socket, tuple[str, int] | str]:
    """Return an unconnected socket and where to bind or connect it."""
    if address.transport == "ipc":
        if sys.platform == "win32":
            raise OSError("ipc addresses do not exist on Windows")
        created = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place: tuple[str, int] | str = "\0" + address.path[1:] if address.path.startswith("@") else address.path
    else:
        # Only where asked for: looked up as IPv6 first, names fail on hosts that have none.
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        flags = socket.AI_PASSIVE if passive else 0
        host = None if address.host == "*" else address.host
        try:
            found = socket.getaddrinfo(host, address.port, family, socket.SOCK_STREAM, 0, flags)
        except UnicodeError:
            raise AddressError(f"{address}: {address.host!r} cannot be the name of a host") from None
        created = socket.socket(family, socket.SOCK_STREAM)
        place = found[0][4]  # type: ignore[assignment]
    prepare(created)
    return created, place


# --- the short road


def local_name(host: str, port: int) -> str | None:
    """The abstract name beside a loopback address, given in numbers; None where there is none."""
    return f"\0scaler-{Address('tcp', host=host, port=port)}" if SHORT_ROAD and is_loopback_host(host) else None


def _local_socket(host: str, port: int) -> tuple[socket.socket, str] | None:
    """Return an unconnected local socket and the name beside an address; None where there is no such name, or where this
    process may not have such sockets, so that all goes by TCP."""
    name = local_name(host, port)
    if name is None:
        return None
    try:
        created = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return None
    prepare(created)
    return created, name


# --- both


NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""Answers about a name that are final; others mean that nobody could be asked."""


def is_unknown_host(error: socket.gaierror) -> bool:
    """Whether there is no host of that name, as far as those know who were asked."""
    return error.errno in NO_SUCH_HOST


def _remove_stale(path: str) -> None:
    """Remove the socket file of a listener that is dead."""
    if path.startswith("@"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            # Nothing there, or nothing that can be judged from here: binding says the rest.
            return


def _is_final(error: Exception) -> bool:
    """Whether an address can never be listened on here: a port that is taken may become free."""
    if isinstance(error, socket.gaierror):
        return is_unknown_host(error)
    return isinstance(error, AddressError) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL


def reason(error: Exception) -> str:
    """Return what is wrong, as the system says it, without numbers."""
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
