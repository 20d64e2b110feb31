"""The processor's ends of its channels to the agent."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence

from scaler_worker.processor.records import PACKET_BYTES_MAX, Assembler, Bytes, packets


class AgentGoneError(Exception):
    """The agent has closed the channel, or ended: there is nothing left to do."""


class Channel:
    """One blocking SEQPACKET socket. Any thread may send; one receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._assembler = Assembler()
        self._send_lock = threading.Lock()
        self._poller = select.poll()
        self._poller.register(sock.fileno(), select.POLLIN)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: int, parts: Sequence[Bytes] = ()) -> None:
        """Send one record, whole, between those of other threads. Raises AgentGoneError."""
        with self._send_lock:
            try:
                for packet in packets(kind, parts):
                    self._socket.send(packet)
            except OSError as error:
                raise AgentGoneError(str(error)) from None

    def has_waiting(self) -> bool:
        """Whether `receive` would find something, or the end, at once."""
        return bool(self._poller.poll(0))

    def receive(self) -> tuple[int, bytes]:
        """Wait for the next record; return (kind, body). Raises AgentGoneError at the end."""
        while True:
            try:
                packet = self._socket.recv(PACKET_BYTES_MAX)
            except OSError as error:
                raise AgentGoneError(str(error)) from None
            if not packet:
                raise AgentGoneError("closed")
            record = self._assembler.add(packet)
            if record is not None:
                return record
