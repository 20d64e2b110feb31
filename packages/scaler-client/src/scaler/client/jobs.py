"""Jobs: tasks that outlive the client that submitted them. Another program lists, follows and cancels them by name.

A detached task leaves with the same messages as any other. The scheduler gives it to its job, and the future here only follows
it.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from scaler import errors
from scaler.client.checks import checked_capabilities
from scaler.client.future import FutureOwner, FutureSource, ScalerFuture
from scaler.client.gathering import completed_futures, found_futures, gathered
from scaler.client.job_answers import Question
from scaler.client.object_reference import ObjectReference
from scaler.client.seconds import checked_seconds, checked_timeout
from scaler.client.sleepers import Sleepers
from scaler.serialization.faults import explain
from scaler.serialization.pickled import Packed, Pickled
from scaler.serialization.pickling import dumps
from scaler_protocol.ids import content_id
from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.runtime.names import name_of, shown
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, encode_record, job_name

if TYPE_CHECKING:
    from scaler.client.engine import Engine
    from scaler.client.surroundings import Surroundings

logger = logging.getLogger(__name__)

ARGUMENT_BYTES_MAX = 16 * 1024 * 1024
"""Largest arguments of one task of a job: they are kept with it, and not in object storage, which is their client's."""

FOLLOWED_MAX = 1000
"""So many results are asked for at once."""

GROUPS_MAX = 1000

PAUSE_SECONDS = 0.01
"""How often is looked whether submitted tasks have left."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_RESULT = b"the result of a task of a job"


def _pack(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: int = 0, /) -> Packed:
    raise NotImplementedError


_RESULT_OF_JOB = Pickled(content_id(_RESULT), _RESULT, (), "job result", _pack)
"""Stands for a function in what asks for a result."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the scheduler knows of a job. Times are Unix times, in seconds."""

    name: str
    owner: str
    """The name of the client that made it."""
    started: float
    waiting: int
    """Tasks that wait for a worker."""
    running: int
    """Tasks that a worker host has."""
    done: int
    """Tasks with a result."""
    failed: int
    canceled: int
    lost: int
    """Tasks whose result was lost with object storage."""
    tasks: int
    size_bytes: int
    """Of arguments and results, as the scheduler counts them for its limit."""
    is_closed: bool
    """Whether all its tasks were submitted: it takes no others any more."""
    keep_seconds: float
    expires: float | None
    """When it is forgotten; None while a task has not ended."""
    notice: str = ""
    """Why tasks of it cannot run now, for people; empty: nothing is known."""

    @property
    def is_done(self) -> bool:
        """Whether all tasks have ended."""
        return not (self.waiting or self.running)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from scaler.client.notebook import facts_table

        counts = {
            "waiting": self.waiting,
            "running": self.running,
            "done": self.done,
            "failed": self.failed,
            "canceled": self.canceled,
            "lost": self.lost,
        }
        shown = {name: f"{count:,}" for name, count in counts.items() if count}
        times = {"started": _clock(self.started), "forgotten": "" if self.expires is None else _clock(self.expires)}
        facts = {"job": self.name, "owner": self.owner, "tasks": f"{self.tasks:,}", **shown, **times}
        return facts_table("Job", {**facts, "cannot run": self.notice})


def _shown_in_notebook(title: str, make: Callable[[], str]) -> str:
    """Return what `make` returns, or a table that says why it cannot: a cell must not fail by being shown."""
    from scaler.client.notebook import facts_table

    try:
        return make()
    except errors.ScalerError as error:
        return facts_table(title, {"not known": error})


def _clock(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))


