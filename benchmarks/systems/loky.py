"""joblib with its loky executor: single tasks through loky, maps and shared arrays through `joblib.Parallel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.system import Cluster, System


class _Loky(Cluster):
    def __init__(self, workers: int) -> None:
        import joblib
        import loky

        self._executor = loky.get_reusable_executor(max_workers=workers, timeout=None)
        self._delayed = joblib.delayed
        self._parallel = joblib.Parallel(n_jobs=workers)

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return self._executor.submit(function, *arguments, **keywords)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return [future.result() for future in handles]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self._parallel(self._delayed(function)(item) for item in items))

    def read_shared(self, function: Callable[[Any, int], Any], value: Any, count: int) -> list[Any]:
        return list(self._parallel(self._delayed(function)(value, index) for index in range(count)))

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self._executor.shutdown(kill_workers=True)
        # joblib brings a loky of its own, whose workers are others.
        get_reusable_executor().shutdown(kill_workers=True)


class Loky(System):
    name = "loky"
    title = "joblib / loky"
    requirements = ("joblib", "loky")
    distributions = ("joblib", "loky")
    remarks = "one machine only; maps in automatic batches"

    def load(self) -> None:
        import joblib  # noqa: F401
        import loky  # noqa: F401

    def start(self, workers: int) -> Cluster:
        return _Loky(workers)


SYSTEM = Loky()
