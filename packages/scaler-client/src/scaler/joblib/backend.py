"""joblib's backend "scaler": batches of calls as tasks of a cluster."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # typeshed leaves it out
from os import PathLike
from typing import TYPE_CHECKING, Any

try:
    from joblib import cpu_count, register_parallel_backend
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"scaler.joblib: {error.name} is not installed here: pip install 'scaler-client[joblib]'", name=error.name
    ) from None

from scaler.client.client import Client
from scaler.errors import DisconnectedError
from scaler.joblib.initializer import Initializer, checked_initializer, initialize
from scaler.joblib.session import CLOSED, Callback, Session
from scaler.joblib.worker_count import count_workers
from scaler.local.combo import SchedulerClusterCombo
from scaler_protocol.runtime.task_context import current_task_context
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions

if TYPE_CHECKING:
    from typing import Unpack

    from scaler.client.signatures import TaskOptions

SETTINGS = (
    *("address", "n_workers", "client", "timeout_seconds", "stream_output", "object_storage_address", "security"),
    *("group", "inner_max_num_threads", "initializer", "initargs"),
)
"""What a backend takes that is no option of its calls."""

OPTIONS = frozenset(CallOptions._fields) - {*SETTINGS}
"""What `Client.with_options` takes, and `Parallel` too."""

COUNT_SECONDS = 10.0
"""The cluster's workers are counted again after so long."""

JOBS_MIN = 2
"""What a negative `n_jobs` stands for at least: with 1, joblib would make the calls in this process."""


class _Silent:
    """In place of the `Parallel` that joblib's backends refer to, to tell of the size of batches.

    Several may use a backend at the same time, and the last one that came may be the first that is gone.
    """

    verbose = 0

    def _print(self, *_: object) -> None:
        """Print nothing."""


class ScalerBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the calls of `joblib.Parallel` on a cluster. Made by `joblib.parallel_config(backend="scaler", …)`.

    Calls go in batches, as with joblib's own processes. What joblib is given in a task runs in that task's process: in threads
    where it asks for several jobs, and one after the other below that.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1
    parallel = _Silent()

    def __init__(  # type: ignore[misc]  # an option `timeout_seconds` comes with a client's `with_options`
        self,
        address: str | PathLike[str] | None = None,
        n_workers: int | None = None,
        *,
        client: Client | None = None,
        timeout_seconds: float = 60,
        stream_output: bool = False,
        object_storage_address: str | None = None,
        security: str | PathLike[str] | None = None,
        group: str | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **options: Unpack[TaskOptions],
    ) -> None:
        """Connect to the cluster at `address`, or use `client`, which stays open when the backend ends.

        With neither, the first calls start a cluster on this machine with `n_workers`, or as many as there are CPUs, which ends
        with the backend; inside a task it is then the cluster that runs the task.

        `inner_max_num_threads`: how many threads the pools of BLAS and OpenMP may have in a task; it needs threadpoolctl on the
        workers. In a cluster that was started, workers divide the CPUs among them, unless OMP_NUM_THREADS is set. The other
        settings are those of `Client`, and `options` those of `Client.with_options`, for all calls.

        `initializer`: called as `initializer(*initargs)` in each process before its first call, as a worker plugin of the
        backend's own client; not with `client`.

        Raises what `Client` raises, and ValueError for settings that exclude one another.
        """
        NO_OPTIONS.with_given(options, "ScalerBackend", SETTINGS)
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._settings: dict[str, Any] = {
            "timeout_seconds": timeout_seconds,
            "stream_output": stream_output,
            "object_storage_address": object_storage_address,
            "security": security,
            "group": group,
        }
        self._threads: int | None = None
        """How many threads the pools of a task may have, unless the program says so."""
        self._guard = threading.Lock()
        self._session: Session | None = None
        self._is_closed = False
        self._workers: tuple[int | None, float] | None = None
        """How many workers the cluster has, and until when that holds."""
        self._options: dict[str, Any] = {**options}
        self._options_of: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
        """Those that a `Parallel` has of its own."""
        self._initializer: Initializer | None = None
        self._place: dict[str, Any] = {}
        """Where the calls run, if the program has said so."""
        self._initialize_with(checked_initializer(initializer, initargs), client)
        self._choose({"address": address, "n_workers": n_workers, "client": client})

    def _initialize_with(self, initializer: Initializer | None, client: Client | None) -> None:
        """Have processes call this before their next batch. Raises WorkerRunError, and ValueError where a client was given."""
        if initializer is None:
            return
        if client is not None or "client" in self._place:
            raise ValueError("initializer: register a worker plugin with the client instead, which is its owner")
        if self._session is not None:
            initialize(self._session.client, initializer)
        self._initializer = initializer

    def _choose(self, place: dict[str, Any]) -> None:
        """Note where the calls run, and connect, so that what is wrong with it is raised here."""
        place = {name: value for name, value in place.items() if value is not None}
        if not place or place == self._place:
            return
        if self._place or self._session is not None or len(place) > 1:
            raise ValueError("address, n_workers and client exclude one another: say where the calls run once")
        if place.get("n_workers", 1) < 1:
            raise ValueError("n_workers must be at least 1: nothing would ever run")
        if "n_workers" not in place:
            client = place.get("client")
            is_own = client is None
            self._begin(Session(client or Client(place["address"], **self._settings), is_own=is_own))
        self._place = place

    def _begin(self, session: Session) -> Session:
        if self._options:
            session.client = session.client.with_options(**self._options)
        if self._initializer is not None:
            try:
                initialize(session.client, self._initializer)
            except BaseException:
                session.close()
                raise
        self._session = session
        # With the backend, or before the interpreter ends.
        finalizer = weakref.finalize(self, session.close_later)
        finalizer.atexit = False
        atexit.register(session.close_at_exit)
        return session

    def _open(self) -> Session:
        with self._guard:
            if self._is_closed:
                raise DisconnectedError(CLOSED)
            if self._session is not None:
                self._session.check_process()
                return self._session
            if self._is_nested():
                return self._begin(Session(Client(**self._settings)))
            workers = self._local_workers()
            keys = self._settings["security"]
            cluster = SchedulerClusterCombo(workers, **({} if keys is None else {"security": keys}))
            try:
                session = Session(Client(cluster.get_address(), **self._settings), cluster=cluster)
            except BaseException:
                cluster.shutdown()
                raise
            self._workers = workers, float("inf")
            if "OMP_NUM_THREADS" not in os.environ:
                # As joblib does for its own processes.
                self._threads = max(int(cpu_count()) // workers, 1)
            return self._begin(session)

    def _local_workers(self) -> int:
        return int(self._place.get("n_workers") or cpu_count())

    def _is_nested(self) -> bool:
        """Whether it is the cluster that runs this task that also runs the calls."""
        return not self._place and current_task_context() is not None

    @property
    def client(self) -> Client:
        """What the calls go through. Starts the cluster where none runs yet."""
        return self._open().client

    def close(self) -> None:
        """End what the backend has opened now, and not with its last reference: the connection, and its own cluster.

        Calls that are under way, and later ones, raise DisconnectedError. Idempotent.
        """
        with self._guard:
            self._is_closed = True
        if self._session is not None:
            self._session.close()

    # --- what joblib asks

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls run at a time: `n_jobs`, or as many as there are workers for -1, one less for -2, and so on.

        None is the default, -1.
        """
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return n_jobs if n_jobs > 0 else max(self._count() + 1 + n_jobs, JOBS_MIN)

    def _count(self) -> int:
        if self._session is None and not self._is_nested():
            return self._local_workers()
        client = self.client
        if self._workers is None or self._workers[1] < time.monotonic():
            self._workers = count_workers(client), time.monotonic() + COUNT_SECONDS
        count = self._workers[0]
        return count if count is not None else int(cpu_count())

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        *,
        address: str | PathLike[str] | None = None,
        n_workers: int | None = None,
        client: Client | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **others: Any,
    ) -> int:
        """Make ready for the calls of `parallel`, and return how many run at a time.

        With joblib 1.5 and newer, `Parallel(backend="scaler", address=…)` gives its settings here, and `Parallel(label=…)` the
        options of its own calls. Others are joblib's.

        Raises TypeError and ValueError for impossible options, DisconnectedError after `close`, and ClientForkedError in a
        forked child.
        """
        self._initialize_with(checked_initializer(initializer, initargs), client)
        self._choose({"address": address, "n_workers": n_workers, "client": client})
        options = {name: value for name, value in others.items() if name in OPTIONS}
        if options:
            NO_OPTIONS.with_given(options, "Parallel")
            self._options_of[parallel] = options
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs > 1:
            self._open()
        return n_jobs

    def submit(self, func: Any, callback: Callback | None = None) -> Future[Any]:
        """Run a batch of calls on a worker. Raises DisconnectedError after `close`, and ClientForkedError in a forked child."""
        session = self._open()
        parallel = getattr(callback, "parallel", None)
        options = None if parallel is None else self._options_of.get(parallel)
        return session.submit(func, callback, self.inner_max_num_threads or self._threads, options)

    apply_async = submit
    """As joblib 1.4 names it."""

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Return the results of a batch, or raise what one of its calls has raised."""
        try:
            error = future.exception()
        except CancelledError:
            if self._is_closed:
                raise DisconnectedError(CLOSED) from None
            raise
        if error is None:
            return future.result()
        try:
            raise _with_remote_text(error)
        finally:
            # The traceback refers to this frame, and would to the exception.
            del error

    @contextlib.contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Within a task, lend its worker while joblib waits for others."""
        session = self._session
        if session is None:
            yield
            return
        # What was closed has told joblib how its calls ended; a forked child would not be told.
        session.check_process()
        with session.client.owner.waiting.blocking():
            yield

    def stop_call(self) -> None:
        """A call of `Parallel` is over: forget what was sent for it."""
        if self._session is not None:
            self._session.forget_values()

    def terminate(self) -> None:
        """Forget how long batches took. The cluster stays for the next call."""
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is under way, running or not, of the calls of `Parallel` that are being given up."""
        if self._session is not None:
            self._session.cancel(_is_given_up)

    def __reduce__(self) -> Any:
        raise TypeError(
            "the backend belongs to the process that has made it: name it in the task, with an address or without"
        )


def _is_given_up(callback: Callback | None) -> bool:
    """Whether the call of `Parallel` that a batch belongs to is ending early. Others may use the backend at the same time."""
    return bool(getattr(getattr(callback, "parallel", None), "_aborting", True))


def _with_remote_text(error: BaseException) -> BaseException:
    """Return the error with the text of its traceback, as joblib drops the traceback itself."""
    if error.__traceback__ is not None:
        text = "".join(traceback.format_exception(error))
        if error.__cause__ is None:
            # As with processes of the standard library.
            error.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
        else:
            error.add_note(f"It was raised on a worker:\n{text}")
    return error


register_parallel_backend("scaler", ScalerBackend)
