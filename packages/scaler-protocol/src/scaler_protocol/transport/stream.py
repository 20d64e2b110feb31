"""One connected socket that speaks ZMTP: never blocks, keeps what the network would not take yet."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Sequence

from scaler_protocol.address import Address, AddressError
from scaler_protocol.errors import TransportError
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES, Decoder, SocketType, frame_message, frame_short_message
from scaler_protocol.wire import Frame

RECEIVE_BYTES = 64 * 1024
"""Taken from a socket at once: what makes a system call cheap beside the bytes it moves."""

TURN_BYTES_MAX = 4 * 1024 * 1024
"""Taken from one peer in a turn, so that others have theirs."""

PIECES_MAX = 512
"""Pieces given to the system in one call; it takes 1,024."""

KEEP_ALIVE_IDLE_SECONDS, KEEP_ALIVE_INTERVAL_SECONDS, KEEP_ALIVE_PROBES = 10, 5, 3
USER_TIMEOUT_MILLISECONDS = 25_000
"""A peer whose host went away is noticed within half a minute; the system's own default is two hours."""


_NOT_NOW = {errno.EAGAIN, errno.EWOULDBLOCK}
if sys.platform == "win32":
    # What a socket says there while it is still connecting.
    _NOT_NOW.add(errno.WSAENOTCONN)


class Stream:
    """Sends one message at a time: while `pending`, only `flush` goes on. Raises OSError when the connection is over."""

    __slots__ = ("_decoder", "_socket", "drained", "fd", "pending", "ready")

    def __init__(self, connected: socket.socket, socket_type: SocketType, identity: bytes = b"") -> None:
        """`connected` may still be connecting; should that fail, `flush` or `receive` says why."""
        self._socket = connected
        self.fd = connected.fileno()
        self._decoder = Decoder(socket_type, identity)
        self.pending: list[Frame] = []
        """What the network has not taken: call `flush` when the socket is writable."""
        self.ready = False
        """Whether the other end may be sent messages."""
        self.drained = True
        """Whether the last `receive` has taken everything that was there."""
        self._take_replies()

    @property
    def peer_identity(self) -> bytes:
        return self._decoder.peer_identity

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message; return whether all of it has left. Only while nothing is pending."""
        data = frame_short_message(frames)
        if data is None:
            pieces, total = frame_message(frames)
            if total > LARGE_FRAME_BYTES:
                self.pending = _gathered(pieces)
                return self.flush()
            data = b"".join(pieces)
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self.pending = [memoryview(data)[sent:]]
        return False

    def flush(self) -> bool:
        """Send what is pending; return whether nothing is left."""
        pieces = self.pending
        while pieces:
            try:
                sent = _send_pieces(self._socket, pieces[:PIECES_MAX])
            except OSError as error:
                if error.errno in _NOT_NOW:
                    return False
                raise
            done = 0
            for piece in pieces:
                if sent < len(piece):
                    break
                sent -= len(piece)
                done += 1
            del pieces[:done]
            if sent:
                pieces[0] = memoryview(pieces[0])[sent:]
        return True

    def receive(self) -> list[list[Frame]]:
        """Return the messages that have come. Raises OSError at the end of the connection, WireError for nonsense."""
        decoder = self._decoder
        if decoder.large is None:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except OSError as error:
                if error.errno not in _NOT_NOW:
                    raise
                self.drained = True
                return []
            if not data:
                raise ConnectionResetError("the other end closed the connection")
            messages = decoder.feed(data)
            if decoder.replies or not self.ready:
                self._take_replies()
            self.drained = len(data) < RECEIVE_BYTES
            if self.drained:
                return messages
        else:
            messages = []
        return self._receive_more(messages)

    def _receive_more(self, messages: list[list[Frame]]) -> list[list[Frame]]:
        """Go on while there is more: large frames straight into their buffers."""
        decoder = self._decoder
        taken = 0
        while taken < TURN_BYTES_MAX:
            large = decoder.large is not None
            try:
                if large:
                    count = self._socket.recv_into(decoder.room())
                else:
                    data = self._socket.recv(RECEIVE_BYTES)
                    count = len(data)
            except BlockingIOError:
                self.drained = True
                return messages
            if not count:
                if messages:
                    # The end comes once more, when these have been looked at.
                    break
                raise ConnectionResetError("the other end closed the connection")
            taken += count
            if not large:
                messages += decoder.feed(data)
                if decoder.replies or not self.ready:
                    self._take_replies()
            elif (message := decoder.filled(count)) is not None:
                messages.append(message)
        self.drained = False
        return messages

    def close(self) -> None:
        """Close at once; what is pending is lost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _take_replies(self) -> None:
        """Greetings and answers to PING go before any further message, behind one that is under way."""
        self.ready = self._decoder.ready
        self.pending.extend(self._decoder.replies)
        self._decoder.replies.clear()


def _gathered(pieces: list[Frame]) -> list[Frame]:
    """Join neighbours that are small, so that few pieces are left."""
    gathered: list[Frame] = []
    small: list[Frame] = []
    for piece in pieces:
        if len(piece) < LARGE_FRAME_BYTES:
            small.append(piece)
            continue
        if small:
            gathered.append(b"".join(small))
            small = []
        gathered.append(piece)
    if small:
        gathered.append(b"".join(small))
    return gathered


if hasattr(socket.socket, "sendmsg"):

    def _send_pieces(connected: socket.socket, pieces: list[Frame]) -> int:
        return connected.sendmsg(pieces)

else:

    def _send_pieces(connected: socket.socket, pieces: list[Frame]) -> int:
        # Windows has no call for several pieces that Python offers.
        return connected.send(pieces[0])


# --- sockets for addresses


def listen(address: str, backlog: int) -> tuple[socket.socket, str]:
    """Return a listening socket and the address it got. Raises TransportError."""
    listener = None
    try:
        parsed = Address.parse(address)
        listener, place = _socket_for(parsed, passive=True)
        if parsed.transport == "tcp":
            # Otherwise a server that is started again would wait for old connections to be forgotten.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            _remove_stale(parsed.path)
        listener.bind(place)
        listener.listen(backlog)
    except (OSError, AddressError) as error:
        if listener is not None:
            listener.close()
        raise TransportError(f"cannot listen on {address}: {_reason(error)}") from None
    if parsed.transport == "tcp":
        host, port = listener.getsockname()[:2]
        return listener, str(Address("tcp", host=host, port=port))
    return listener, address


def begin_connect(address: str) -> socket.socket:
    """Return a socket that is connecting. Raises TransportError when the address cannot be used at all, OSError when it
    cannot be reached right now."""
    try:
        parsed = Address.parse(address)
    except AddressError as error:
        raise TransportError(f"cannot connect to {address}: {error}") from None
    if not parsed.can_be_connected:
        raise TransportError(f"cannot connect to {address}: it is an address to listen on")
    connecting, place = _socket_for(parsed, passive=False)
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
        found = socket.getaddrinfo(host, address.port, family, socket.SOCK_STREAM, 0, flags)
        created = socket.socket(family, socket.SOCK_STREAM)
        place = found[0][4]  # type: ignore[assignment]
    prepare(created)
    return created, place


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


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)