def keep_seconds(keep: Any) -> float:
    """Return how long a job is kept: seconds, a timedelta, or a text such as "90s", "30m", "12h", "7d", "2w"; None: 0.

    Raises TypeError or ValueError for what is none of these.
    """
    if keep is None:
        return 0.0
    if isinstance(keep, timedelta):
        return checked_seconds("keep", keep.total_seconds())
    if isinstance(keep, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", keep)
        if found is None:
            raise ValueError(f"keep must be a time such as '90s', '30m', '12h' or '7d', not {shown(keep)}")
        return checked_seconds("keep", float(found[1]) * _UNITS[found[2]])
    return checked_seconds("keep", keep)


class JobOperations(Protocol):
    """What this needs of a client's operations."""

    engine: Engine
    surroundings: Surroundings

    def submit(
        self, client: FutureSource, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ScalerFuture:
        """Submit a task that belongs to no job."""

    def require_open(self) -> None:
        """Raise where the client cannot be used."""

    def client_jobs(self) -> ClientJobs:
        """Return what the client does about jobs."""


class JobClient(Protocol):
    """What this needs of a client."""

    submit_call: Callable[..., ScalerFuture[Any]]

    @property
    def owner(self) -> FutureOwner:
        """Who completes its futures."""

    @property
    def serializer(self) -> Any:
        """Its own serializer, or None."""

    @property
    def profiling(self) -> bool:
        """Whether its tasks are measured."""

    @property
    def operations(self) -> JobOperations:
        """What it does."""


class AsyncBlock:
    """An `async with` block: its job, as long as it lasts."""

    __slots__ = ("jobs", "name")

    def __init__(self, jobs: ClientJobs, name: str) -> None:
        self.jobs: ClientJobs | None = jobs
        """None once it has ended."""
        self.name = name


_block_here: ContextVar[AsyncBlock | None] = ContextVar("block_here", default=None)


class ClientJobs:
    """What one client does about jobs. Made with the first of them."""

    def __init__(self, operations: JobOperations) -> None:
        self._operations = operations
        self._engine = operations.engine
        self._groups: dict[tuple[int, m.Capabilities, int, CallOptions], Any] = {}
        self._blocks: dict[int, str] = {}
        """By thread: the job that its tasks belong to, inside a `with` block."""
        self._async_blocks = 0
        """How many `async with` blocks there are; `_block_here` says which of them code runs in."""
        self._opened: set[str] = set()
        self._lock = threading.Lock()
        self._blocks_lock = threading.Lock()
        """Held while a block begins or ends: what `submit_call` is has to agree with whether there are any."""
        self._has_warned = False
        # Who leaves without a word must not take along what has not left.
        at_exit = partial(_settle_at_exit, weakref.ref(self))
        atexit.register(at_exit)
        self.close: Callable[[], object] = weakref.finalize(self, atexit.unregister, at_exit)
        """The client has ended, and so has what the process's end is told of it. Idempotent."""
        self.close.atexit = False

    @property
    def is_open(self) -> bool:
        """Whether the client can be used."""
        return self._engine.unusable is None

    # --- what is submitted

    def options_here(self, options: CallOptions) -> CallOptions:
        """Return the options of a call in this thread: inside a block they name its job."""
        name = self._name_here()
        if name is None or options.detached:
            return options
        return options._replace(detached=True, name=name)

    def _name_here(self) -> str | None:
        if self._async_blocks:
            block = _block_here.get()
            if block is not None and block.jobs is self:
                return block.name
        return self._blocks.get(threading.get_ident()) if self._blocks else None

    def submit_here(self, client: FutureSource, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ScalerFuture:
        """What a client's `submit` is while any thread is inside of a block."""
        options = self.options_here(NO_OPTIONS)
        if not options.detached:
            return self._operations.submit(client, fn, args, kwargs)
        return self.submit(client, options, fn, args, kwargs)

    def submit(
        self,
        client: FutureSource,
        options: CallOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        capabilities: m.Capabilities = (),
        flags: int = 0,
    ) -> ScalerFuture:
        """Submit a task of the job that the options name."""
        operations, engine = self._operations, self._engine
        operations.require_open()
        if options.name not in self._opened:
            with self._lock:
                if options.name not in self._opened:
                    self.open(options.name, 0.0)
        here = operations.surroundings
        if here.environment or here.packer.serializer_function is not None:
            raise ValueError(
                "a job outlives its client, so its tasks cannot use the client's serializer, plugins or uploaded modules"
            )
        function = here.packer.function(fn)
        if function.objects:
            engine.objects.release(function.objects)
            raise errors.SerializationError(f"{name_of(fn)} captures too much to be called in a job, which keeps it")
        if function.check is not None:
            function.check(*args, **kwargs)
        payload = self._payload(fn, args, kwargs)
        future = ScalerFuture(client)
        group = self._group(m.TaskKind.CALL, capabilities, flags, options)
        engine.tasks.submit(group, function, payload, (), future)
        return future

    def _payload(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        found: list[Any]
        _, found = found_futures([args, kwargs], (ScalerFuture, ObjectReference))  # type: ignore[arg-type]
        if found:
            raise errors.SerializationError(
                f"{name_of(fn)}: a {type(found[0]).__name__} is its client's, and ends with it: a job takes values only"
            )
        try:
            payload = PICKLED + dumps((args, kwargs))
        except Exception as error:
            raise errors.SerializationError(
                explain(f"the arguments of {name_of(fn)}", (args, kwargs), error)
            ) from error
        if len(payload) > ARGUMENT_BYTES_MAX:
            raise errors.SerializationError(
                f"the arguments of {name_of(fn)} take {len(payload)} bytes; a job keeps them with each task, and takes "
                f"{ARGUMENT_BYTES_MAX} at most"
            )
        return payload

    def _group(self, kind: int, capabilities: m.Capabilities, flags: int, options: CallOptions) -> Any:
        key = (kind, capabilities, flags, options)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                self._groups.clear()
            group = self._groups[key] = self._engine.tasks.group(
                kind=kind,
                capabilities=capabilities,
                flags=flags | m.TaskFlag.DETACHED,
                options=encode_record(options),
            )
        return group

    def follow(self, client: FutureSource, name: str, position: int) -> ScalerFuture:
        """Return a future of a task of a job."""
        self._operations.require_open()
        group = self._group(m.TaskKind.JOB_RESULT, (), 0, NO_OPTIONS._replace(detached=True, name=name))
        future = ScalerFuture(client)
        self._engine.tasks.submit(group, _RESULT_OF_JOB, position.to_bytes(8, "little"), (), future)
        return future

    # --- blocks

    def enter(self, client: JobClient, name: str) -> None:
        """From now on what this thread submits belongs to the job."""
        thread = threading.get_ident()
        if thread in self._blocks:
            raise ValueError(f"this thread submits to job {self._blocks[thread]!r} already: leave that block first")
        with self._blocks_lock:
            self._blocks[thread] = name
            client.submit_call = self.submit_here

    def leave(self, client: JobClient) -> None:
        """What this thread submits belongs to no job any more."""
        with self._blocks_lock:
            self._blocks.pop(threading.get_ident(), None)
            self._submit_as_before(client)

    def enter_async(self, client: JobClient, name: str) -> AsyncBlock:
        """From now on what this coroutine submits, and those that it starts, belongs to the job."""
        before = _block_here.get()
        if before is not None and before.jobs is self:
            raise ValueError(f"this coroutine submits to job {before.name!r} already: leave that block first")
        block = AsyncBlock(self, name)
        _block_here.set(block)
        with self._blocks_lock:
            self._async_blocks += 1
            client.submit_call = self.submit_here
        return block

    def leave_async(self, client: JobClient, block: AsyncBlock) -> None:
        """The block has ended, also for coroutines that it has started."""
        block.jobs = None
        with self._blocks_lock:
            self._async_blocks -= 1
            self._submit_as_before(client)

    def _submit_as_before(self, client: JobClient) -> None:
        if not self._blocks and not self._async_blocks:
            client.submit_call = self._operations.submit

    # --- questions

    def open(self, name: str, keep: float) -> None:
        """Make a job, or take up one of the same name."""
        told = self.ask("open", name, keep)[0]
        self._opened.add(name)
        if not told.get("persistent") and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the scheduler keeps job %r and others as long as it runs: with --storage-path or --storage-url "
                "they outlive its restart",
                name,
            )

    def ask(self, action: str, name: str = "", keep: float = 0.0) -> list[dict[str, Any]]:
        """Ask the scheduler. Raises JobError, JobNotFoundError, or DisconnectedError where no answer comes in time."""
        engine = self._engine
        self._operations.require_open()
        core = engine.core
        core.admission.require_usable()
        question = Question()
        request = m.JobRequest(core.take_number(), action, name, keep)
        engine.steps.do(partial(core.ask_job, question, request))
        engine.waiting.wait(
            question.sleepers,
            lambda: question.answer is not None or core.unusable is not None,
            engine.timeout_seconds,
        )
        reply = question.answer
        if reply is None:
            core.admission.require_usable()
            raise errors.DisconnectedError(f"the scheduler has not answered for {engine.timeout_seconds:g} s")
        if reply.error:
            raise (errors.JobNotFoundError if reply.kind == "unknown" else errors.JobError)(reply.error)
        found = json.loads(reply.json)
        if not isinstance(found, list):
            raise errors.JobError("the scheduler's answer about jobs cannot be read")
        return found

    def wait_sent(self) -> None:
        """Wait until all that was submitted to jobs has left. Raises what ended the session, if that comes first."""
        engine = self._engine
        while engine.ask(engine.tasks.waiting_detached):
            engine.core.admission.require_usable()
            engine.waiting.wait(Sleepers(), lambda: False, PAUSE_SECONDS)

    def settle(self) -> None:
        """Wait until the scheduler has all that was submitted. Raises as `ask`."""
        if self._opened:
            self.wait_sent()
            # Messages are taken in their order, so its answer says that the others were.
            self.ask("list")

    def settle_before_end(self) -> None:
        """As `settle`, where the client ends; what goes wrong is logged."""
        if self._engine.forked or self._engine.must_not_wait():
            return
        try:
            self.settle()
        except errors.ScalerError as error:
            logger.warning("the scheduler may not have all tasks of jobs that were submitted: %s", error)


def _settle_at_exit(own: weakref.ref[ClientJobs]) -> None:
    jobs = own()
    if jobs is not None and jobs.is_open:
        jobs.settle_before_end()


class Job:
    """A job by its name, as one client sees it. What it does, it asks the scheduler."""

    def __init__(self, client: JobClient, name: str) -> None:
        self._client = client
        self._jobs = client.operations.client_jobs()
        self.name = name

    def __repr__(self) -> str:
        return f"<Job {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # In a task it is the same job, seen by a client there.
        return type(self), (self._client, self.name)

    def _repr_html_(self) -> str:
        """For notebooks: what the scheduler says of it now, or why it says nothing."""
        return _shown_in_notebook(f"Job {self.name}", lambda: self.status()._repr_html_())

    def status(self) -> JobStatus:
        """Return what is known of the job. Raises JobNotFoundError, also a KeyError, if there is none of this name."""
        return status_of(self._jobs.ask("status", self.name)[0])

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> list[ScalerFuture[Any]]:
        """Submit `fn(*items)` for items of all iterables in step, each as a task of the job; return their futures at once.

        The results are kept in this order: `results` of a job that has nothing else are those of the map, in any program. Each
        item is a task of its own, without chunks. The shortest iterable ends it. `options` are those of `Client.submit_verbose`.
        """
        if not iterables:
            raise TypeError("map() needs at least one iterable")
        return self.starmap(fn, zip(*iterables, strict=False), capabilities=capabilities, **options)

    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        *,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> list[ScalerFuture[Any]]:
        """As `map`, with the arguments of each call as one item: `fn(*item)`."""
        asked = NO_OPTIONS._replace(detached=True, name=self.name).with_given(options, "map", ("capabilities",))
        if asked.name != self.name or not asked.detached:
            raise TypeError(f"map() of a job submits to that job, {self.name!r}, and takes no other name")
        allowed = checked_capabilities(capabilities)
        return [self._jobs.submit(self._client, asked, fn, tuple(item), {}, allowed) for item in iterable]

    def results(self, timeout: float | None = None, *, return_exceptions: bool = False) -> list[Any]:
        """Wait for all tasks that the job has now, and return their results in the order of submission.

        Raises what a task raised, or with `return_exceptions` has exceptions in place of results. Raises TimeoutError after
        `timeout` seconds, JobNotFoundError if there is no such job.
        """
        seconds = checked_timeout(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        found: list[Any] = []
        for some in self.portions(self.positions()):
            futures = self.follow(some)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                found += gathered(futures, left, return_exceptions)
            except BaseException:
                self._client.owner.cancel([future for future in futures if not future.done()], None)
                raise
        return found

    def futures(self) -> list[ScalerFuture[Any]]:
        """Return a future for each task that the job has now, in the order of submission.

        Cancelling one does not stop the task.
        """
        return self.follow(self.positions())

    def as_completed(self, timeout: float | None = None) -> Iterator[ScalerFuture[Any]]:
        """Return an iterator over futures of the job's tasks as these end. Raises as `results`, and not what tasks raise."""
        return completed_futures(self.futures(), timeout)

    def cancel(self) -> None:
        """Stop all tasks that have not ended. Their results are kept that have."""
        self._jobs.ask("cancel", self.name)

    def forget(self) -> None:
        """Stop what has not ended, and forget the job with all results."""
        self._jobs.ask("forget", self.name)

    def positions(self) -> list[int]:
        """Return where its tasks are, in the order of submission. For other modules of this package, as the next ones."""
        told = self._jobs.ask("status", self.name)[0]
        return list(told.get("order") or range(int(told["tasks"])))

    @staticmethod
    def portions(positions: list[int]) -> list[list[int]]:
        """Return so many at a time as may be followed at once."""
        return [positions[start : start + FOLLOWED_MAX] for start in range(0, len(positions), FOLLOWED_MAX)]

    def follow(self, positions: list[int]) -> list[ScalerFuture[Any]]:
        """Return futures of these tasks."""
        return [self._jobs.follow(self._client, self.name, position) for position in positions]


class Jobs(Mapping[str, Job]):
    """All jobs that this client may see, by name. Each question is asked of the scheduler anew."""

    def __init__(self, client: JobClient) -> None:
        self._client = client
        self._jobs = client.operations.client_jobs()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._client,)

    def __getitem__(self, name: str) -> Job:
        try:
            job_name(name)
        except (TypeError, ValueError):
            # No message can name it.
            raise errors.JobNotFoundError(f"there is no job {shown(name)}") from None
        job = Job(self._client, name)
        job.status()
        return job

    def __iter__(self) -> Iterator[str]:
        return iter([status.name for status in self.statuses()])

    def __len__(self) -> int:
        return len(self.statuses())

    def __repr__(self) -> str:
        return "<Jobs of a client>"

    def _repr_html_(self) -> str:
        """For notebooks: a table of all jobs, as the scheduler says now."""
        from scaler.client.notebook import rows_table

        heads = (
            "job",
            "tasks",
            "waiting",
            "running",
            "done",
            "failed",
            "canceled",
            "lost",
            "started",
            "forgotten",
            "owner",
        )

        def table() -> str:
            rows = [
                (
                    *(one.name, one.tasks, one.waiting, one.running, one.done, one.failed, one.canceled, one.lost),
                    *(_clock(one.started), "" if one.expires is None else _clock(one.expires), one.owner),
                )
                for one in self.statuses()
            ]
            return rows_table("Jobs", heads, rows)

        return _shown_in_notebook("Jobs", table)

    def statuses(self) -> list[JobStatus]:
        """Return what is known of each job, with one question."""
        return [status_of(told) for told in self._jobs.ask("list")]


class JobBlock:
    """See `Client.job`."""

    def __init__(self, client: JobClient, name: str, keep: Any) -> None:
        self._client = client
        self._jobs = client.operations.client_jobs()
        self._name = job_name(name)
        self._keep = keep_seconds(keep)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"a block of job {self._name!r} cannot be copied or sent: pass the client, and call job() there"
        )

    def __enter__(self) -> Job:
        self._jobs.enter(self._client, self._name)
        try:
            self._jobs.open(self._name, self._keep)
        except BaseException:
            self._jobs.leave(self._client)
            raise
        return Job(self._client, self._name)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        self._jobs.leave(self._client)
        if kind is not None:
            # Not all tasks were submitted: the job stays open for the others.
            return
        self._jobs.wait_sent()
        self._jobs.ask("close", self._name)


def status_of(told: Mapping[str, Any]) -> JobStatus:
    """Return what the scheduler has told of a job."""
    return JobStatus(
        told["name"],
        told["owner"],
        told["started"],
        told["waiting"],
        told["running"],
        told["done"],
        told["failed"],
        told["canceled"],
        told["lost"],
        told["tasks"],
        told["bytes"],
        told["closed"],
        told["keep"],
        told["expires"],
        told.get("notice", ""),
    )
