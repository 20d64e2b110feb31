"""What a backend of joblib has opened: a client, the cluster it has started, and a thread that calls joblib back."""

from __future__ import annotations

import _thread
import atexit
import contextvars
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from scaler.client.client import Client
from scaler.client.future import ScalerFuture
from scaler.errors import ClientForkedError, DisconnectedError, ScalerError
from scaler.joblib.failed_callback import raise_in_call
from scaler.joblib.sent_values import SentValues
from scaler.local.combo import SchedulerClusterCombo
from scaler_protocol.payloads.batched_calls import Batch, Work, call_batch

logger = logging.getLogger("scaler")

Callback = Callable[[Future[Any]], object]
Completed = SimpleQueue[Future[Any] | None]
UnderWay = dict[Future[Any], Callback | None]

CLOSED = 'this joblib backend is closed: begin another block of joblib.parallel_config(backend="scaler", …)'

FORKED = (
    "this joblib backend belongs to the process that this one was forked from: "
    'begin another block of joblib.parallel_config(backend="scaler", …) here'
)

END_SECONDS = 60.0
"""How long the interpreter waits, as it ends, for a thread that closes a session."""


class Session:
    """See the module. It must not refer to the backend, with which it ends."""

    def __init__(self, client: Client, *, cluster: SchedulerClusterCombo | None = None, is_own: bool = True) -> None:
        """`is_own` False: the client is somebody else's, who will close it."""
        self.client = client
        self._cluster = cluster
        self._is_own = is_own
        self._guard = threading.Lock()
        self._is_closed = False
        self._has_ended = threading.Event()
        """Set once it is closed."""
        self._under_way: UnderWay = {}
        """What joblib has not been told of."""
        self._sent: dict[object, tuple[Callable[[], Any], SentValues]] = {}
        """By the call of joblib that needs them, with a weak reference to its `Parallel`, which refers to the backend."""
        self._completed: Completed = SimpleQueue()
        self._pid = os.getpid()
        # joblib takes results, iterates over what the program gives it and pickles the next batch when it is called back: that
        # takes too long for the client's own thread. The context says in which task, if any, it does so.
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(_call_back, self._completed, self._under_way),
            name="scaler-joblib",
            daemon=True,
        ).start()

    def submit(
        self, batch: Batch, callback: Callback | None, threads: int | None, options: Mapping[str, Any] | None = None
    ) -> Future[Any]:
        """Run a batch on a worker, and call back with its future. What keeps it from being sent is its future's exception.

        `options`: see `Client.with_options`; they take the place of the client's.

        Raises DisconnectedError after `close`, and ClientForkedError in a forked child: nobody would call back.
        """
        self.check_process()
        future: Future[Any]
        try:
            sent = self._values_of(callback).take_out(batch)
            client = self.client.with_options(**options) if options else self.client
            future = client.submit(call_batch, Work(sent.batch, sent.places, threads), *sent.values)
        except Exception as error:
            # joblib waits for every batch that it has handed over, and gives up the others once it is told of this.
            future = Future()
            future.set_exception(error)
        with self._guard:
            is_late = self._is_closed
            if not is_late:
                self._under_way[future] = callback
        if is_late:
            # The thread that calls back may have ended.
            future.cancel()
            raise DisconnectedError(CLOSED)
        future.add_done_callback(self._completed.put)
        return future

    def check_process(self) -> None:
        """Raise ClientForkedError in a forked child: it has neither the connection nor the thread."""
        if os.getpid() != self._pid:
            raise ClientForkedError(FORKED)

    def _values_of(self, callback: Callback | None) -> SentValues:
        call = getattr(callback, "parallel_call_id", None)
        entry = self._sent.get(call)
        if entry is None:
            parallel = getattr(callback, "parallel", None)
            find = (lambda: None) if parallel is None else weakref.ref(parallel)
            entry = self._sent[call] = find, SentValues(self.client)
        return entry[1]

    def forget_values(self) -> None:
        """Forget what was sent for calls of joblib that are over."""
        for call, (find, _) in list(self._sent.items()):
            parallel = find()
            # The same `Parallel` may have begun another call.
            if parallel is None or not parallel._running or parallel._call_id != call:
                self._sent.pop(call, None)

    def cancel(self, is_given_up: Callable[[Callback | None], bool]) -> None:
        """Cancel the batches whose callbacks are given up, running or not."""
        futures = [
            future
            for future, callback in list(self._under_way.items())
            if isinstance(future, ScalerFuture) and not future.done() and is_given_up(callback)
        ]
        if futures:
            try:
                self.client.owner.cancel(futures, None)
            except ScalerError:
                # The connection is closed or lost: its client has told everybody who waits.
                return

    def close_later(self) -> None:
        """As `close`, without keeping the caller. A finalizer may call it, on any thread, in the middle of anything."""
        # Not a `threading.Thread`: to start one takes locks of that module, which the caller may hold, and waits for the thread.
        # `close_at_exit` waits for it.
        _thread.start_new_thread(self.close, ())

    def close_at_exit(self) -> None:
        """As `close`, but wait for another thread that closes it."""
        self.close()
        if os.getpid() == self._pid:
            self._has_ended.wait(END_SECONDS)

    def close(self) -> None:
        """Cancel what is under way, disconnect, and end the cluster that was started. Idempotent."""
        if os.getpid() != self._pid:
            # A forked child has neither.
            return
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
        try:
            self._end()
        finally:
            self._has_ended.set()
            atexit.unregister(self.close_at_exit)

    def _end(self) -> None:
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


def _call_back(completed: Completed, under_way: UnderWay) -> None:
    """The thread: tell joblib of batches that have ended, until the session does and joblib was told of all."""
    is_ending = False
    while not is_ending or under_way:
        future = completed.get()
        if future is None:
            is_ending = True
            continue
        callback = under_way.pop(future, None)
        try:
            if callback is not None:
                callback(future)
        except BaseException as error:
            # joblib's code, and what it calls of the program's: what gives it the calls, or a stream it prints to.
            if not raise_in_call(callback, error):
                logger.exception("joblib's callback for %r raised", future)
        # While this waits, nothing is kept.
        del future, callback
