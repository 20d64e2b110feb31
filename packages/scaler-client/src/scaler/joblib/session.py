"""What a backend of joblib has opened: a client, the cluster it has started, and a thread that calls joblib back."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from scaler.client.client import Client
from scaler.client.future import ScalerFuture
from scaler.errors import ScalerError
from scaler.joblib.sent_values import SentValues
from scaler.local.combo import SchedulerClusterCombo
from scaler_protocol.payloads.batched_calls import Batch, call_batch

logger = logging.getLogger("scaler")

Callback = Callable[[Future[Any]], object]
Completed = SimpleQueue[tuple[Future[Any], Callback | None] | None]


class Session:
    """See the module. It must not refer to the backend, with which it ends."""

    def __init__(self, client: Client, *, cluster: SchedulerClusterCombo | None = None, is_own: bool = True) -> None:
        """`is_own` False: the client is somebody else's, who will close it."""
        self.client = client
        self._cluster = cluster
        self._is_own = is_own
        self._under_way: dict[Future[Any], Callback | None] = {}
        self._sent: dict[object, SentValues] = {}
        """By the call of joblib that needs them."""
        self._completed: Completed = SimpleQueue()
        self._claim = [None]
        """Who pops it closes."""
        self._pid = os.getpid()
        # joblib takes results, iterates over what the program gives it and pickles the next batch when it is called back: that
        # takes too long for the client's own thread. The context says in which task, if any, it does so.
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(_call_back, self._completed),
            name="scaler-joblib",
            daemon=True,
        ).start()

    def submit(self, batch: Batch, callback: Callback | None, threads: int | None) -> Future[Any]:
        """Run a batch on a worker, and call back with its future. What keeps it from being sent is its future's exception."""
        future: Future[Any]
        try:
            sent = self._values_of(callback).take_out(batch)
            future = self.client.submit(call_batch, sent.batch, sent.places, threads, *sent.values)
        except Exception as error:
            # joblib waits for every batch that it has handed over: an error raised here, on the thread that calls back, would
            # be lost.
            future = Future()
            future.set_exception(error)
        self._under_way[future] = callback
        future.add_done_callback(self._tell)
        return future

    def _tell(self, future: Future[Any]) -> None:
        self._completed.put((future, self._under_way.pop(future, None)))

    def _values_of(self, callback: Callback | None) -> SentValues:
        call = getattr(callback, "parallel_call_id", None)
        values = self._sent.get(call)
        if values is None:
            values = self._sent[call] = SentValues(self.client)
        return values

    def forget_values(self) -> None:
        """No call is under way: nothing that was sent is used any more."""
        self._sent.clear()

    def cancel(self, is_given_up: Callable[[Callback | None], bool]) -> None:
        """Cancel the batches whose callbacks are given up, running or not."""
        futures = [
            future
            for future, callback in list(self._under_way.items())
            if isinstance(future, ScalerFuture) and is_given_up(callback)
        ]
        if futures:
            try:
                self.client.owner.cancel(futures, None)
            except ScalerError:
                # The connection is closed or lost: its client has told everybody who waits.
                return

    def close_later(self) -> None:
        """As `close`, without keeping the caller. A finalizer may call it, on any thread."""
        # The interpreter waits for this thread.
        threading.Thread(target=self.close, name="scaler-joblib-end", daemon=False).start()

    def close(self) -> None:
        """Cancel what is under way, disconnect, and end the cluster that was started. Idempotent."""
        if os.getpid() != self._pid:
            # A forked child has neither.
            return
        try:
            self._claim.pop()
        except IndexError:
            return
        self.cancel(lambda _: True)
        self._sent.clear()
        self._completed.put(None)
        if not self._is_own:
            return
        try:
            self.client.disconnect()
        finally:
            if self._cluster is not None:
                self._cluster.shutdown()


def _call_back(completed: Completed) -> None:
    """The thread: tell joblib of batches that have ended, until the session does."""
    while (ended := completed.get()) is not None:
        future, callback = ended
        try:
            if callback is not None:
                callback(future)
        except Exception:
            # joblib's code, and what it calls of the program's, such as a stream it prints to.
            logger.exception("joblib's callback for %r raised", future)
        # While this waits, nothing is kept.
        del ended, future, callback
