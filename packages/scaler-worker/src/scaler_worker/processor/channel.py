"""The processor's ends of its channels to the agent."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from os import close
from socket import MSG_DONTWAIT, SOL_SOCKET
from threading import Lock

from scaler_worker.processor.changes import CHANGES
from scaler_worker.processor.record_boxes import RecordBoxes
from scaler_worker.processor.records import PACKET_BYTES_MAX, Assembler, Bytes, Kind, packets, several_parts

_SO_COOKIE = 57
"""From Linux' `asm-generic/socket.h`: a number no other socket has or will have."""

_COOKIE_BYTES = 8


TOGETHER_BYTES_MAX = PACKET_BYTES_MAX // 2
"""Larger records gain nothing by travelling together."""

Record = tuple[Kind, Sequence[Bytes]]

WAIT_MILLISECONDS = 100
"""How long a signal may go unnoticed where it comes just before the thread begins to wait."""


class AgentGoneError(Exception):
    """The agent has closed the channel, or ended: there is nothing left to do."""


class Channel:
    """One blocking SEQPACKET socket. Any thread may send; one receives.

    Tasks may patch or close whatever they find: methods are bound once, and what is sent goes to the agent or nowhere.
    """

    write_flag = int(MSG_DONTWAIT)

    def __init__(self, sock: socket.socket, boxes: RecordBoxes | None = None) -> None:
        """`boxes`: for long records, if there are any."""
        self._socket = sock
        self._descriptor = sock.fileno()
        self._option = sock.getsockopt
        self._cookie = sock.getsockopt(SOL_SOCKET, _SO_COOKIE, _COOKIE_BYTES)
        self._send_packet = sock.send
        self._receive_packet = sock.recv
        self._assembler = Assembler(boxes.to_processor if boxes is not None else None)
        self._boxes = boxes.to_agent if boxes is not None else None
        self._send_lock = Lock()
        self.write = self._send_packet
        """Sends one packet by one operation, with the flag `write_flag`: it raises where it would have to wait."""
        self.pending = False
        """Whether a record is being sent, between whose packets no other may come."""
        self._poller = select.poll()
        self._poller.register(sock.fileno(), select.POLLIN)
        self._abandoned = False

    def fileno(self) -> int:
        """Return the channel's descriptor."""
        return self._descriptor

    @property
    def is_intact(self) -> bool:
        """Whether the descriptor still is what it was: a task may have closed it, or put something else in its place."""
        try:
            return self._option(SOL_SOCKET, _SO_COOKIE, _COOKIE_BYTES) == self._cookie and not self._abandoned
        except OSError:
            return False

    @property
    def _is_doubtful(self) -> bool:
        # To ask the kernel for every record would cost as much as to send it.
        return CHANGES.noted or self._abandoned

    def abandon(self) -> None:
        """In a process forked from the one whose channel this is: never to be used again there."""
        if self.is_intact:
            close(self._descriptor)
        self._abandoned = True
        self._send_lock = Lock()

    def send(self, kind: int, parts: Sequence[Bytes] = ()) -> None:
        """Send one record, whole, between those of other threads. Raises AgentGoneError."""
        with self._send_lock:
            try:
                if self._is_doubtful and not self.is_intact:
                    raise AgentGoneError("the channel was closed inside this process")
                found = packets(kind, parts, self._boxes)
                if len(found) > 1:
                    self.pending = True
                for packet in found:
                    self._send_packet(packet)
            except OSError as error:
                raise AgentGoneError(str(error)) from None
            finally:
                self.pending = False

    def give_back_idle(self) -> None:
        """Return memory to the system that no long record has needed since the last call."""
        with self._send_lock:
            if self._boxes is not None:
                self._boxes.give_back_idle()

    def send_together(self, first: Record, second: Record) -> None:
        """Send two records, in one packet where they fit into one. Raises AgentGoneError."""
        if sum(map(len, first[1])) + sum(map(len, second[1])) <= TOGETHER_BYTES_MAX:
            self.send(Kind.SEVERAL, several_parts((first, second)))
        else:
            self.send(*first)
            self.send(*second)

    def prepare(self, kind: int, parts: Sequence[Bytes]) -> bytes | None:
        """Return the record as the one packet that `write` sends, where it is one and the channel is there."""
        found = packets(kind, parts)
        return found[0] if len(found) == 1 and (not self._is_doubtful or self.is_intact) else None

    def has_waiting(self) -> bool:
        """Whether `receive` would find something, or the end, at once."""
        return bool(self._poller.poll(0))

    def waited_for(self, seconds: float) -> bool:
        """Wait so long at most until `receive` finds something, or the end; return whether it does."""
        return bool(self._poller.poll(seconds * 1000))

    def wait(self) -> None:
        """Wait until `receive` finds something, or the end. An exception raised here by a signal loses nothing."""
        # Bounded: a signal that comes just before the system call does not interrupt it. Its handler runs after this one.
        while not self._poller.poll(WAIT_MILLISECONDS):
            pass

    def receive(self) -> tuple[int, bytes]:
        """Wait for the next record; return (kind, body). Raises AgentGoneError at the end."""
        while True:
            try:
                packet = self._receive_packet(PACKET_BYTES_MAX)
            except OSError as error:
                raise AgentGoneError(str(error)) from None
            if not packet:
                raise AgentGoneError("closed")
            record = self._assembler.add(packet)
            if record is not None:
                return record
