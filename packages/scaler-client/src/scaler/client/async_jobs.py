"""`AsyncClient.job` and `jobs`: as those of `Client`. Questions are asked in a thread; results are asyncio's futures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from scaler import errors
from scaler.client.async_many import all_or_none
from scaler.client.awaiting import in_thread
from scaler.client.jobs import AsyncBlock, Job, JobClient, Jobs, JobStatus, keep_seconds
from scaler.client.seconds import checked_timeout
from scaler_protocol.wire.call_options import job_name

if TYPE_CHECKING:
    from scaler.client.async_future import AsyncFuture
    from scaler.client.future import ScalerFuture

T = TypeVar("T")

MakeFuture = Callable[["ScalerFuture[Any]"], "AsyncFuture[Any]"]


class AsyncJob:
    """A job by its name, as one client sees it. As `Job`, with coroutines."""

    def __init__(self, job: Job, make_future: MakeFuture) -> None:
        self._job = job
        self._make_future = make_future
        self.name = job.name

    def __repr__(self) -> str:
        return f"<AsyncJob {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} cannot be copied or sent: pass its name, and ask a client there for the job")

    async def status(self) -> JobStatus:
        """Return what is known of the job. Raises JobNotFoundError, also a KeyError, if there is none of this name."""
        return await in_thread(self._job.status)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> list[AsyncFuture[Any]]:
        """Submit `fn(*items)` for items of all iterables in step, each as a task of the job, as `Job.map`."""
        tasks = self._job.map(fn, *iterables, capabilities=capabilities, **options)
        return [self._make_future(task) for task in tasks]

    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        *,
        capabilities: Mapping[str, int] | None = None,
        **options: Any,
    ) -> list[AsyncFuture[Any]]:
        """As `map`, with the arguments of each call as one item: `fn(*item)`."""
        tasks = self._job.starmap(fn, iterable, capabilities=capabilities, **options)
        return [self._make_future(task) for task in tasks]

    async def results(self, timeout: float | None = None, *, return_exceptions: bool = False) -> list[Any]:
        """Wait for all tasks that the job has now, and return their results in the order of submission, as `Job.results`."""
        seconds = checked_timeout(timeout)
        async with asyncio.timeout(seconds):
            positions = await in_thread(self._job.positions)
            found: list[Any] = []
            for some in self._job.portions(positions):
                futures = [self._make_future(task) for task in self._job.follow(some)]
                if return_exceptions:
                    found += await asyncio.gather(*futures, return_exceptions=True)
                else:
                    found += (await all_or_none(dict(enumerate(futures)))).values()
            return found

    async def futures(self) -> list[AsyncFuture[Any]]:
        """Return a future for each task that the job has now, in the order of submission.

        Cancelling one does not stop the task.
        """
        return [self._make_future(task) for task in self._job.follow(await in_thread(self._job.positions))]

    async def as_completed(self, timeout: float | None = None) -> AsyncIterator[AsyncFuture[Any]]:
        """Iterate over futures of the job's tasks as these end. Raises TimeoutError, and not what tasks raise."""
        loop = asyncio.get_running_loop()
        seconds = checked_timeout(timeout)
        deadline = None if seconds is None else loop.time() + seconds
        left = set(await self.futures())
        while left:
            remaining = None if deadline is None else max(0.0, deadline - loop.time())
            ended, left = await asyncio.wait(left, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            if not ended:
                raise TimeoutError(f"{len(left)} tasks of job {self.name!r} have not ended in time")
            for future in ended:
                yield future

    async def cancel(self) -> None:
        """Stop all tasks that have not ended. Their results are kept that have."""
        await in_thread(self._job.cancel)

    async def forget(self) -> None:
        """Stop what has not ended, and forget the job with all results."""
        await in_thread(self._job.forget)


class AsyncJobs:
    """All jobs that this client may see. Each question is asked of the scheduler anew."""

    def __init__(self, client: JobClient, make_future: MakeFuture) -> None:
        self._jobs = Jobs(client)
        self._make_future = make_future

    def __repr__(self) -> str:
        return "<AsyncJobs of a client>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} cannot be copied or sent: ask a client there for its jobs")

    async def get(self, name: str) -> AsyncJob:
        """Return the job of this name. Raises JobNotFoundError, also a KeyError, if there is none."""
        return AsyncJob(await in_thread(partial(self._jobs.__getitem__, name)), self._make_future)

    async def names(self) -> list[str]:
        """Return the names of all jobs."""
        return [status.name for status in await self.statuses()]

    async def statuses(self) -> list[JobStatus]:
        """Return what is known of each job, with one question."""
        return await in_thread(self._jobs.statuses)

    def __getitem__(self, name: str) -> AsyncJob:
        raise TypeError(f"the jobs of an AsyncClient are asked for with a coroutine: await client.jobs().get({name!r})")


class AsyncJobBlock:
    """See `AsyncClient.job`."""

    def __init__(
        self, client: JobClient, make_future: MakeFuture, name: str, keep: float | str | timedelta | None
    ) -> None:
        self._client = client
        self._make_future = make_future
        self._jobs = client.operations.client_jobs()
        self._name = job_name(name)
        self._keep = keep_seconds(keep)
        self._block: AsyncBlock | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"a block of job {self._name!r} cannot be copied or sent: call job() of a client there")

    async def __aenter__(self) -> AsyncJob:
        if self._block is not None:
            raise errors.JobError(f"this block of job {self._name!r} has begun already: call job() for each block")
        # In this coroutine, whose context it changes.
        block = self._block = self._jobs.enter_async(self._client, self._name)
        try:
            await in_thread(partial(self._jobs.open, self._name, self._keep))
        except BaseException:
            self._leave(block)
            raise
        return AsyncJob(Job(self._client, self._name), self._make_future)

    async def __aexit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        block = self._block
        assert block is not None
        self._leave(block)
        if kind is not None:
            # Not all tasks were submitted: the job stays open for the others.
            return
        await in_thread(self._settle)

    def _leave(self, block: AsyncBlock) -> None:
        self._block = None
        self._jobs.leave_async(self._client, block)

    def _settle(self) -> None:
        self._jobs.wait_sent()
        self._jobs.ask("close", self._name)
