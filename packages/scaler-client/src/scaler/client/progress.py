"""Progress bars: of tqdm, which an extra brings, on terminals; as HTML in notebooks; nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

F = TypeVar("F", bound="Future[Any]")

REFRESH_SECONDS = 0.1


class ProgressBar:
    """A bar on stderr that counts items; use it as a context manager. Shows nothing where nobody looks, as in a file."""

    def __init__(self, total: int | None, description: str = "") -> None:
        """`total`: items to come, None where nobody knows. Raises ImportError that names the extra where tqdm is missing."""
        self._bar: Any
        if "ipykernel" in sys.modules:
            from scaler.client.notebook import NotebookBar

            self._bar = NotebookBar(total, description)
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError(
                "progress bars need tqdm, which is not installed: pip install 'scaler-client[progress]'"
            ) from None
        watched = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=description or None,
            unit=" items",
            dynamic_ncols=True,
            # Asked often and drawn seldom: one that waits for many further items would stand still before slow ones.
            miniters=1,
            mininterval=REFRESH_SECONDS / 2,
            disable=not watched,
        )

    def advance(self, items: int) -> None:
        """So many more items are done."""
        self._bar.update(items)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def progress(futures: Iterable[F]) -> list[F]:
    """Show a bar until all `futures` are done, and return them as a list.

    Failed and cancelled futures are done too: nothing is raised for them. Needs tqdm (`scaler-client[progress]`), and raises
    ImportError without it; TypeError for what is no future.
    """
    watched = list(futures)
    for future in watched:
        if not isinstance(future, Future):
            raise TypeError(f"progress() shows futures, not {type(future).__name__}")
    with ProgressBar(len(watched)) as bar:
        left = watched
        while left:
            _wait_a_moment(left)
            unfinished = [future for future in left if not future.done()]
            bar.advance(len(left) - len(unfinished))
            left = unfinished
    return watched


def _wait_a_moment(futures: list[F]) -> None:
    """Return when all are done, or after a moment. Waits for one after another: waiting for all at once costs each a lock."""
    ends = time.monotonic() + REFRESH_SECONDS
    for future in futures:
        if not future.done():
            remaining = ends - time.monotonic()
            if remaining <= 0:
                return
            wait((future,), remaining)
