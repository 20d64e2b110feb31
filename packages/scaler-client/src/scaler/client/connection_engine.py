"""The engine of an application's client: a link to the scheduler and a thread that attends to it."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from typing import Any

from scaler import errors
from scaler.client.engine import Engine
from scaler.client.link_thread import LinkThread
from scaler.core import effects as e
from scaler.core.client_core import ClientCore
from scaler_protocol import messages as m
from scaler_protocol.errors import TransportError
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import Frame

JOIN_SECONDS = 5.0


class ConnectionEngine(Engine):
    """Connects when it is made; `close` ends it."""

    def __init__(
        self,
        address: str,
        hello: m.Hello,
        *,
        timeout_seconds: float,
        heartbeat_seconds: float,
        object_address: str | None,
    ) -> None:
        """Raises DisconnectedError or ConnectionRefusedByScheduler when no session begins in time."""
        core = ClientCore(
            hello.incarnation,
            hello,
            address=address,
            timeout_seconds=timeout_seconds,
            # An idle scheduler speaks when it is spoken to: often enough that its silence means something.
            heartbeat_seconds=min(heartbeat_seconds, timeout_seconds / 4),
        )
        super().__init__(core, hello, timeout_seconds=timeout_seconds, object_address=object_address)
        self.address = address
        self._ended = threading.Event()
        self._closing_when_idle = False
        try:
            link = DealerLink(address, hello.incarnation)
        except TransportError as error:
            raise errors.DisconnectedError(f"cannot connect to {address}: {error}") from None
        self._thread = LinkThread(link, self, "scaler-client")
        self._thread_ident: int | None = None
        core.start(time.monotonic())
        with self._lock:
            # Its hello: the thread sends what is due, and this is due only when it has to be said again.
            self._send_effects()
        self._thread.start()
        self._thread_ident = self._thread.ident
        _open.add(self)
        try:
            # The core reports silence itself; the margin lets it tell the better story.
            self.wait_connected(timeout_seconds + 1.0)
        except errors.DisconnectedError as error:
            self.close(e.Cause.CLOSED, "it never connected")
            raise _connect_error(error, address, timeout_seconds) from None
        except BaseException:
            self.close(e.Cause.CLOSED, "it was interrupted while it connected")
            raise

    @property
    def flushes_each(self) -> bool:
        return False

    def must_not_wait(self) -> bool:
        return threading.get_ident() == self._thread_ident

    def close(self, cause: e.Cause = e.Cause.CLOSED, text: str = "the client was disconnected") -> None:
        """End the session; what is unanswered fails with `cause` and `text`. Idempotent."""
        if self.forked:
            return
        with self._lock:
            self._core.close(cause, text)
            self._send_effects()
        self._close_channel()
        self._thread.stop()
        if not self.must_not_wait():
            self._thread.join(JOIN_SECONDS)
        self._perform_others()
        _open.discard(self)

    def close_when_idle(self) -> None:
        """Called when nobody holds the client any more; from any thread, with any lock held."""
        if not self.forked:
            self._closing_when_idle = True
            self._thread.wake()

    def shut_down_cluster(self, reason: str, timeout: float) -> None:
        """Ask the scheduler to stop everything, and wait until it has heard it."""
        with self._lock:
            if self._core.unusable is not None:
                raise self._core.unusable.with_traceback(None)
            self._core.shut_down_cluster(reason)
            self._send_effects()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not self._shutdown_heard():
            time.sleep(0.01)

    def _shutdown_heard(self) -> bool:
        with self._lock:
            return self._core.unusable is not None or self._core.goodbye_text is not None

    # --- Engine

    def _transmit(self, frames: list[Frame]) -> None:
        self._thread.send(frames)

    def _attend(self) -> None:
        if self.must_not_wait():
            self._tick()
            self._perform_others()
        else:
            self._thread.wake()

    # --- LinkOwner

    def before_sleep(self) -> None:
        if self._others:
            self._perform_others()

    def on_turn(self) -> None:
        self._tick()
        if self._closing_when_idle and not self._core.unanswered_count:
            self._closing_when_idle = False
            threading.Thread(target=self.close, name="scaler-close", daemon=True).start()

    def next_deadline(self) -> float:
        deadline = self._known_deadline
        if deadline is None:
            with self._lock:
                deadline = self._known_deadline = self._core.next_deadline()
        return deadline

    def on_end(self, error: BaseException | None) -> None:
        """However the thread ends, nothing stays silent."""
        text = "the client was disconnected" if error is None else f"the client's connection thread ended: {error!r}"
        with self._lock:
            self._core.close(e.Cause.CLOSED if error is None else e.Cause.DISCONNECTED, text)
            if error is None:
                self._send_effects()
            else:
                self._others.extend(x for x in self._core.take_effects() if not isinstance(x, e.Send))
        self._perform_others()
        self._ended.set()


def _connect_error(error: errors.DisconnectedError, address: str, timeout_seconds: float) -> errors.DisconnectedError:
    if isinstance(error, errors.ConnectionRefusedByScheduler):
        return error
    return errors.DisconnectedError(
        f"no scheduler answers at {address} (waited {timeout_seconds:g} s): is it running, and is the address right?"
    )


# Closed at exit, while threads still run: a client nobody disconnected must not be cut off in the middle of a message.
_open: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for engine in list(_open):
        engine.close(e.Cause.CLOSED, "the program ended")
