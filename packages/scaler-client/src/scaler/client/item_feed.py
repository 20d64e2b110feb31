"""Items of asynchronous iterables for a map, which takes them without waiting. For `AsyncClient.imap`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from typing import Any


def is_asynchronous(iterable: Any) -> bool:
    """Whether it can be iterated over with `async for` alone."""
    return isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable)


class ItemFeed:
    """An iterator over the items that are here. It ends wherever there are none now, and goes on when some have come.

    An asyncio task of its own takes them from the iterables, as many as are wanted: one iterable alone, or several as `zip` does.
    """

    def __init__(self, iterables: Sequence[Iterable[Any] | AsyncIterable[Any]]) -> None:
        """Raises TypeError for what cannot be iterated over."""
        self._sources: list[tuple[bool, Any]] = [
            (True, aiter(one)) if is_asynchronous(one) else (False, iter(one))  # type: ignore[arg-type]
            for one in iterables
        ]
        """Iterators, and whether they are asynchronous ones."""
        self._here: deque[Any] = deque()
        self._wanted = 0
        self._is_wanted = asyncio.Event()
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self.has_ended = False
        """Whether no more items come, beside those that are here."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._here:
            return self._here.popleft()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def want(self, items: int, on_change: Callable[[], object]) -> None:
        """Have so many items here, no more. `on_change` is called when some come, and at their end."""
        self._wanted = items
        if len(self._here) >= items or self.has_ended:
            return
        self._is_wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._take(on_change))

    async def close(self) -> None:
        """Take no more, and end what waits for an item."""
        self._is_closed = True
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _take(self, on_change: Callable[[], object]) -> None:
        single = len(self._sources) == 1
        try:
            while True:
                while len(self._here) >= self._wanted:
                    self._is_wanted.clear()
                    await self._is_wanted.wait()
                item = await self._next()
                self._here.append(item[0] if single else item)
                on_change()
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError as error:
            if self._is_closed:
                raise
            # Not this task was cancelled, but something that an iterable waits for.
            self._error = error
        except (KeyboardInterrupt, SystemExit):
            # The event loop ends with it.
            raise
        except BaseException as error:
            self._error = error
        finally:
            self.has_ended = True
            on_change()

    async def _next(self) -> tuple[Any, ...]:
        """Return an item of each source. Raises StopAsyncIteration at the end of the first that ends."""
        items = []
        for is_asynchronous, source in self._sources:
            if is_asynchronous:
                items.append(await anext(source))
            else:
                try:
                    items.append(next(source))
                except StopIteration:
                    raise StopAsyncIteration from None
        return tuple(items)
