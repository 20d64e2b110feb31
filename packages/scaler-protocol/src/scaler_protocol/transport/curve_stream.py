"""One connected socket that speaks ZMTP with CURVE."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence

from scaler_protocol.security.authority import Authority
from scaler_protocol.transport.curve_boxes import COMMAND, MORE
from scaler_protocol.transport.curve_decoder import CurveDecoder
from scaler_protocol.transport.stream import Stream, limit_waiting
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES
from scaler_protocol.wire.envelope import Frame


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

    @property
    def introduced(self) -> bool:
        """Whether this end has told its key and the type of its socket."""
        return self._curve.introduced

    @property
    def sealed_bytes(self) -> int:
        """Memory of bytes that were sealed and wait for the network."""
        return sum(map(len, self.pending))

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message; return whether all of it has left. Only while nothing is pending."""
        sealer = self._curve.sealer
        assert sealer is not None
        data = sealer.seal_message(frames)
        if data is None:
            last = len(frames) - 1
            self._unsealed.extend((0 if at == last else MORE, frame) for at, frame in enumerate(frames))
            return self.flush()
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

    def _seal_next(self) -> None:
        """Seal small frames up to the next large one, or one large frame. Nothing is pending."""
        sealer = self._curve.sealer
        assert sealer is not None
        unsealed, total = self._unsealed, 0
        while unsealed:
            flags, frame = unsealed[0]
            total += len(frame)
            if total > LARGE_FRAME_BYTES and self.pending:
                return
            unsealed.popleft()
            self.pending.append(sealer.seal(flags, frame))

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
