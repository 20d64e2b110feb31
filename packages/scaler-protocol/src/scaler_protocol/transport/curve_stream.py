"""One connected socket that speaks ZMTP with CURVE."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence

from scaler_protocol.security.authority import Authority
from scaler_protocol.transport.curve_boxes import COMMAND, MORE, OVERHEAD_BYTES, PLAIN_AT, new_buffer
from scaler_protocol.transport.curve_decoder import CurveDecoder
from scaler_protocol.transport.stream import Stream, limit_waiting
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES
from scaler_protocol.wire.envelope import Frame

_SHORT_FRAME_MAX = 255
_SHORT_HEAD_BYTES, _LONG_HEAD_BYTES = 2, 9
_LONG = 2
_LONG_HEAD = struct.Struct(">BQ")


class CurveStream(Stream):
    """As `Stream`. Of a message that waits, its large frames are sealed one at a time, so that one needs twice its memory."""

    __slots__ = ("_curve", "_unsealed")

    def __init__(self, connected: socket.socket, decoder: CurveDecoder) -> None:
        self._curve = decoder
        self._unsealed: deque[tuple[int, Frame]] = deque()
        """Flags and frames that follow what is pending. They are sealed in this order."""
        super().__init__(connected, decoder)

    @property
    def authority(self) -> Authority | None:
        """Whose key the other end has proven to have."""
        return self._curve.authority

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message; return whether all of it has left. Only while nothing is pending."""
        if sum(map(len, frames)) > LARGE_FRAME_BYTES:
            last = len(frames) - 1
            self._unsealed.extend((0 if at == last else MORE, frame) for at, frame in enumerate(frames))
            return self.flush()
        data = self._sealed(frames)
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
        while super().flush():
            if not self._unsealed:
                return True
            self._seal_next()
        return False

    def _sealed(self, frames: Sequence[Frame]) -> bytearray:
        """Return a message of short frames on the wire."""
        sealer = self._curve.sealer
        assert sealer is not None
        total = 0
        for frame in frames:
            size = len(frame)
            head = _LONG_HEAD_BYTES if size + OVERHEAD_BYTES > _SHORT_FRAME_MAX else _SHORT_HEAD_BYTES
            total += head + OVERHEAD_BYTES + size
        data = bytearray(total)
        position = 0
        left = len(frames)
        for frame in frames:
            left -= 1
            size = len(frame)
            body = size + OVERHEAD_BYTES
            if body > _SHORT_FRAME_MAX:
                _LONG_HEAD.pack_into(data, position, _LONG, body)
                position += _LONG_HEAD_BYTES
            else:
                data[position + 1] = body
                position += _SHORT_HEAD_BYTES
            if left:
                data[position + PLAIN_AT] = MORE
            data[position + OVERHEAD_BYTES : position + body] = frame
            sealer.seal(data, position, size)
            position += body
        return data

    def _seal_next(self) -> None:
        """Seal small frames up to the next large one, or one large frame."""
        sealer = self._curve.sealer
        assert sealer is not None
        unsealed, pending = self._unsealed, self.pending
        total = 0
        while unsealed and total <= LARGE_FRAME_BYTES:
            flags, frame = unsealed[0]
            size = len(frame)
            total += size
            if total > LARGE_FRAME_BYTES and pending:
                return
            unsealed.popleft()
            body = size + OVERHEAD_BYTES
            buffer = new_buffer(_LONG_HEAD_BYTES + body)
            _LONG_HEAD.pack_into(buffer, 0, _LONG, body)
            buffer[_LONG_HEAD_BYTES + PLAIN_AT] = flags
            buffer[_LONG_HEAD_BYTES + OVERHEAD_BYTES :] = frame
            sealer.seal(buffer, _LONG_HEAD_BYTES, size)
            pending.append(buffer)

    def _take_replies(self) -> None:
        """Commands of the handshake leave as they are; later ones are sealed, after what waits already."""
        curve = self._curve
        plain = curve.plain_replies
        self.pending.extend(curve.replies[:plain])
        self._unsealed.extend((COMMAND, body) for body in curve.replies[plain:])
        curve.replies.clear()
        curve.plain_replies = 0
        self.ready = curve.ready
        if not self.pending and self._unsealed:
            self._seal_next()
        limit_waiting(len(self._unsealed))
