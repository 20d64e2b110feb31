"""One connected socket that speaks ZMTP. It never blocks, and keeps bytes that the network has not taken yet."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES, Decoder, frame_message, frame_short_message, ignore
from scaler_protocol.wire.envelope import FRAMES_MAX, Frame

RECEIVE_BYTES = 64 * 1024
"""Bytes read from a socket at once: enough that copying them costs more than the system call."""

TURN_BYTES_MAX = 4 * 1024 * 1024
"""Most bytes of large frames read from one peer in a turn, so that other peers get theirs."""

TURN_FED_BYTES_MAX = 4 * RECEIVE_BYTES
"""Most other bytes: small frames take longer to decode."""

TURN_MESSAGES_MAX = 1024
"""Most messages, beside those of the last bytes."""

PIECES_MAX = 512
"""Pieces passed to the system in one call; it accepts 1,024."""

WAITING_MAX = 2 * FRAMES_MAX + 1000
"""Most pieces that wait for the network: those of one message, and answers to PING."""

if TYPE_CHECKING:
    from scaler_protocol.security.authority import Authority

_NOT_NOW = {errno.EAGAIN, errno.EWOULDBLOCK}
if sys.platform == "win32":
    # Errors of a socket that is still connecting.
    _NOT_NOW.add(errno.WSAENOTCONN)


class Stream:
    """Sends one message at a time; while `pending`, only `flush` sends. Raises OSError if the connection has ended."""

    __slots__ = ("_decoder", "_socket", "drained", "fd", "pending", "ready")

    def __init__(self, connected: socket.socket, decoder: Decoder) -> None:
        """The socket may still be connecting. If that fails, `flush` or `receive` raises the reason."""
        self._socket = connected
        self.fd = connected.fileno()
        self._decoder = decoder
        self.pending: list[Frame] = []
        """Bytes that the network has not taken. Call `flush` when the socket is writable."""
        self.ready = False
        """Whether messages may be sent."""
        self.drained = True
        """Whether the last `receive` has read everything that had arrived."""
        self._take_replies()

    @property
    def authority(self) -> Authority | None:
        """Whose key the other end has proven to have; None without keys."""
        return None

    @property
    def peer_identity(self) -> bytes:
        """The identity that the other end has announced; empty if none."""
        return self._decoder.peer_identity

    @property
    def unfinished_bytes(self) -> int:
        """Memory that the message takes that has arrived in part."""
        return self._decoder.unfinished_bytes

    @property
    def sealed_bytes(self) -> int:
        """Memory of bytes that were sealed and wait for the network; only with keys."""
        return 0

    def watch_unfinished(self, on_unfinished: Callable[[], None]) -> None:
        """Have a function called whenever bytes that were read end within a message. It may raise WireError."""
        self._decoder.on_unfinished = on_unfinished

    @property
    def introduced(self) -> bool:
        """Whether this end has told who it is and waits for an answer to that; only with keys."""
        return False

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
        """Send pending bytes; return whether none are left."""
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
        """Return the messages that have arrived. Raises OSError at the end of the connection, WireError for malformed bytes."""
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
        """Read on while there is more; read large frames straight into their buffers."""
        decoder = self._decoder
        taken = fed = 0
        while taken < TURN_BYTES_MAX and fed < TURN_FED_BYTES_MAX and len(messages) < TURN_MESSAGES_MAX:
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
                    # The next call finds the end again, after these messages.
                    break
                raise ConnectionResetError("the other end closed the connection")
            taken += count
            if not large:
                fed += count
                messages += decoder.feed(data)
                if decoder.replies or not self.ready:
                    self._take_replies()
            elif (message := decoder.filled(count)) is not None:
                messages.append(message)
        self.drained = False
        return messages

    def close(self) -> None:
        """Close at once. Pending bytes are lost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        # Who is told holds this stream, and whoever goes through connections may hold it as well: what has arrived of a message
        # must not stay in memory until they let it go.
        self._decoder.on_unfinished = ignore
        self._decoder.forget()

    def _take_replies(self) -> None:
        """Send greetings and answers to PING before the next message, but after one that is partly sent."""
        self.ready = self._decoder.ready
        self.pending.extend(self._decoder.replies)
        self._decoder.replies.clear()
        limit_waiting(len(self.pending))

    def say_goodbye(self) -> None:
        """Send the answer to what made the connection unusable, if there is one and the network takes it now."""
        if not self.ready:
            self.pending.extend(self._decoder.replies)
            self._decoder.replies.clear()
            with contextlib.suppress(OSError):
                self.flush()


def limit_waiting(pieces: int) -> None:
    """Raise if so many pieces wait: a peer that sends PINGs and never reads must not fill the memory."""
    if pieces > WAITING_MAX:
        raise MalformedMessageError("the other end sends PINGs and does not read the answers")


def _gathered(pieces: list[Frame]) -> list[Frame]:
    """Join small neighbouring pieces, so that there are fewer."""
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
        # Python has no call that sends several pieces on Windows.
        return connected.send(pieces[0])
