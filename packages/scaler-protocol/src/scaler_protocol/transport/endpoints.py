"""Sockets for addresses: listening, connecting, and local sockets between processes of one machine.

A listener on a loopback address such as `tcp://127.0.0.1:6378` also listens on a local (AF_UNIX) socket, with a name made from
that address. Peers try this name first, because the system does less work for a message that way, which shortens the round
trip of a single task (benchmarks/NOTES.md). The name is abstract. Linux keeps such names per network namespace, as it does with
loopback addresses. So exactly the processes that reach the address find the name, and it ends with the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

from scaler_protocol.address import Address, AddressError, is_loopback_host
from scaler_protocol.errors import TransportError
from scaler_protocol.transport.closing_socket import ClosingSocket

KEEP_ALIVE_IDLE_SECONDS, KEEP_ALIVE_INTERVAL_SECONDS, KEEP_ALIVE_PROBES = 10, 5, 3
USER_TIMEOUT_MILLISECONDS = 25_000
"""Keep-alive settings that notice a lost host within half a minute; the system's default is two hours."""

LOCAL_BUFFER_BYTES = 1024 * 1024

SHORT_ROAD = sys.platform == "linux"
"""Only Linux has abstract names."""

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
                # Without this, a restarted server would wait until the system has forgotten old connections.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                _remove_stale(parsed.path)
            listener.bind(place)
            listeners = [listener]
            if parsed.transport == "tcp":
                host, port = listener.getsockname()[:2]
                bound = str(Address("tcp", host=host, port=port))
                # Peers also reach the wildcard address by the loopback address.
                beside = _local_socket("127.0.0.1" if host == _WILDCARD else host, port)
                if beside is not None:
                    local, name = beside
                    opened.enter_context(local)
                    # This process owns the address, so another owner of its name is an intruder who would get its messages.
                    local.bind(name)
                    listeners.append(local)
            for each in listeners:
                each.listen(backlog)
        except (OSError, AddressError) as error:
            raise TransportError(f"cannot listen on {address}: {reason(error)}", is_final=_is_final(error)) from None
        opened.pop_all()
    return listeners, bound


def begin_connect(address: str) -> socket.socket:
    """Return a socket that is connecting. Raises TransportError if the address can never be used, OSError if it cannot be
    reached now."""
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
                # This succeeds or fails at once. It fails if nobody listens, or if the listener's queue is full. TCP can wait.
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
    """Set the options of every connection."""
    connected.setblocking(False)
    if connected.family == getattr(socket, "AF_UNIX", None):
        # As much as the system allows: unlike TCP's, this buffer does not grow, and small messages take much of it.
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
        # Some systems lack some of them.
        number = getattr(socket, option, None)
        if number is not None:
            connected.setsockopt(socket.IPPROTO_TCP, number, value)


def _socket_for(address: Address, *, passive: bool) -> tuple[socket.socket, tuple[str, int] | str]:
    """Return an unconnected socket and where to bind or connect it."""
    if address.transport == "ipc":
        if sys.platform == "win32":
            raise OSError("ipc addresses do not exist on Windows")
        created = ClosingSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        place: tuple[str, int] | str = "\0" + address.path[1:] if address.path.startswith("@") else address.path
    else:
        # Only for IPv6 addresses: on hosts without IPv6, looking names up as IPv6 fails.
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        flags = socket.AI_PASSIVE if passive else 0
        host = None if address.host == "*" else address.host
        try:
            found = socket.getaddrinfo(host, address.port, family, socket.SOCK_STREAM, 0, flags)
        except UnicodeError:
            raise AddressError(f"{address}: {address.host!r} cannot be the name of a host") from None
        created = ClosingSocket(family, socket.SOCK_STREAM)
        place = found[0][4]  # type: ignore[assignment]
    prepare(created)
    return created, place


# --- local sockets


def local_name(host: str, port: int) -> str | None:
    """Return the abstract name for a numeric loopback address; None if it has none."""
    return f"\0scaler-{Address('tcp', host=host, port=port)}" if SHORT_ROAD and is_loopback_host(host) else None


def _local_socket(host: str, port: int) -> tuple[socket.socket, str] | None:
    """Return an unconnected local socket and the name for an address; None if there is no such name, or if this process
    may not have such sockets. Then TCP is used."""
    name = local_name(host, port)
    if name is None:
        return None
    try:
        created = ClosingSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return None
    prepare(created)
    return created, name


# --- both


NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""Errors that are final answers about a name; others mean that no name server answered."""


def is_unknown_host(error: socket.gaierror) -> bool:
    """Whether name servers say that there is no such host."""
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
            # There is no socket, or this process cannot test it: binding tells.
            return


def _is_final(error: Exception) -> bool:
    """Whether this process can never listen on an address. A port that is in use may become free."""
    if isinstance(error, socket.gaierror):
        return is_unknown_host(error)
    return isinstance(error, AddressError) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL


def reason(error: Exception) -> str:
    """Return the system's text of an error, without its number."""
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
