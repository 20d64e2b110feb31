"""The named locks that this client holds or waits for, without I/O."""

from __future__ import annotations

from collections.abc import Callable

from scaler.core import effects
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.session import Connection
from scaler_protocol.wire import messages as m


class _Lease:
    __slots__ = ("count", "held", "name", "releasing", "token")

    def __init__(self, name: str, count: int, token: object) -> None:
        self.name = name
        self.count = count
        self.token = token
        self.held = False
        self.releasing = False
        """Whether the scheduler has been asked to end it."""


class Leases:
    """Asks the scheduler for locks, and a scheduler that is started anew once more."""

    def __init__(
        self, connection: Connection, outbox: Outbox[effects.Effect], send: Callable[[m.Message], bool]
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._send = send
        self._open: dict[int, _Lease] = {}
        """By number. Numbers are given by whoever asks, and used once."""

    def acquire(self, number: int, name: str, count: int, token: object) -> None:
        """Hold a lock, or wait for it. `LeaseChanged` follows with the token."""
        self._open[number] = _Lease(name, count, token)
        if self._connection.established:
            self._send(m.LockRequest(number, name, count))

    def release(self, number: int) -> None:
        """End a lease that is held. `LeaseChanged` says whether it was held until then."""
        lease = self._open.get(number)
        if lease is not None:
            lease.releasing = True
            if self._connection.established:
                self._send(m.LockRelease(number))

    def withdraw(self, number: int) -> None:
        """End a lease, held or not. Nobody is told what becomes of it."""
        if self._open.pop(number, None) is not None and self._connection.established:
            self._send(m.LockRelease(number))

    def announce_again(self) -> None:
        """A scheduler that knows nothing of this client has begun a session."""
        for number, lease in list(self._open.items()):
            if not self._send(m.LockRequest(number, lease.name, lease.count, held=lease.held)):
                return
            if lease.releasing:
                self._send(m.LockRelease(number))

    def on_answer(self, message: m.LockAnswer) -> None:
        """The scheduler says what has become of a lease."""
        lease = self._open.get(message.lease)
        if lease is None:
            return
        if message.state == m.LockState.HELD:
            lease.held = True
        else:
            del self._open[message.lease]
        self._outbox.add(effects.LeaseChanged(lease.token, m.LockState(message.state), message.text))
