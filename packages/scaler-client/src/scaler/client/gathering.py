"""Many futures at once: the futures as they end, or their results in place of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, as_completed, wait
from typing import Any, TypeVar

from scaler.client.future import ScalerFuture
from scaler.client.seconds import checked_timeout
from scaler.serialization.future_arguments import OPENED, SETS, parts_of
from scaler_protocol.payloads.expressions import OPEN, join_container, rebuild

T = TypeVar("T")


def checked_futures(futures: Iterable[Any], kind: type[T]) -> list[T]:
    """Return the futures as a list. Raises TypeError for what is no such future."""
    wanted = list(futures)
    for future in wanted:
        if not isinstance(future, kind):
            raise TypeError(f"futures of this client are wanted, each a {kind.__name__}, not a {type(future).__name__}")
    return wanted


def completed_futures(futures: Iterable[ScalerFuture], timeout: float | None) -> Iterator[Any]:
    """Return an iterator over the futures as they end."""
    return as_completed(checked_futures(futures, ScalerFuture), checked_timeout(timeout))


def gathered(value: Any, timeout: float | None, return_exceptions: bool) -> Any:
    """See `Client.gather`."""
    seconds = checked_timeout(timeout)
    value, futures = found_futures(value, ScalerFuture)
    if futures:
        with futures[0].client.owner.waiting.blocking():
            began = time.monotonic()
            _, left = wait(futures, seconds, ALL_COMPLETED if return_exceptions else FIRST_EXCEPTION)
            if not return_exceptions:
                for future in futures:
                    if future not in left and (future.failed or future.cancelled()):
                        future.result()
            if left:
                text = (
                    f"{len(left)} of {len(futures)} futures are not done after {round(time.monotonic() - began, 3):g} s"
                )
                raise TimeoutError(text)
    return with_results(value, ScalerFuture, _outcome_of if return_exceptions else ScalerFuture.result)


def _outcome_of(future: ScalerFuture) -> Any:
    try:
        return future.result()
    except BaseException as error:
        return error


def found_futures(value: Any, kind: type[T]) -> tuple[Any, list[T]]:
    """Return the value, where it is an iterator as a list, and the futures in it, each once."""
    if isinstance(value, Iterator):
        value = list(value)
    found: dict[T, None] = {}

    def note(one: Any) -> Any:
        if isinstance(one, kind):
            found[one] = None
        return OPEN if type(one) in OPENED else one

    rebuild(value, note, parts_of, _join)
    return value, list(found)


def with_results(value: Any, kind: type[T], result_of: Callable[[T], Any]) -> Any:
    """Return the value with results in place of the futures."""

    def result(one: Any) -> Any:
        if isinstance(one, kind):
            return result_of(one)
        return OPEN if type(one) in OPENED else one

    return rebuild(value, result, parts_of, _join)


def _join(original: Any, parts: Sequence[Any], values: list[Any]) -> Any:
    if type(original) not in SETS:
        return join_container(original, parts, values)
    if all(value is part for value, part in zip(values, parts, strict=True)):
        return original
    return type(original)(values)
