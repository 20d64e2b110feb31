"""Maps and many futures, as coroutines wait for them. Imported with the first `AsyncClient`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from scaler.client.async_future import AsyncFuture, LoopEvent
from scaler.client.checks import checked_buffersize, checked_switch
from scaler.client.client import Client
from scaler.client.gathering import found_futures, with_results
from scaler.client.item_feed import ItemFeed, is_asynchronous
from scaler.client.map_run import NOTHING_COMPLETED_SECONDS, MapRun
from scaler.client.mapped_items import MappedItems, called_items
from scaler.client.seconds import checked_timeout
from scaler.client.worker_run import WorkerRun

CHUNKS_PER_TURN = 4
"""So many chunks of a map are sent before the event loop does other things."""


async def run_map(run: MapRun, timeout: float | None) -> list[Any]:
    """See `AsyncClient.map`."""
    seconds = checked_timeout(timeout)
    changed = _changes_of(run)
    try:
        async with asyncio.timeout(seconds):
            while not run.advance(CHUNKS_PER_TURN):
                await _pause(run, changed)
        return run.results()
    except BaseException as error:
        run.cancel_rest()
        if isinstance(error, TimeoutError) and isinstance(error.__cause__, asyncio.CancelledError):
            raise TimeoutError(f"the map is not done after {seconds:g} s") from None
        raise


def lazy_map(
    make_run: Callable[[MappedItems], MapRun],
    iterables: Sequence[Iterable[Any] | AsyncIterable[Any]],
    buffersize: int | None,
) -> AsyncGenerator[Any]:
    """See `AsyncClient.imap`."""
    size = checked_buffersize(buffersize)
    if not any(map(is_asynchronous, iterables)):
        return _iterate(make_run(called_items("imap", cast(Any, iterables))), size, None)
    feed = ItemFeed(iterables)
    return _iterate(make_run(MappedItems(feed, len(iterables) > 1, None)), size, feed)


async def _iterate(run: MapRun, buffersize: int | None, feed: ItemFeed | None) -> AsyncGenerator[Any]:
    run.be_lazy(buffersize, None if feed is None else lambda: not feed.has_ended)
    changed = _changes_of(run)
    try:
        while True:
            finished = run.advance(CHUNKS_PER_TURN)
            run.was_awaited = False
            if feed is not None and not finished:
                feed.want(run.wanted(), changed.set)
            outcome = run.take_outcome()
            if outcome is not None:
                # Taken out one by one, so that nothing here refers to what was yielded.
                outcome.values.reverse()
                while outcome.values:
                    yield outcome.values.pop()
            elif finished:
                run.raise_failure()
                return
            else:
                await _pause(run, changed)
                run.was_awaited = not run.wants_turn
    finally:
        run.cancel_rest()
        if feed is not None:
            await feed.close()


def _changes_of(run: MapRun) -> LoopEvent:
    changed = LoopEvent(asyncio.get_running_loop())
    run.on_change = changed.set
    return changed


async def _pause(run: MapRun, changed: LoopEvent) -> None:
    """Let the event loop do other things, where there is nothing to send until a chunk has ended."""
    if run.wants_turn:
        await asyncio.sleep(0)
        return
    await changed.wait(NOTHING_COMPLETED_SECONDS)
    if not run.has_news:
        run.on_nothing_ended()


async def completed_futures(futures: Sequence[AsyncFuture], timeout: float | None) -> AsyncIterator[AsyncFuture]:
    """See `AsyncClient.as_completed`."""
    seconds = checked_timeout(timeout)
    end = None if seconds is None else time.monotonic() + seconds
    left = dict.fromkeys(futures)
    ended: deque[asyncio.Future[Any]] = deque()
    event = asyncio.Event()

    def note(future: asyncio.Future[Any]) -> None:
        ended.append(future)
        event.set()

    for future in left:
        if future.done():
            ended.append(future)
        else:
            future.add_done_callback(note)
    try:
        while left:
            if not ended:
                event.clear()
                try:
                    async with asyncio.timeout(None if end is None else end - time.monotonic()):
                        await event.wait()
                except TimeoutError:
                    text = f"{len(left)} futures are not done after {seconds:g} s"
                    raise TimeoutError(text) from None
            one = ended.popleft()
            assert isinstance(one, AsyncFuture)
            del left[one]
            yield one
    finally:
        for future in left:
            future.remove_done_callback(note)


async def gathered(value: Any, timeout: float | None, return_exceptions: bool) -> Any:
    """See `AsyncClient.gather`."""
    seconds = checked_timeout(timeout)
    value, futures = found_futures(value, AsyncFuture)
    if futures:
        when = asyncio.ALL_COMPLETED if return_exceptions else asyncio.FIRST_EXCEPTION
        try:
            _, left = await asyncio.wait(futures, timeout=seconds, return_when=when)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        if not return_exceptions:
            for future in futures:
                if future.done():
                    future.result()
        if left:
            raise TimeoutError(f"{len(left)} of {len(futures)} futures are not done after {seconds:g} s")
    return with_results(value, AsyncFuture, _outcome_of if return_exceptions else AsyncFuture.result)


async def all_or_none(futures: Mapping[Any, AsyncFuture]) -> dict[Any, Any]:
    """Return the results. Raises what a future raises, as soon as one fails; the others are cancelled then."""
    try:
        return dict(zip(futures, await gathered(list(futures.values()), None, False), strict=True))
    except BaseException:
        for future in futures.values():
            future.cancel()
        raise


def _outcome_of(future: AsyncFuture) -> Any:
    try:
        return future.result()
    except BaseException as error:
        return error


def with_tasks(value: Any) -> tuple[Any, bool]:
    """Return `value` with the plain futures of asyncio's futures in place of these, and whether there are any."""
    value, futures = found_futures(value, AsyncFuture)
    return (with_results(value, AsyncFuture, _task_of), True) if futures else (value, False)


def _task_of(future: AsyncFuture) -> Any:
    return future.task


def plain(items: MappedItems) -> MappedItems:
    """Return the items of a map with plain futures in place of those that are asyncio's."""
    return items._replace(items=map(_plain_tuple if items.star else _plain, items.items))


def _plain(item: Any) -> Any:
    return item.task if type(item) is AsyncFuture else item


def _plain_tuple(item: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(map(_plain, item))


async def run_everywhere(
    client: Client, fn: Callable[..., Any], args: Any, kwargs: Any, timeout: float, return_exceptions: bool
) -> dict[str, Any]:
    """See `AsyncClient.run_verbose`. Cancelled, it cancels the calls."""
    return_exceptions = checked_switch("return_exceptions", return_exceptions)
    (positional, keyword), _ = with_tasks((tuple(args), dict(kwargs or {})))
    loop = asyncio.get_running_loop()
    options = client.options_of("run_verbose", {})
    begin_run = client.operations.begin_run
    beginning = loop.run_in_executor(None, partial(begin_run, client.source, fn, positional, keyword, timeout, options))
    try:
        run = await asyncio.shield(beginning)
    except asyncio.CancelledError:
        beginning.add_done_callback(_cancel_begun)
        raise
    changed = LoopEvent(loop)
    for future in run.futures.values():
        future.add_done_callback(lambda _: changed.set())
    try:
        while (remaining := run.remaining()) > 0 and not all(future.done() for future in run.futures.values()):
            await changed.wait(remaining)
    except BaseException:
        run.cancel_rest()
        raise
    return await loop.run_in_executor(None, run.outcomes, return_exceptions)


def _cancel_begun(beginning: asyncio.Future[WorkerRun]) -> None:
    """Nobody waits any more for calls that were being submitted."""
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().cancel_rest()
